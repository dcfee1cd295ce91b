"""Augmentations: one file a method, applied to whole batches on the batch's device.

An entry is a frozen dataclass whose fields are its settings. It draws from `Draws` alone, so an image's
augmentation depends on the seed, the epoch and the image, never on its neighbours or on history.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Protocol, cast, runtime_checkable

from torch import Tensor

from sightline import catalog
from sightline.errors import RecipeError, unknown_name
from sightline.operations import centre_window
from sightline.operations.one_by_one import Change, Size, one_by_one
from sightline.randomness import Draws

LARGE_PIXELS = 128 * 128
"""Of an image that is changed faster by itself than with its batch; measured on a CPU (docs/log.md)."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Images on their way into a network."""

    images: Tensor
    """(B, 3, H, W) uint8, or float32 on the scale 0 to 255; not normalised yet."""
    targets: Tensor
    """(B, K) float32, 0 to 1: rows sum to 1 where an image has one label, and have any sum where it has several."""
    samples: Tensor
    """(B,) int64: each image's number in the data set, on the CPU."""


@runtime_checkable
class Augmentation(Protocol):
    """The contract: images (B, 3, H, W) may change their H and W, targets (B, K) still sum to 1."""

    def __call__(self, batch: Batch, draws: Draws, image_size: int) -> Batch:
        """The augmented batch. `image_size` is the side the network sees, in pixels."""
        ...


@runtime_checkable
class Single(Protocol):
    """What an augmentation has beside its call where it changes each image by itself, and no target."""

    def change(self, draws: Draws, size: Size, image_size: int) -> tuple[Change, Size]:
        """The same change of a single image of that size, and the size that it gives."""
        ...


class Mixing:
    """Marks the augmentations whose result depends on the other images of the batch too."""


def augment(batch: Batch, augmentations: Sequence[Augmentation], draws: Draws, image_size: int) -> Batch:
    """What a network trains on: canvases (B, 3, H, W) after every augmentation, in this order.

    Images that are still larger than `image_size` are cut to the window that evaluation sees. They are (B, 3,
    image_size, image_size) then, or smaller where an augmentation makes them so.
    """
    first = list(takewhile(lambda each: isinstance(each, Single), augmentations)) if _large(batch.images) else []
    if first:
        batch = change_singly(batch, cast(list[Single], first), draws, image_size)
    for augmentation in augmentations[len(first) :]:
        batch = augmentation(batch, draws, image_size)
    return replace(batch, images=centre_window(batch.images, image_size))


def change_singly(batch: Batch, augmentations: Sequence[Single], draws: Draws, image_size: int) -> Batch:
    """The batch after these augmentations, image by image."""
    height, width = batch.images.shape[2:]
    size, changes = (height, width), list[Change]()
    for augmentation in augmentations:
        change, size = augmentation.change(draws, size, image_size)
        changes.append(change)
    return replace(batch, images=one_by_one(batch.images, changes, size))


def _large(images: Tensor) -> bool:
    """On the CPU, the channel innermost as loaded batches have it."""
    height, width = images.shape[2:]
    return images.device.type == "cpu" and images.stride(1) == 1 and height * width >= LARGE_PIXELS


def within(name: str, value: float, low: float, high: float) -> None:
    """Raise RecipeError, by the setting's dotted name, unless the value is `low` to `high`."""
    if not low <= value <= high:
        raise RecipeError(f"{name} must be {low:g} to {high:g}, got {value:g}.")


def ordered(name: str, values: tuple[float, float], low: float, high: float) -> None:
    """Raise RecipeError unless the two values are `low` to `high`, the smaller first."""
    if not low <= values[0] <= values[1] <= high:
        raise RecipeError(f"{name} must be two values from {low:g} to {high:g}, the smaller first, got {list(values)}.")


def augmentation_class(name: str) -> type[Augmentation]:
    """The dataclass of that name. Raises RecipeError with the nearest name when there is none."""
    known = catalog.names(__name__)
    if name not in known:
        raise RecipeError(unknown_name("augmentation", name, known, listing="`sightline recipes --explain`"))
    return cast(type[Augmentation], catalog.entry(__name__, name))


def augmentation_name(augmentation: Augmentation) -> str:
    """The name that `augmentation_class` takes for it: the file it is defined in."""
    return type(augmentation).__module__.rpartition(".")[2]
