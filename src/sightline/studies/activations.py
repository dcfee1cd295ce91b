"""The activation in every place of a residual network of 20 layers."""

from sightline.recipes.cifar10_16 import ENTRY as RECIPE
from sightline.studies import Factor, Level, Study

ENTRY = Study(
    question="Which activation learns best in a ResNet-20?",
    recipe=RECIPE,
    factors=(
        Factor(
            name="model.activation",
            levels=tuple(
                Level(label=name, settings=(f"model.activation={name}",))
                for name in ("relu", "gelu", "silu", "tanh", "sigmoid")
            ),
        ),
    ),
)
