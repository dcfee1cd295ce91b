"""Cutout: a square of each image is covered. Its centre lies anywhere, so the border may cut the square.

Source: Improved Regularization of Convolutional Neural Networks with Cutout (DeVries and Taylor, 2017), section 3.2.
The paper covers with zeros after the mean was subtracted; that is `fill: mean`, with the image's own mean.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from sightline.augmentations import Batch, within
from sightline.operations import beside, like
from sightline.randomness import Draws


@dataclass(frozen=True, kw_only=True)
class Cutout:
    """Cover a random square of images."""

    size: int = 16
    """Side of the square in pixels, 1 to 4096; the paper has 16 for CIFAR-10, 8 for CIFAR-100."""
    probability: float = 1.0
    """How often, 0 to 1."""
    fill: Literal["mean", "black"] = "mean"
    """The image's own mean colour, or black."""

    def __post_init__(self) -> None:
        within("augment.cutout.size", self.size, 1, 4096)
        within("augment.cutout.probability", self.probability, 0, 1)

    def corners(self, draws: Draws, *, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
        """(B,) each: the square's top and left, which may lie outside the image, and whether it is covered."""
        drawn = draws.uniform("cutout", 3).double()
        tops, lefts = (drawn[:, 0] * height).long(), (drawn[:, 1] * width).long()
        return tops - self.size // 2, lefts - self.size // 2, drawn[:, 2] < self.probability

    def __call__(self, batch: Batch, draws: Draws, image_size: int) -> Batch:
        """Shapes stay: images (B, 3, H, W), targets (B, K)."""
        height, width = batch.images.shape[2:]
        tops, lefts, chosen = self.corners(draws, height=height, width=width)
        rows = torch.arange(height) - tops[:, None]  # (B, H), from the square's top
        columns = torch.arange(width) - lefts[:, None]
        in_rows, in_columns = ((place >= 0) & (place < self.size) for place in (rows, columns))
        covered = (in_rows[:, :, None] & in_columns[:, None, :] & chosen[:, None, None])[:, None]  # (B, 1, H, W)
        means = batch.images.float().mean(dim=(2, 3), keepdim=True)
        fill = like(means if self.fill == "mean" else torch.zeros_like(means), batch.images)
        return replace(batch, images=torch.where(beside(covered, batch.images), fill, batch.images))


ENTRY = Cutout
