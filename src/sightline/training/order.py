"""The order in which a run sees its images."""

import numpy as np
from numpy.typing import NDArray

from sightline.data.order import TrainingOrder
from sightline.data.table import ImageTable
from sightline.recipe import Recipe
from sightline.training.labels import balance


def training_order(recipe: Recipe, table: ImageTable, places: NDArray[np.int64]) -> TrainingOrder:
    """The batches of a run on the table's images at `places`."""
    return TrainingOrder(
        places,
        recipe.batch_size,
        recipe.seed,
        recipe.epochs,
        balance=balance(recipe.data, table, places),
        repeats=recipe.data.repeats,
    )
