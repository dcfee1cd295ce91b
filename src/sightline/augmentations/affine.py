"""Affine: each image rotated, moved, scaled and sheared by amounts of its own, about its centre."""

from dataclasses import dataclass, replace

from torch import Tensor

from sightline.augmentations import Batch, ordered, within
from sightline.operations.warp import PaddingMode, affine, warp
from sightline.randomness import Draws


@dataclass(frozen=True, kw_only=True)
class Affine:
    """Rotate, move, scale and shear images."""

    degrees: float = 10.0
    """Largest rotation to either side, 0 to 180."""
    translate: float = 0.1
    """Farthest move along each axis, as a share of the image's side, 0 to 1."""
    scale: tuple[float, float] = (0.9, 1.1)
    """Smallest and largest factor of the size, 0.1 to 10."""
    shear: float = 0.0
    """Largest angle of shear along each axis to either side, in degrees, 0 to 80."""
    padding_mode: PaddingMode = "zeros"
    """Beyond the border: zeros (black), border (its colour) or reflection (the image mirrored)."""

    def __post_init__(self) -> None:
        within("augment.affine.degrees", self.degrees, 0, 180)
        within("augment.affine.translate", self.translate, 0, 1)
        ordered("augment.affine.scale", self.scale, 0.1, 10)
        within("augment.affine.shear", self.shear, 0, 80)

    def amounts(self, draws: Draws, *, height: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Clockwise angles (B,) in degrees, moves (B, 2) in whole pixels, scales (B,), shears (B, 2) in degrees."""
        drawn = draws.uniform("affine", 6).double()
        signed = 2 * drawn - 1
        sides = drawn.new_tensor([width, height])
        low, high = self.scale
        return (
            signed[:, 0] * self.degrees,
            (signed[:, 1:3] * self.translate * sides).round(),
            low + drawn[:, 3] * (high - low),
            signed[:, 4:6] * self.shear,
        )

    def __call__(self, batch: Batch, draws: Draws, image_size: int) -> Batch:
        """Shapes stay: images (B, 3, H, W), targets (B, K)."""
        height, width = batch.images.shape[2:]
        angles, shift, scale, shear = self.amounts(draws, height=height, width=width)
        maps = affine(angles, shift, scale, shear)
        return replace(batch, images=warp(batch.images, maps, padding_mode=self.padding_mode))


ENTRY = Affine
