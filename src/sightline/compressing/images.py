"""The images that compression tunes, calibrates and judges on: the model's own, or others with a split like its own."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sightline.data.audit import fingerprint
from sightline.data.fewer import fewer_to_train, rarest_labels
from sightline.data.inspection import inspect
from sightline.data.prepare import REPLACE, prepare
from sightline.data.split import Splits
from sightline.data.table import ImageTable, Split
from sightline.errors import DataError
from sightline.evaluation import check_classes, stored_split
from sightline.model_folder import ModelFolder
from sightline.preprocess import Preprocess
from sightline.recipe import DataConfig, ModelConfig, Recipe
from sightline.recipe_text import from_yaml, override

_LEAVE_OUT = "Remove or replace {them}, or pass --set data.on_unreadable=leave_out where a step trains."


@dataclass(frozen=True, eq=False)
class Images:
    """Images in three splits, where they lie, and the recipe that a run on them would have."""

    location: str
    table: ImageTable
    splits: Splits
    recipe: Recipe = field(default_factory=Recipe)
    """The model's own, or one that has its architecture and preprocessing alone where it keeps none."""
    own: bool = False
    """Whether they are those that the model was trained with."""
    fingerprint: str = ""
    """Of all of them."""

    def sample(self, limit: int) -> NDArray[np.int64]:
        """Places of at most `limit` training images, every class with its share. Raises DataError without any."""
        if len(self.splits.train) == 0:
            raise DataError(
                f"{self.location!r} has no training images, which compression calibrates on. Name data that has."
            )
        labels = rarest_labels(self.table)
        least = len({labels[place] for place in self.splits.train.tolist()})
        return fewer_to_train(self.splits, labels, max(limit, least), self.recipe.seed).train

    def places(self, split: Split) -> NDArray[np.int64]:
        """Where the images of a split stand. Raises DataError for an empty one."""
        places = self.splits.named()[split]
        if len(places) == 0:
            raise DataError(f"{self.location!r} has no {split} images, which compression is judged on.")
        return places

    def check_undivided(self) -> None:
        """Raise DataError where there are others than the model was trained with: training would divide them anew."""
        if self.fingerprint not in ("", fingerprint(self.table, inspect(self.table))):
            raise DataError(
                f"{self.location!r} holds other images than the model was trained with, and a step that trains would "
                "divide them anew, and learn from some that it is judged on. Put them back, train the model anew, or "
                "name the data, of which all are divided for every step."
            )


def find_images(folder: ModelFolder, data: str | Path | None, settings: Sequence[str] | None = None) -> Images:
    """The model's own images as it was trained on them, or those of `data`, split by the model's recipe.

    Of the user's `settings`, None where there can be none, the one on unreadable images is followed.

    Raises DataError when they have moved, changed, can't be read, or have a class that the model doesn't know.
    """
    recipe = recipe_of(folder)
    if data is not None:
        given = [text for text in settings or () if text.partition("=")[0].strip() == "data.on_unreadable"]
        recipe = override(recipe, given)
        advice = REPLACE if settings is None else _LEAVE_OUT
        prepared = prepare(data, recipe.data, recipe.seed, advice=advice)
        check_classes(prepared.table, folder)
        return Images(str(data), prepared.table, prepared.splits, recipe, fingerprint=prepared.fingerprint)
    table, train = stored_split(folder, "train")
    _, val = stored_split(folder, "val")
    _, test = stored_split(folder, "test")
    fingerprint = str(folder.spec.provenance.data.get("fingerprint", ""))
    return Images(table.source.location, table, Splits(train, val, test), recipe, own=True, fingerprint=fingerprint)


def recipe_of(folder: ModelFolder) -> Recipe:
    """The recipe a model was trained by; of one that keeps none, whatever its folder says of it."""
    file = folder.path / "recipe.yaml"
    if file.exists():
        return from_yaml(file.read_text(encoding="utf-8"))
    architecture, own = folder.spec.architecture, folder.spec.preprocess
    separator = folder.spec.provenance.data.get("label_separator")
    return Recipe(
        model=ModelConfig(name=architecture.name, activation=architecture.activation),
        data=replace(data_config(own), label_separator=separator if folder.spec.multi_label else None),
    )


def data_config(preprocess: Preprocess) -> DataConfig:
    """The settings of the images that describe this preprocessing."""
    return DataConfig(
        image_size=preprocess.image_size,
        resize=preprocess.resize,
        interpolation=preprocess.interpolation,
        mean=preprocess.mean,
        std=preprocess.std,
    )
