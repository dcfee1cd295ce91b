"""Horizontal flip: every second image, mirrored.

Source of the alternating one: 94% on CIFAR-10 in 3.29 Seconds on a Single GPU (Jordan, 2024), section 3.6.
"""

from dataclasses import dataclass, replace

from torch import Tensor

from sightline.augmentations import Batch
from sightline.errors import RecipeError
from sightline.operations import windows
from sightline.operations.one_by_one import Change, Size
from sightline.operations.resize import Mirror
from sightline.randomness import Draws


@dataclass(frozen=True, kw_only=True)
class Flip:
    """Mirror images left to right."""

    probability: float = 0.5
    """How often an image is mirrored, 0 to 1."""
    alternate: bool = False
    """Mirror each image in every second epoch, from the first or the second on as chance has it: never twice running
    the same view, which teaches more in few epochs."""

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise RecipeError(f"augment.flip.probability must be 0 to 1, got {self.probability}.")
        if self.alternate and self.probability != 0.5:
            raise RecipeError(
                f"augment.flip.alternate mirrors every second time, and augment.flip.probability ({self.probability}) "
                "would be ignored. Remove one of them."
            )

    def __call__(self, batch: Batch, draws: Draws, image_size: int) -> Batch:
        """Shapes stay: images (B, 3, H, W), targets (B, K)."""
        return replace(batch, images=windows.mirror(batch.images, self._mirrored(draws)))

    def change(self, draws: Draws, size: Size, image_size: int) -> tuple[Change, Size]:
        """One image (1, 3, H, W), and its place -> the same shape."""
        return Mirror(self._mirrored(draws)), size

    def _mirrored(self, draws: Draws) -> Tensor:
        """(B,) bool."""
        first = replace(draws, epoch=0) if self.alternate else draws
        mirrored = first.uniform("flip")[:, 0] < self.probability
        return ~mirrored if self.alternate and draws.epoch % 2 else mirrored


ENTRY = Flip
