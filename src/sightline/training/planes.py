"""What convolutions with passes of their own have in common: settings, the size of the output, autocast."""

from collections.abc import Sequence

import torch
from torch import Tensor

Pair = tuple[int, int]


def pair(value: Sequence[int] | str) -> Pair:
    """A convolution's setting for height and width; padding by name ("same") has none."""
    assert not isinstance(value, str)
    return value[0], value[1]


def places(images: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]) -> int:
    """Of the output's plane, H' x W', from the images' shape (B, C, H, W)."""
    sizes = zip(images[2:], kernel, stride, padding, strict=True)
    height, width = ((size + 2 * more - reach) // step + 1 for size, reach, step, more in sizes)
    return height * width


def autocasted(images: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """The three in the type that autocast computes convolutions in, where it is on."""
    device = images.device.type
    if not torch.is_autocast_enabled(device):
        return images, weight, bias
    dtype = torch.get_autocast_dtype(device)
    return images.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
