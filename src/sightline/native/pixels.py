"""Windows of images cut or resized, and pixels normalised: torch's values to the bit, several times as fast.

Where the machine can't have the loops torch does the work: nothing but the time differs.
"""

import ctypes
from typing import TYPE_CHECKING

from sightline.native.building import Source, loops

if TYPE_CHECKING:  # an exported model is prepared for without torch
    from torch import Tensor


def resize(images: "Tensor", windows: "Tensor", mirrored: "Tensor", into: "Tensor") -> int:
    """A window of each image, (B, 3, H, W) to (B, 3, side, side), bilinear and antialiased, as torch's interpolate.

    `windows` (B, 4) int64 are top, left, height and width in pixels, `mirrored` (B,) bool says which are turned left to
    right. Returns how many images were done, from the first on; torch has to do the others: all where they aren't uint8
    on the CPU with a pixel's channels side by side, the rest where a window would shrink to less than a quarter of its
    width.
    """
    _, _, height, width = images.shape
    ours = loops(PIXELS) if _row_by_row(images) and _row_by_row(into) else None
    if ours is None:
        return 0
    windows, mirrored = windows.contiguous(), mirrored.contiguous()
    return int(
        ours.resize(
            images.data_ptr(), images.stride(0), height, width, windows.data_ptr(), mirrored.data_ptr(), len(images),
            into.data_ptr(), into.shape[3],
        )
    )  # fmt: skip


def cut(
    images: "Tensor", tops: "Tensor", lefts: "Tensor", mirrored: "Tensor", size: tuple[int, int], *, padding: int = 0
) -> "Tensor | None":
    """A window of each image, (B, 3, H, W) to (B, 3, *size), from its corner in `tops` and `lefts`, (B,) int64.

    Corners are counted from that of `padding` black pixels on every side of the image. `mirrored` (B,) bool says which
    windows are turned left to right. None unless the images are uint8 on the CPU with a pixel's channels side by side.
    """
    import torch

    _, channels, height, width = images.shape
    ours = loops(PIXELS) if _row_by_row(images) else None
    if ours is None:
        return None
    result = torch.empty((len(images), channels, *size), dtype=torch.uint8, memory_format=torch.channels_last)
    tops, lefts, mirrored = tops.contiguous(), lefts.contiguous(), mirrored.contiguous()
    done = ours.cut(
        images.data_ptr(), images.stride(0), height, width, padding, tops.data_ptr(), lefts.data_ptr(),
        mirrored.data_ptr(), len(images), result.data_ptr(), *size,
    )  # fmt: skip
    assert done == len(images), "a window lies outside of its image"
    return result


def normalize(pixels: "Tensor", into: "Tensor", mean: "Tensor", scale: "Tensor") -> bool:
    """Write (pixels - mean) * scale: whole pixels of any shape, contiguous, uint8, into as many float32.

    `mean` and `scale` are a channel's, (3,) float32. False, and nothing done, where torch has to do it.
    """
    import torch

    ready = (type(pixels), pixels.device.type, pixels.dtype) == (torch.Tensor, "cpu", torch.uint8)
    fits = ready and pixels.is_contiguous() and into.is_contiguous() and pixels.numel() == into.numel()
    ours = loops(PIXELS) if fits else None
    if ours is None:
        return False
    ours.normalize(pixels.data_ptr(), into.data_ptr(), pixels.numel(), mean.data_ptr(), scale.data_ptr())
    return True


def _row_by_row(images: "Tensor") -> bool:
    """Whether each image's pixels follow each other, (H, W, 3) bytes."""
    import torch

    return (
        (type(images), images.device.type, images.dtype, images.shape[1]) == (torch.Tensor, "cpu", torch.uint8, 3)
        and images.stride()[1:] == (1, 3 * images.shape[3], 3)
    )  # fmt: skip


def _agrees(library: ctypes.CDLL) -> bool:
    """Whether the loops give torch's values, of windows that grow, shrink and stay, and of what is normalised."""
    import torch
    from torch.nn import functional as F

    pixels = torch.arange(64 * 64 * 3).mul(2654435761).bitwise_right_shift(20).to(torch.uint8).view(1, 64, 64, 3)
    images = pixels.permute(0, 3, 1, 2)
    windows = torch.tensor([[0, 3, 1, 1], [0, 0, 64, 61], [9, 5, 50, 9], [53, 27, 11, 37], [7, 27, 37, 37]])
    mirrored = torch.tensor([False, True, False, True, False])
    given = torch.zeros((5, 3, 37, 37), dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    library.resize(images.data_ptr(), 0, 64, 64, windows.data_ptr(), mirrored.data_ptr(), 5, given.data_ptr(), 37)
    for place, (top, left, height, width) in enumerate(windows.tolist()):
        window = images[:, :, top : top + height, left : left + width]
        expected = F.interpolate(window, size=[37, 37], mode="bilinear", antialias=True)
        if not torch.equal(given[place : place + 1], expected.flip(3) if mirrored[place] else expected):
            return False
    corners, turned = torch.tensor([0, 3, 9]), torch.tensor([True, False, True])
    cut = torch.empty((3, 3, 61, 61), dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    library.cut(
        images.data_ptr(), 0, 64, 64, 3, corners.data_ptr(), corners.data_ptr(), turned.data_ptr(), 3, cut.data_ptr(),
        61, 61,
    )  # fmt: skip
    padded = F.pad(images[0], [3, 3, 3, 3])
    for window, corner, flipped in zip(cut, corners.tolist(), turned.tolist(), strict=True):
        expected = padded[:, corner : corner + 61, corner : corner + 61]
        if not torch.equal(window, expected.flip(2) if flipped else expected):
            return False
    numbers = torch.tensor([[123.7, 116.3, 103.5], [0.0171, 0.0175, 0.0174]], dtype=torch.float32)
    (mean, scale), values = numbers, numbers.new_empty(pixels.numel())
    library.normalize(pixels.data_ptr(), values.data_ptr(), len(values), mean.data_ptr(), scale.data_ptr())
    return torch.equal(values.view(pixels.shape), pixels.float().sub(mean).mul(scale))


PIXELS = Source(
    name="pixels.c",
    needed=("avx2",),
    flags=(),
    arguments=(("resize", "pliippipi"), ("cut", "pliiipppipii"), ("normalize", "pplpp")),
    agrees=_agrees,
)
