"""Batches of 128 at once, and gathered from four of 32: the same result, and how much less memory?

Accumulation gives the gradient of the large batch, but batch norm sees the small ones: with group norm the two agree
but for rounding, with batch norm they can't.
"""

from sightline.recipes.cifar10_16 import ENTRY as RECIPE
from sightline.studies import Factor, Level, Study

ENTRY = Study(
    question="Is a batch gathered by accumulation as good as a batch at once, and what does it save?",
    recipe=RECIPE,
    factors=(
        Factor(
            name="batch",
            levels=(
                Level(label="128", settings=("batch_size=128",)),
                Level(label="4 x 32", settings=("batch_size=32", "optim.accumulate=4")),
            ),
        ),
        Factor(
            name="norm",
            levels=(
                Level(label="batch norm", settings=()),
                Level(label="group norm", settings=("model.norm=group",)),
            ),
        ),
    ),
)
