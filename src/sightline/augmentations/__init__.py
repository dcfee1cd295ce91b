"""Augmentations: one file a method, applied to whole batches on the batch's device.

An entry is a frozen dataclass whose fields are its settings. It draws from `Draws` alone, so an image's
augmentation depends on the seed, the epoch and the image, never on its neighbours or on history.
"""

from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

from torch import Tensor

from sightline import catalog
from sightline.errors import RecipeError, unknown_name
from sightline.randomness import Draws


@dataclass(frozen=True, slots=True)
class Batch:
    """Images on their way into a network."""

    images: Tensor
    """(B, 3, H, W) uint8, or float32 on the scale 0 to 255; not normalised yet."""
    targets: Tensor
    """(B, K) float32 whose rows sum to 1."""
    samples: Tensor
    """(B,) int64: each image's number in the data set, on the CPU."""


@runtime_checkable
class Augmentation(Protocol):
    """The contract: images (B, 3, H, W) may change their H and W, targets (B, K) still sum to 1."""

    def __call__(self, batch: Batch, draws: Draws, image_size: int) -> Batch:
        """The augmented batch. `image_size` is the side the network sees, in pixels."""
        ...


def augmentation_class(name: str) -> type[Augmentation]:
    """The dataclass of that name. Raises RecipeError with the nearest name when there is none."""
    known = catalog.names(__name__)
    if name not in known:
        raise RecipeError(unknown_name("augmentation", name, known, listing="`sightline recipes --explain`"))
    return cast(type[Augmentation], catalog.entry(__name__, name))


def augmentation_name(augmentation: Augmentation) -> str:
    """The name that `augmentation_class` takes for it: the file it is defined in."""
    return type(augmentation).__module__.rpartition(".")[2]
