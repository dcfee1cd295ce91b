"""The gradient of a convolution's weights in float32 on a CPU, of many pixels in 0.4 to 0.8 of torch's time.

oneDNN's own, with AVX2, reaches 60 to 120 of the 150 to 200 GFLOP/s of its forward pass (docs/log.md). The sums over
pixels are taken in another order than torch's: results differ in rounding.
"""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from sightline.native.building import Source, fits, loops
from sightline.native.layout import is_readable

FEWEST_CHANNELS = 8
"""Of the images: with fewer most of a register is empty, and torch is faster."""


def available() -> bool:
    """Whether this machine has the loops. The first time a compiler makes them."""
    return loops(CONVOLUTION) is not None


def has_processor() -> bool:
    """Whether the processor knows what the loops are made of, and the system is Linux."""
    return fits(CONVOLUTION)


def takes(images: Tensor, weight: Tensor) -> bool:
    """Whether `weight_gradient` can: images (B, C, H, W) float32 on the CPU, the channel innermost.

    `weight` (C', C, kH, kW) has to be float32. Of 1x1 kernels torch's is as fast.
    """
    return (
        is_readable(images, weight)
        and images.shape[1] == weight.shape[1] >= FEWEST_CHANNELS
        and weight.shape[2] * weight.shape[3] > 1
    )


def weight_gradient(
    images: Tensor, grad: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> Tensor:
    """(C', C, kH, kW) from images (B, C, H, W) that it takes and the output's gradient (B, C', H', W').

    Raises MemoryError.
    """
    batch, channels, height, width = images.shape
    grad = grad.float().contiguous(memory_format=torch.channels_last)
    _, out_channels, out_height, out_width = grad.shape
    sizes = out_channels, channels, *kernel
    result = torch.empty(sizes, dtype=torch.float32, device=images.device, memory_format=torch.channels_last)
    numbers = batch, height, width, channels, out_height, out_width, out_channels, *kernel, *stride, *padding
    shape = (ctypes.c_int * len(numbers))(*numbers)
    addresses = images.data_ptr(), grad.data_ptr(), result.data_ptr(), ctypes.addressof(shape)
    if not _library().weight_gradient(*addresses, torch.get_num_threads()):
        raise MemoryError
    return result


def _library() -> ctypes.CDLL:
    found = loops(CONVOLUTION)
    assert found is not None, "asked for where it isn't available"
    return found


def _agrees(library: ctypes.CDLL) -> bool:
    """Whether it gives torch's values, but for rounding, of rows and of whole images, with a stride and without."""
    for side, (kernel, stride, padding) in ((7, (3, 1, 1)), (7, (5, 2, 2)), (19, (3, 1, 1)), (19, (3, 2, 0))):
        count = 3 * side * side * 19
        values = torch.arange(count).mul(2654435761).bitwise_and(1023).float().div(256).sub(2)
        images = values.view(3, side, side, 19).permute(0, 3, 1, 2)
        weight = images.new_zeros(10, 19, kernel, kernel).contiguous(memory_format=torch.channels_last).requires_grad_()
        output = F.conv2d(images, weight, stride=stride, padding=padding)
        slopes = values.flip(0)[: output.numel()].view(3, *output.shape[2:], 10).permute(0, 3, 1, 2)
        output.backward(slopes)
        numbers = 3, side, side, 19, *output.shape[2:], 10, kernel, kernel, stride, stride, padding, padding
        shape = (ctypes.c_int * len(numbers))(*numbers)
        given = torch.empty_like(weight)
        addresses = images.data_ptr(), slopes.data_ptr(), given.data_ptr(), ctypes.addressof(shape)
        library.weight_gradient(*addresses, torch.get_num_threads())
        assert weight.grad is not None
        if not torch.allclose(given, weight.grad, atol=0.01, rtol=1e-4):
            return False
    return True


CONVOLUTION = Source(
    name="convolution.c",
    headers=("lanes.h",),
    needed=("avx2", "fma"),
    flags=("-fopenmp",),
    arguments=(("weight_gradient", "ppppi"),),
    agrees=_agrees,
)
