"""Random resized crop: a window of random size and shape, resized to what the network sees.

Source: Going Deeper with Convolutions (Szegedy et al., 2015), section 6, in torchvision's form.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sightline.augmentations import Batch, change_singly, ordered
from sightline.operations.one_by_one import Change, Size
from sightline.operations.resample import resample
from sightline.operations.resize import Resize
from sightline.randomness import Draws

ATTEMPTS = 10
"""Windows drawn for an image until one fits into it."""


@dataclass(frozen=True, kw_only=True)
class RandomResizedCrop:
    """Cut a window of random area and aspect ratio, and resize it to data.image_size."""

    scale: tuple[float, float] = (0.08, 1.0)
    """Smallest and largest share of the canvas's area, 0.01 to 1."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Narrowest and widest window, as width divided by height, 0.1 to 10."""

    def __post_init__(self) -> None:
        ordered("augment.random_resized_crop.scale", self.scale, 0.01, 1)
        ordered("augment.random_resized_crop.ratio", self.ratio, 0.1, 10)

    def windows(self, draws: Draws, *, height: int, width: int) -> Tensor:
        """(B, 4) int64: top, left, height and width of each image's window, in pixels."""
        # By NumPy: torch wakes its threads for the square roots of a few numbers, and they keep a core busy afterwards.
        drawn = draws.uniform("random_resized_crop", 2 * ATTEMPTS + 2).numpy().astype(np.float64)
        low, high = self.scale
        area = height * width * (low + drawn[:, :ATTEMPTS] * (high - low))
        narrow, wide = math.log(self.ratio[0]), math.log(self.ratio[1])
        ratio = np.exp(narrow + drawn[:, ATTEMPTS : 2 * ATTEMPTS] * (wide - narrow))
        widths, heights = np.rint(np.sqrt(area * ratio)), np.rint(np.sqrt(area / ratio))  # (B, ATTEMPTS)
        fits = (widths >= 1) & (widths <= width) & (heights >= 1) & (heights <= height)
        every, first = np.arange(len(drawn)), fits.argmax(1)
        found = fits.any(1)
        all_height, all_width = _largest(height, width, self.ratio)
        tall = np.where(found, heights[every, first], all_height)
        broad = np.where(found, widths[every, first], all_width)
        tops = np.where(found, np.floor(drawn[:, -2] * (height - tall + 1)), (height - tall) // 2)
        lefts = np.where(found, np.floor(drawn[:, -1] * (width - broad + 1)), (width - broad) // 2)
        return torch.from_numpy(np.stack([tops, lefts, tall, broad], axis=1).astype(np.int64))

    def __call__(self, batch: Batch, draws: Draws, image_size: int) -> Batch:
        """Images (B, 3, H, W) -> (B, 3, image_size, image_size), bilinear and antialiased. Targets stay."""
        images = batch.images
        if images.device.type == "cpu":
            return change_singly(batch, [self], draws, image_size)
        windows = self.windows(draws, height=images.shape[2], width=images.shape[3])
        return replace(batch, images=resample(images, windows, image_size))

    def change(self, draws: Draws, size: Size, image_size: int) -> tuple[Change, Size]:
        """One image (1, 3, H, W), and its place -> (1, 3, image_size, image_size)."""
        height, width = size
        windows = self.windows(draws, height=height, width=width)
        as_they_are = torch.zeros(len(windows), dtype=torch.bool)
        return Resize(windows, image_size, mirrored=as_they_are), (image_size, image_size)


def _largest(height: int, width: int, ratio: tuple[float, float]) -> tuple[int, int]:
    """The largest (height, width) that an image holds with its aspect ratio within the limits."""
    if width / height < ratio[0]:
        return max(1, round(width / ratio[0])), width
    if width / height > ratio[1]:
        return height, max(1, round(height * ratio[1]))
    return height, width


ENTRY = RandomResizedCrop
