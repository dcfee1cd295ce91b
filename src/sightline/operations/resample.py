"""Windows of a batch, each of its own size, made one size by two batched products: for devices that like few calls.

Antialiased bilinear interpolation as torchvision and Pillow have it is linear along each axis, so what it does to an
image is a matrix from the left and one from the right, zero but for a few entries a row.
"""

import torch
from torch import Tensor

from sightline.operations import beside, like


def resample(images: Tensor, windows: Tensor, side: int) -> Tensor:
    """(B, C, H, W) -> (B, C, side, side): windows (B, 4) int64, as top, left, height and width, in pixels."""
    height, width = images.shape[2:]
    placed = beside(windows, images).float()
    down = _weights(placed[:, 0], placed[:, 2], side, height)
    across = _weights(placed[:, 1], placed[:, 3], side, width)
    with torch.autocast(images.device.type, enabled=False):
        values = down[:, None] @ images.float() @ across[:, None].transpose(2, 3)
    return like(values, images)


def _weights(starts: Tensor, lengths: Tensor, side: int, pixels: int) -> Tensor:
    """(B, side, pixels) float32: what each pixel of an axis gives to each of the result's; rows sum to 1."""
    scale = (lengths / side)[:, None, None]  # pixels from one of the result to the next
    reach = scale.clamp(min=1)
    to = torch.arange(side, device=starts.device)[None, :, None] + 0.5
    of = torch.arange(pixels, device=starts.device)[None, None, :] + 0.5 - starts[:, None, None]
    weights = (1 - (of - to * scale).abs() / reach).clamp(min=0)
    weights = weights * ((of > 0) & (of < lengths[:, None, None]))
    return weights / weights.sum(2, keepdim=True)
