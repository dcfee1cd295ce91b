"""Gradients of depthwise convolutions in float32 on a CPU: the weights' in 0.3 to 0.9 of torch's time.

With a stride the images' in 0.3 to 0.7, without in 0.2 to 0.6, by oneDNN's forward pass. The sums are taken in another
order than torch's: results differ in rounding.
"""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.grad import conv2d_input, conv2d_weight

from sightline.native.building import Source, fits, loops
from sightline.native.layout import is_readable

_LANES = 16
"""Channels that the loops take at a time; weights have room for whole ones."""
_WIDEST = 7
"""Kernel whose weights' sums a processor has registers for."""


def available() -> bool:
    """Whether this machine has the loops. The first time a compiler makes them."""
    return loops(DEPTHWISE) is not None


def has_processor() -> bool:
    """Whether the processor knows what the loops are made of, and the system is Linux."""
    return fits(DEPTHWISE)


def takes(images: Tensor, weight: Tensor) -> bool:
    """Whether both gradients can be computed: images (B, C, H, W) float32 on the CPU, the channel innermost.

    `weight` (C, 1, kH, kW) has to be float32, its kernel at most seven wide.
    """
    return is_readable(images, weight) and 0 < weight.shape[3] <= _WIDEST


def weight_gradient(
    images: Tensor, grad: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> Tensor:
    """(C, 1, kH, kW) from images (B, C, H, W) that it takes and the output's gradient (B, C, H', W').

    Raises MemoryError.
    """
    channels = images.shape[1]
    result = torch.empty((channels, 1, *kernel), dtype=torch.float32, device=images.device)
    grad = grad.float().contiguous(memory_format=torch.channels_last)
    shape = _shape(images.shape, grad.shape, kernel, stride, padding)
    addresses = images.data_ptr(), grad.data_ptr(), result.data_ptr(), ctypes.addressof(shape)
    if not _library().weight_gradient(*addresses, torch.get_num_threads()):
        raise MemoryError
    return result


def image_gradient(
    images: Sequence[int], weight: Tensor, grad: Tensor, stride: Sequence[int], padding: Sequence[int]
) -> Tensor:
    """Of shape `images`, (B, C, H, W), from the weight (C, 1, kH, kW) and the output's gradient (B, C, H', W').

    Raises MemoryError.
    """
    kernel = weight.shape[2:]
    spare = [kernel[axis] - 1 - padding[axis] for axis in (0, 1)]
    if stride[0] == stride[1] == 1 and min(spare) >= 0:  # oneDNN's forward pass is two to five times its backward
        return torch.conv2d(grad, weight.flip(2, 3), padding=spare, groups=len(weight))
    grad = grad.float().contiguous(memory_format=torch.channels_last)
    result = torch.empty(tuple(images), dtype=torch.float32, device=grad.device, memory_format=torch.channels_last)
    weights = F.pad(weight.squeeze(1).permute(1, 2, 0), (0, -len(weight) % _LANES)).contiguous()
    shape = _shape(images, grad.shape, kernel, stride, padding)
    addresses = grad.data_ptr(), weights.data_ptr(), result.data_ptr(), ctypes.addressof(shape)
    if not _library().image_gradient(*addresses, torch.get_num_threads()):
        raise MemoryError
    return result


def _shape(
    images: Sequence[int], grad: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> "ctypes.Array[ctypes.c_int]":
    batch, channels, height, width = images
    numbers = batch, height, width, channels, *grad[2:], *kernel, *stride, *padding
    return (ctypes.c_int * len(numbers))(*numbers)


def _library() -> ctypes.CDLL:
    found = loops(DEPTHWISE)
    assert found is not None, "asked for where it isn't available"
    return found


def _agrees(library: ctypes.CDLL) -> bool:
    """Whether it gives torch's values, but for rounding, of whole registers and of parts, with a stride and without."""
    for channels, side, kernel, stride in ((32, 9, 3, 2), (19, 11, 5, 2), (19, 8, 7, 1)):
        padding, out = kernel // 2, (side - 1) // stride + 1
        values = torch.arange(2 * side * side * 32).mul(2654435761).bitwise_and(1023).float().div(256).sub(2)
        images, slopes = (
            part[: 2 * size * size * channels].view(2, size, size, channels).permute(0, 3, 1, 2)
            for part, size in ((values, side), (values.flip(0), out))
        )
        weight = values[: channels * kernel * kernel].view(channels, 1, kernel, kernel)
        settings = (stride, padding, 1, channels)
        expected = (
            conv2d_weight(images, weight.shape, slopes, *settings),  # pyright: ignore[reportArgumentType]
            conv2d_input(images.shape, weight, slopes, *settings),  # pyright: ignore[reportArgumentType]
        )
        given = torch.empty_like(weight), torch.empty_like(images, memory_format=torch.channels_last)
        padded = F.pad(weight.squeeze(1).permute(1, 2, 0), (0, -channels % _LANES)).contiguous()
        shape = _shape(images.shape, slopes.shape, (kernel, kernel), (stride, stride), (padding, padding))
        last, threads = ctypes.addressof(shape), torch.get_num_threads()
        library.weight_gradient(images.data_ptr(), slopes.data_ptr(), given[0].data_ptr(), last, threads)
        library.image_gradient(slopes.data_ptr(), padded.data_ptr(), given[1].data_ptr(), last, threads)
        if not all(torch.allclose(*pair, atol=0.001, rtol=1e-4) for pair in zip(given, expected, strict=True)):
            return False
    return True


DEPTHWISE = Source(
    name="depthwise.c",
    headers=("lanes.h",),
    needed=("avx2", "fma"),
    flags=("-fopenmp",),
    arguments=(("weight_gradient", "ppppi"), ("image_gradient", "ppppi")),
    agrees=_agrees,
)
