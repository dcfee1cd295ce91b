"""Random erasing: a rectangle of some images is filled in.

Source: Random Erasing Data Augmentation (Zhong et al., AAAI 2020), section 3 and table 1's settings.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from sightline.augmentations import Batch, ordered, within
from sightline.operations import like
from sightline.randomness import Draws

ATTEMPTS = 10
"""Rectangles drawn for an image until one fits into it; an image that none fits into stays."""


@dataclass(frozen=True, kw_only=True)
class Erase:
    """Fill a random rectangle of images with noise or one colour."""

    probability: float = 0.5
    """How often, 0 to 1."""
    scale: tuple[float, float] = (0.02, 0.4)
    """Smallest and largest share of the image's area, 0.001 to 1."""
    ratio: tuple[float, float] = (0.3, 10 / 3)
    """Flattest and tallest rectangle, as height divided by width, 0.1 to 10."""
    fill: Literal["noise", "mean", "black"] = "noise"
    """noise: each value 0 to 255 at random, as in the paper; mean: the image's own mean colour; black."""

    def __post_init__(self) -> None:
        within("augment.erase.probability", self.probability, 0, 1)
        ordered("augment.erase.scale", self.scale, 0.001, 1)
        ordered("augment.erase.ratio", self.ratio, 0.1, 10)

    def rectangles(self, draws: Draws, *, height: int, width: int) -> Tensor:
        """(B, 4) int64: top, left, height and width of what is erased; no height where nothing is."""
        drawn = draws.uniform("erase", 2 * ATTEMPTS + 3).double()
        low, high = self.scale
        area = height * width * (low + drawn[:, :ATTEMPTS] * (high - low))
        flat, tall = math.log(self.ratio[0]), math.log(self.ratio[1])
        ratio = torch.exp(flat + drawn[:, ATTEMPTS : 2 * ATTEMPTS] * (tall - flat))
        heights, widths = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()  # (B, ATTEMPTS)
        fits = (heights >= 1) & (heights < height) & (widths >= 1) & (widths < width)
        first = fits.int().argmax(1, keepdim=True)
        erased = fits.any(1) & (drawn[:, -1] < self.probability)
        down = torch.where(erased, heights.gather(1, first)[:, 0], 0)
        across = widths.gather(1, first)[:, 0]
        tops, lefts = drawn[:, -3] * (height - down + 1), drawn[:, -2] * (width - across + 1)
        return torch.stack([tops, lefts, down, across], dim=1).long()

    def __call__(self, batch: Batch, draws: Draws, image_size: int) -> Batch:
        """Shapes stay: images (B, 3, H, W), targets (B, K)."""
        height, width = batch.images.shape[2:]
        images = batch.images.clone()
        seeds = draws.seeds("erase noise")
        rectangles = self.rectangles(draws, height=height, width=width).tolist()
        for image, (top, left, down, across), seed in zip(images, rectangles, seeds, strict=True):
            if down:
                fill = self._content(image, (3, down, across), seed)
                image[:, top : top + down, left : left + across] = like(fill.to(image.device), image)
        return replace(batch, images=images)

    def _content(self, image: Tensor, shape: tuple[int, int, int], seed: int) -> Tensor:
        if self.fill == "noise":
            return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 255
        if self.fill == "mean":
            return image.float().mean(dim=(1, 2))[:, None, None]
        return torch.zeros(1)


ENTRY = Erase
