"""Brightness, contrast, saturation and hue, each image by its own factor; torchvision's definitions.

Images are (B, 3, H, W) float32 on the scale 0 to 255, factors (B,).
"""

import torch
from torch import Tensor

from sightline.operations import per_image

LUMA = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in grey: ITU-R BT.601, rounded as torchvision and Pillow have them."""


def grey(images: Tensor) -> Tensor:
    """(B, 1, H, W): how bright each pixel looks."""
    weights = torch.tensor(LUMA, device=images.device, dtype=images.dtype)
    return (images * weights[:, None, None]).sum(1, keepdim=True)


def blend(images: Tensor, other: Tensor, factors: Tensor) -> Tensor:
    """`other` at factor 0, `images` at 1, beyond it at more; within 0 to 255."""
    return (other + per_image(factors, images) * (images - other)).clamp(0, 255)


def adjust_brightness(images: Tensor, factors: Tensor) -> Tensor:
    """Black at 0, unchanged at 1."""
    return blend(images, torch.zeros_like(images), factors)


def adjust_contrast(images: Tensor, factors: Tensor) -> Tensor:
    """One grey, the image's mean, at 0; unchanged at 1."""
    return blend(images, grey(images).mean(dim=(2, 3), keepdim=True), factors)


def adjust_saturation(images: Tensor, factors: Tensor) -> Tensor:
    """Greyscale at 0, unchanged at 1."""
    return blend(images, grey(images), factors)


def adjust_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Colours moved around the circle of hues, by -0.5 to 0.5 of a turn; value and saturation stay.

    Source: Color Gamut Transform Pairs (Smith, SIGGRAPH 1978), the hexcone model.
    """
    value, spread, sector = _hexcone(images)
    sector = sector + 6 * per_image(turns, images)[:, 0]
    channels: list[Tensor] = []
    for offset in (5, 3, 1):  # red, green, blue
        k = (offset + sector) % 6
        channels.append(value - spread * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(channels, dim=1)


def _hexcone(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Value, the spread of the channels, and the hue in sixths of a turn; (B, H, W) each."""
    red, green, blue = images.unbind(1)
    value, lowest = images.amax(1), images.amin(1)
    spread = value - lowest
    divisor = torch.where(spread > 0, spread, 1)
    sector = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, (blue - red) / divisor + 2, (red - green) / divisor + 4),
    )
    return value, spread, sector
