"""Progressive resizing: small images at first, which are fast to train on, growing to their full size.

Source: EfficientNetV2: Smaller Models and Faster Training (Tan and Le, ICML 2021), section 4, without
its growing regularisation.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sightline.augmentations import Batch, within
from sightline.operations import centre_window
from sightline.randomness import Draws


@dataclass(frozen=True, kw_only=True)
class ResizeProgressively:
    """Shrink training images in the first epochs; evaluation always sees data.image_size."""

    start: int = 128
    """Side in the first epoch, in pixels; less than data.image_size."""
    epochs: int = 10
    """Epochs in which images grow; from then on they have data.image_size."""
    step: int = 8
    """Sizes on the way are `start` and multiples of it more, in pixels."""

    def __post_init__(self) -> None:
        within("augment.resize_progressively.start", self.start, 1, 4096)
        within("augment.resize_progressively.epochs", self.epochs, 1, 10_000)
        within("augment.resize_progressively.step", self.step, 1, 4096)

    def size(self, epoch: int, image_size: int) -> int:
        """The side in an epoch (from 0), in pixels: growing evenly, in whole steps."""
        if epoch >= self.epochs:
            return image_size
        return self.start + (image_size - self.start) * epoch // self.epochs // self.step * self.step

    def sizes(self, image_size: int) -> Sequence[int]:
        """Every side but the last, ascending."""
        return sorted({self.size(epoch, image_size) for epoch in range(self.epochs)})

    def __call__(self, batch: Batch, draws: Draws, image_size: int) -> Batch:
        """Images (B, 3, H, W) -> (B, 3, size, size), from the central window, antialiased. Targets stay."""
        from torchvision.transforms.v2 import functional

        size = self.size(draws.epoch, image_size)
        images = centre_window(batch.images, image_size)
        if size == image_size:
            return replace(batch, images=images)
        return replace(batch, images=functional.resize(images, [size, size], antialias=True))


ENTRY = ResizeProgressively
