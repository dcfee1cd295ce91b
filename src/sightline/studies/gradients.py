"""Why deep plain networks of sigmoids didn't learn: the gradient's way through 32 layers, with and without batch norm.

Understanding the difficulty of training deep feedforward neural networks (Glorot and Bengio, 2010), section 3;
Batch Normalization (Ioffe and Szegedy, 2015). No residual connections, so that nothing else carries the gradient.
"""

from dataclasses import replace

from sightline.recipes.cifar10_16 import ENTRY as RECIPE
from sightline.studies import Factor, Level, Study

ENTRY = Study(
    question="How do ReLU and sigmoid pass the gradient through a plain network of 32 layers?",
    recipe=replace(
        RECIPE,
        epochs=3,
        model=replace(RECIPE.model, name="plain32"),
        # A tenth of the residual network's rate, and short gradients: without batch norm it diverges otherwise.
        optim=replace(RECIPE.optim, lr=0.01, clip_norm=1.0),
        train=replace(RECIPE.train, watch_gradients=True, precision="float32"),
    ),
    factors=(
        Factor(
            name="activation",
            levels=tuple(Level(label=name, settings=(f"model.activation={name}",)) for name in ("relu", "sigmoid")),
        ),
        Factor(
            name="norm",
            levels=(
                Level(label="batch norm", settings=()),
                Level(label="no norm", settings=("model.norm=none",)),
            ),
        ),
    ),
)
