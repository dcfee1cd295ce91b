"""A convolution's weight gradient over many small planes, as over few wide ones: images laid side by side.

oneDNN goes through a plane row by row, and with rows of 4 to 8 pixels it reaches a sixth to a half of what it does with
32 (docs/log.md has the figures). Columns of zeros between two images are the padding of both.
"""

import torch
from torch import Tensor
from torch.nn.grad import conv2d_weight

from sightline.training.planes import Pair

_WIDE = 32
"""Pixels of a row from which on oneDNN is fast."""


def weight_gradient(images: Tensor, shape: torch.Size, grad: Tensor, stride: Pair, padding: Pair) -> Tensor | None:
    """(C', C, kH, kW), as `shape` says, from images (B, C, H, W) and the output's gradient (B, C', H', W').

    None where the kernel strides, or where the output's rows are not as wide as the images'.
    """
    gap = padding[1]
    if stride != (1, 1) or gap == 0 or shape[3] != 2 * gap + 1:
        return None
    count, width = len(images), images.shape[3] + gap
    together = next((n for n in range(1, count) if count % n == 0 and n * width >= _WIDE), count or 1)
    seen, slopes = _beside(images, together, gap), _beside(grad, together, gap)
    return conv2d_weight(seen, list(shape), slopes, stride, padding)  # pyright: ignore[reportArgumentType]


def _beside(images: Tensor, together: int, gap: int) -> Tensor:
    """(B, C, H, W) -> (B / n, C, H, n * (W + gap)), the channel innermost: after each image columns of zeros."""
    count, channels, height, width = images.shape
    rows = images.new_zeros(count // together, height, together, width + gap, channels)
    rows[:, :, :, :width] = images.permute(0, 2, 3, 1).unflatten(0, (-1, together)).transpose(1, 2)
    return rows.flatten(2, 3).permute(0, 3, 1, 2)
