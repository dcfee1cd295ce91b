"""3x3 convolutions and their gradients in float32 on a CPU by minimal filtering, in 0.2 to 0.8 of torch's time.

F(4x4, 3x3): four by four outputs of 36 products in place of 144, at a plane's edge of 25 or 30. Rounding errors are two
to five times torch's, some 1e-6 of the result: the tiles' values are sums and differences (docs/log.md has figures).

Source: Fast Algorithms for Convolutional Neural Networks (Lavin and Gray, 2016), https://arxiv.org/abs/1509.09308,
section 4; with the points 0, sqrt(1/2), -sqrt(1/2), sqrt(2), -sqrt(2) and infinity in place of whole numbers.
"""

import ctypes

import torch
from torch import Tensor
from torch.nn.grad import conv2d_input, conv2d_weight

from sightline.native.building import Source, fits, loops
from sightline.native.layout import is_readable

FEWEST_CHANNELS = 8
"""Of the images and of the output: with fewer most of a register is empty."""

_FEWEST_TILES = 16
"""Of 4x4 outputs: with fewer, what the weights take is more than what the products save."""
_SIDE = 4
"""Of a tile, in outputs."""


def available() -> bool:
    """Whether this machine has the loops. The first time a compiler makes them."""
    return loops(WINOGRAD) is not None


def has_processor() -> bool:
    """Whether the processor knows what the loops are made of, and the system is Linux."""
    return fits(WINOGRAD)


def takes(images: Tensor, weight: Tensor) -> bool:
    """Whether `convolved` can, and is worth it: images (B, C, H, W) float32 on the CPU, the channel innermost.

    `weight` (C', C, 3, 3) has to be float32. Of small planes most of a tile is padding, and of few images torch is
    faster.
    """
    return (
        is_readable(images, weight)
        and images.shape[1] == weight.shape[1] >= FEWEST_CHANNELS <= weight.shape[0]
        and weight.shape[2:] == (3, 3)
        and _fills_tiles(len(images), images.shape[2], images.shape[3])
    )


def convolved(images: Tensor, weight: Tensor) -> Tensor:
    """Images (B, C, H, W), padded by a pixel of zeros, by a weight (C', C, 3, 3) that it takes -> (B, C', H, W).

    Raises MemoryError.
    """
    return _convolved(images, weight, len(weight), is_back=False)


def image_gradient(grad: Tensor, weight: Tensor) -> Tensor:
    """(B, C, H, W) from the output's gradient (B, C', H, W) and the weight (C', C, 3, 3). Raises MemoryError."""
    return _convolved(grad, weight, weight.shape[1], is_back=True)


def weight_gradient(images: Tensor, grad: Tensor) -> Tensor:
    """(C', C, 3, 3) from images (B, C, H, W) and the output's gradient (B, C', H, W). Raises MemoryError."""
    (batch, channels, height, width), out_channels = images.shape, grad.shape[1]
    result = _empty(out_channels, channels, 3, 3)
    sizes = (ctypes.c_int * 5)(batch, height, width, channels, out_channels)
    images, grad = _laid_out(images), _laid_out(grad)
    addresses = images.data_ptr(), grad.data_ptr(), result.data_ptr(), ctypes.addressof(sizes)
    if not _library().weight_gradient(*addresses, torch.get_num_threads()):
        raise MemoryError
    return result


def _convolved(images: Tensor, weight: Tensor, out_channels: int, *, is_back: bool) -> Tensor:
    batch, channels, height, width = images.shape
    result = _empty(batch, out_channels, height, width)
    sizes = (ctypes.c_int * 5)(batch, height, width, channels, out_channels)
    images, weight = _laid_out(images), _laid_out(weight)
    addresses = images.data_ptr(), weight.data_ptr(), result.data_ptr(), ctypes.addressof(sizes)
    if not _library().convolve(*addresses, is_back, torch.get_num_threads()):
        raise MemoryError
    return result


def _fills_tiles(batch: int, height: int, width: int) -> bool:
    """Whether there are enough tiles, and at least half of what they compute is wanted."""
    tiles = -(-height // _SIDE) * -(-width // _SIDE)
    return batch * tiles >= _FEWEST_TILES and 2 * height * width >= tiles * _SIDE**2


def _empty(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device="cpu", memory_format=torch.channels_last)


def _laid_out(values: Tensor) -> Tensor:
    return values.float().contiguous(memory_format=torch.channels_last)


def _library() -> ctypes.CDLL:
    found = loops(WINOGRAD)
    assert found is not None, "asked for where it isn't available"
    return found


def _agrees(library: ctypes.CDLL) -> bool:
    """Whether it gives torch's values, but for rounding, where tiles are whole and where they aren't."""
    for height, width, channels, out_channels in ((8, 8, 16, 32), (7, 9, 19, 21)):
        values = torch.arange(3 * height * width * 40).mul(2654435761).bitwise_and(1023).float().div(256).sub(2)
        images, slopes = (
            part[: 3 * height * width * count].view(3, height, width, count).permute(0, 3, 1, 2)
            for part, count in ((values, channels), (values.flip(0), out_channels))
        )
        weight = values[: out_channels * 9 * channels].view(out_channels, 3, 3, channels).permute(0, 3, 1, 2)
        expected = (
            torch.conv2d(images, weight, padding=1),
            conv2d_input(images.shape, weight, slopes, padding=1),
            conv2d_weight(images, weight.shape, slopes, padding=1),  # pyright: ignore[reportArgumentType]
        )
        given = [torch.empty_like(each, memory_format=torch.channels_last) for each in expected]
        sizes = (ctypes.c_int * 5)(3, height, width, channels, out_channels)
        turned = (ctypes.c_int * 5)(3, height, width, out_channels, channels)
        threads = torch.get_num_threads()
        image, kernel, slope, *results = (each.data_ptr() for each in (images, weight, slopes, *given))
        library.convolve(image, kernel, results[0], ctypes.addressof(sizes), 0, threads)
        library.convolve(slope, kernel, results[1], ctypes.addressof(turned), 1, threads)
        library.weight_gradient(image, slope, results[2], ctypes.addressof(sizes), threads)
        if not all(torch.allclose(*pair, atol=0.01, rtol=1e-4) for pair in zip(given, expected, strict=True)):
            return False
    return True


WINOGRAD = Source(
    name="winograd.c",
    headers=("winograd_tiles.h", "winograd.h", "lanes.h"),
    needed=("avx2", "fma"),
    flags=("-fopenmp",),
    arguments=(("convolve", "ppppii"), ("weight_gradient", "ppppi")),
    agrees=_agrees,
)
