"""Why residual connections: plain and residual networks of 20 and 56 layers.

Deep Residual Learning (He et al., 2016), section 4.2 and figure 6: the deeper plain network trains worse, the
deeper residual one better.
"""

from sightline.recipes.cifar10_16 import ENTRY as RECIPE
from sightline.studies import Factor, Level, Study

ENTRY = Study(
    question="Does a deeper network learn better, with and without residual connections?",
    recipe=RECIPE,
    factors=(
        Factor(
            name="network",
            levels=tuple(
                Level(label=name, settings=(f"model.name={name}",))
                for name in ("resnet20", "resnet56", "plain20", "plain56")
            ),
        ),
    ),
)
