"""Four optimisers, one of them at two learning rates: a comparison at one rate is partly one of rates.

The rates are about those of each method's paper or of its users; none was tuned here.
"""

from sightline.recipes.cifar10_16 import ENTRY as RECIPE
from sightline.studies import Factor, Level, Study


def _level(name: str, lr: float, *settings: str) -> Level:
    chosen = (f"optim.name={name}", f"optim.lr={lr}", "optim.momentum=null", *settings)
    return Level(label=f"{name} {lr:g}", settings=chosen)


ENTRY = Study(
    question="Which optimiser learns fastest, and how much does its learning rate matter?",
    recipe=RECIPE,
    factors=(
        Factor(
            name="optimiser",
            levels=(
                _level("sgd", 0.1),
                _level("adamw", 3e-3, "optim.weight_decay=0.05"),
                _level("adamw", 1e-3, "optim.weight_decay=0.05"),
                _level("lion", 3e-4, "optim.weight_decay=0.5"),
                _level("muon", 1e-2, "optim.weight_decay=0.05"),
            ),
        ),
    ),
)
