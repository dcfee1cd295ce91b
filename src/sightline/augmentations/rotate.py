"""Rotation: each image by an angle of its own, about its centre."""

from dataclasses import dataclass, replace

from torch import Tensor

from sightline.augmentations import Batch, within
from sightline.operations.warp import PaddingMode, rotation, warp
from sightline.randomness import Draws


@dataclass(frozen=True, kw_only=True)
class Rotate:
    """Turn images by an angle between -degrees and degrees."""

    degrees: float = 15.0
    """Largest angle to either side, 0 to 180."""
    padding_mode: PaddingMode = "zeros"
    """Beyond the border: zeros (black), border (its colour) or reflection (the image mirrored)."""

    def __post_init__(self) -> None:
        within("augment.rotate.degrees", self.degrees, 0, 180)

    def angles(self, draws: Draws) -> Tensor:
        """(B,) degrees, counter-clockwise."""
        return (2 * draws.uniform("rotate")[:, 0] - 1) * self.degrees

    def __call__(self, batch: Batch, draws: Draws, image_size: int) -> Batch:
        """Shapes stay: images (B, 3, H, W), targets (B, K)."""
        maps = rotation(self.angles(draws))
        return replace(batch, images=warp(batch.images, maps, padding_mode=self.padding_mode))


ENTRY = Rotate
