"""Batch norm of images on a CPU, with the activation behind it: in bfloat16 in half of torch's time or less.

In float32, of which the memory gives half as many values, in 0.5 to 0.9 of it.

torch's sums and values go through float32 too, in another order: results differ in rounding.
"""

import ctypes
from enum import IntEnum
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.native.building import Source, fits, loops

_LANES = 16
"""Channels of a register, in bfloat16: what is kept of each has room for whole ones."""


class Activation(IntEnum):
    """What is behind a batch norm; norms.c has the numbers too."""

    NOTHING = 0
    RELU = 1
    SILU = 2
    GELU = 3


class Normalized(NamedTuple):
    """What the forward pass gives."""

    images: Tensor
    """(B, C, H, W)."""
    saved: Tensor
    """(4, C rounded up) float32: for the backward pass."""


def available(dtype: torch.dtype) -> bool:
    """Whether this machine has the loops for such images. The first time a compiler makes them."""
    return loops(BATCH_NORM[dtype]) is not None


def has_processor(dtype: torch.dtype) -> bool:
    """Whether the processor knows what the loops are made of, and the system is Linux."""
    return fits(BATCH_NORM[dtype])


def takes(images: Tensor, *of_channels: Tensor | None) -> bool:
    """Whether `normalize` can, where the loops are available.

    It can where images are (B, C, H, W) bfloat16 or float32 on the CPU, the channel innermost, more than one pixel in
    all. `of_channels` are weight, bias and running statistics, which have to be float32.
    """
    return (
        type(images) is Tensor  # a shape alone, which some subclasses are, has no values to read
        and images.dtype in BATCH_NORM
        and images.device.type == "cpu"
        and images.ndim == 4
        and images.numel() > images.shape[1] > 0
        and images.is_contiguous(memory_format=torch.channels_last)
        and all(each is None or (each.dtype == torch.float32 and each.is_contiguous()) for each in of_channels)
    )


def normalize(
    images: Tensor, weight: Tensor | None, bias: Tensor | None, running: tuple[Tensor, Tensor] | None,
    momentum: float, eps: float, activation: Activation,
) -> Normalized:  # fmt: skip
    """Images that `normalize` takes, normalised over batch and pixels, and activated.

    `weight` and `bias` are (C,) float32. `running` mean and variance, (C,) float32, go `momentum` of the way to this
    batch's. Raises MemoryError.
    """
    channels = images.shape[1]
    result = torch.empty_like(images)
    saved = images.new_empty(4, -(-channels // _LANES) * _LANES, dtype=torch.float32)
    mean, variance = running if running is not None else (None, None)
    done = _library(images.dtype).batch_norm(
        images.data_ptr(), result.data_ptr(), images.numel() // channels, channels, _address(weight), _address(bias),
        _address(mean), _address(variance), momentum, eps, saved.data_ptr(), activation, torch.get_num_threads(),
    )  # fmt: skip
    if not done:
        raise MemoryError
    return Normalized(result, saved)


def gradients(
    images: Tensor, grad: Tensor, saved: Tensor, activation: Activation, *, of_images: bool = True
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Of the images (None unless `of_images`), the weight and the bias, from that of what `normalize` gave.

    Raises MemoryError.
    """
    channels = images.shape[1]
    grad = grad.to(images.dtype).contiguous(memory_format=torch.channels_last)
    result = torch.empty_like(images) if of_images else None
    weight, bias = (images.new_empty(channels, dtype=torch.float32) for _ in range(2))
    done = _library(images.dtype).batch_norm_backward(
        images.data_ptr(), grad.data_ptr(), _address(result), images.numel() // channels, channels,
        saved.data_ptr(), weight.data_ptr(), bias.data_ptr(), activation, torch.get_num_threads(),
    )  # fmt: skip
    if not done:
        raise MemoryError
    return result, weight, bias


def _address(values: Tensor | None) -> int | None:
    return None if values is None else values.data_ptr()


def _library(dtype: torch.dtype) -> ctypes.CDLL:
    found = loops(BATCH_NORM[dtype])
    assert found is not None, "asked for where it isn't available"
    return found


def _agrees(library: ctypes.CDLL, *, dtype: torch.dtype, tolerance: float) -> bool:
    """Whether both passes give torch's values, but for rounding, behind each activation."""
    values = torch.arange(3 * 19 * 5 * 4).mul(2654435761).bitwise_and(1023).float().div(256).view(3, 5, 4, 19)
    images, slopes = (part.to(dtype).permute(0, 3, 1, 2) for part in (values, values.flip(0).sub(2)))
    weight, bias = (torch.linspace(*ends, 19, dtype=torch.float32) for ends in ((0.5, 2), (-0.9, 1)))
    given, grad, threads = torch.empty_like(images), torch.empty_like(images), torch.get_num_threads()
    saved, spare = values.new_empty(4, 32), values.new_empty(19)
    for activation, function in (
        (Activation.NOTHING, nn.Identity()),
        (Activation.RELU, F.relu),
        (Activation.SILU, F.silu),
        (Activation.GELU, F.gelu),
    ):
        leaf = images.to(torch.float32, copy=True).requires_grad_()
        expected = function(F.batch_norm(leaf, None, None, weight, bias, training=True))
        expected.backward(slopes.float())
        library.batch_norm(
            images.data_ptr(), given.data_ptr(), 60, 19, weight.data_ptr(), bias.data_ptr(), None, None, 0.0, 1e-5,
            saved.data_ptr(), activation, threads,
        )  # fmt: skip
        library.batch_norm_backward(
            images.data_ptr(), slopes.data_ptr(), grad.data_ptr(), 60, 19, saved.data_ptr(), spare.data_ptr(),
            spare.data_ptr(), activation, threads,
        )  # fmt: skip
        assert leaf.grad is not None
        for ours, theirs in ((given, expected), (grad, leaf.grad)):
            if not torch.allclose(ours.float(), theirs, atol=tolerance, rtol=tolerance / 2):
                return False
    return True


def _source(dtype: torch.dtype, needed: tuple[str, ...], flags: tuple[str, ...], tolerance: float) -> Source:
    return Source(
        name="norms.c",
        needed=needed,
        flags=("-fopenmp", "-fno-math-errno", *flags),  # the square root is an instruction then
        arguments=(("batch_norm", "pplippppffpii"), ("batch_norm_backward", "ppplipppii")),
        agrees=partial(_agrees, dtype=dtype, tolerance=tolerance),
    )


_AVX512_BF16 = ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_bf16")
BATCH_NORM = {
    torch.bfloat16: _source(torch.bfloat16, _AVX512_BF16, (), 0.05),
    torch.float32: _source(torch.float32, ("avx2", "fma"), ("-DFLOAT32",), 1e-4),
}
