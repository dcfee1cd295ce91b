"""Checks of the list of augmentations against each other and against the rest of a recipe."""

from collections import Counter
from collections.abc import Sequence

from sightline.augmentations import Augmentation, augmentation_name
from sightline.augmentations.crop import Crop
from sightline.augmentations.random_resized_crop import RandomResizedCrop
from sightline.augmentations.resize_progressively import ResizeProgressively
from sightline.errors import RecipeError
from sightline.recipe.data import DataConfig


def check_augment(augment: Sequence[Augmentation], data: DataConfig, *, epochs: int, batch_size: int) -> None:
    """Raise RecipeError for what each setting alone would allow and together can't be."""
    names = [augmentation_name(entry) for entry in augment]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise RecipeError(f"augment names {twice[0]!r} twice, which would draw the same numbers twice. Name it once.")
    if batch_size % data.repeats:
        raise RecipeError(
            f"batch_size ({batch_size}) must be a multiple of data.repeats ({data.repeats}): "
            "a batch holds each of its images that often."
        )
    if data.repeats > 1 and not augment:
        raise RecipeError(
            f"data.repeats ({data.repeats}) would put the same pixels into a batch several times, "
            "for augment is empty. Name augmentations, or set data.repeats=1."
        )
    for place, entry in enumerate(augment):
        if isinstance(entry, ResizeProgressively):
            _check_growth(entry, augment[place + 1 :], data.image_size, epochs)


def _check_growth(growth: ResizeProgressively, later: Sequence[Augmentation], image_size: int, epochs: int) -> None:
    name = "augment.resize_progressively"
    if growth.start >= image_size:
        raise RecipeError(f"{name}.start ({growth.start}) must be less than data.image_size ({image_size}).")
    if growth.epochs >= epochs:
        raise RecipeError(
            f"{name}.epochs ({growth.epochs}) must be less than epochs ({epochs}): "
            "the run would end before its images have their full size."
        )
    crop = next((entry for entry in later if isinstance(entry, Crop | RandomResizedCrop)), None)
    if crop is not None:
        raise RecipeError(
            f"augment: resize_progressively stands before {augmentation_name(crop)}, which would undo it. Put it after."
        )


def at_full_size(augment: Sequence[Augmentation]) -> tuple[Augmentation, ...]:
    """The list without progressive resizing, for a run too short to grow in."""
    return tuple(entry for entry in augment if not isinstance(entry, ResizeProgressively))
