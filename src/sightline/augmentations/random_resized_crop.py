"""Random resized crop: a window of random size and shape, resized to what the network sees.

Source: Going Deeper with Convolutions (Szegedy et al., 2015), section 6, in torchvision's form.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from sightline.augmentations import Batch, ordered
from sightline.operations.threads import mapped
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
        drawn = draws.uniform("random_resized_crop", 2 * ATTEMPTS + 2).double()
        low, high = self.scale
        area = height * width * (low + drawn[:, :ATTEMPTS] * (high - low))
        narrow, wide = math.log(self.ratio[0]), math.log(self.ratio[1])
        ratio = torch.exp(narrow + drawn[:, ATTEMPTS : 2 * ATTEMPTS] * (wide - narrow))
        widths, heights = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()  # (B, ATTEMPTS)
        fits = (widths >= 1) & (widths <= width) & (heights >= 1) & (heights <= height)
        first = fits.int().argmax(1, keepdim=True)
        found = fits.any(1)
        all_height, all_width = _largest(height, width, self.ratio)
        tall = torch.where(found, heights.gather(1, first)[:, 0], all_height)
        broad = torch.where(found, widths.gather(1, first)[:, 0], all_width)
        tops = torch.where(found, (drawn[:, -2] * (height - tall + 1)).floor(), (height - tall) // 2)
        lefts = torch.where(found, (drawn[:, -1] * (width - broad + 1)).floor(), (width - broad) // 2)
        return torch.stack([tops, lefts, tall, broad], dim=1).long()

    def __call__(self, batch: Batch, draws: Draws, image_size: int) -> Batch:
        """Images (B, 3, H, W) -> (B, 3, image_size, image_size), bilinear and antialiased. Targets stay."""
        height, width = batch.images.shape[2:]
        windows = self.windows(draws, height=height, width=width).tolist()

        def resized(place: int) -> Tensor:
            return _resized(batch.images[place : place + 1], windows[place], image_size)

        images = mapped(resized, range(len(windows)))
        return replace(batch, images=torch.cat(images))


def _resized(image: Tensor, window: list[int], side: int) -> Tensor:
    """(1, 3, H, W) -> (1, 3, side, side): the window, bilinear and antialiased."""
    top, left, height, width = window
    # One by one: windows differ in size. torch resizes uint8 on a CPU fast where pixels lie side by side, which
    # torchvision's own function undoes; elsewhere torch has no kernel for uint8, and torchvision goes by float.
    if image.device.type == "cpu" and image.dtype == torch.uint8:
        cut = image[:, :, top : top + height, left : left + width]
        return F.interpolate(cut, size=[side, side], mode="bilinear", antialias=True)
    from torchvision.transforms.v2 import functional

    return functional.resized_crop(image, top, left, height, width, size=[side, side], antialias=True)


def _largest(height: int, width: int, ratio: tuple[float, float]) -> tuple[int, int]:
    """The largest (height, width) that an image holds with its aspect ratio within the limits."""
    if width / height < ratio[0]:
        return max(1, round(width / ratio[0])), width
    if width / height > ratio[1]:
        return height, max(1, round(height * ratio[1]))
    return height, width


ENTRY = RandomResizedCrop
