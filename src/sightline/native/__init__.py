"""Loops in C for what training batches wait for longest on a CPU: torch's values to the bit, several times as fast.

Where the machine can't have them (building.py) torch does it all: nothing but the time differs.
"""

from typing import TYPE_CHECKING

from sightline.native.building import loops

if TYPE_CHECKING:  # an exported model is prepared for without torch
    from torch import Tensor


def resize(images: "Tensor", windows: "Tensor", mirrored: "Tensor", into: "Tensor") -> int:
    """A window of each image, (B, 3, H, W) to (B, 3, side, side), bilinear and antialiased, as torch's interpolate.

    `windows` (B, 4) int64 are top, left, height and width in pixels, `mirrored` (B,) bool says which are turned left to
    right. Returns how many images were done, from the first on; torch has to do the others: all where they aren't uint8
    on the CPU with a pixel's channels side by side, the rest where a window would shrink to less than about 0.4.
    """
    _, _, height, width = images.shape
    ours = loops() if _row_by_row(images) and _row_by_row(into) else None
    if ours is None:
        return 0
    windows, mirrored = windows.contiguous(), mirrored.contiguous()
    return int(
        ours.resize(
            images.data_ptr(), images.stride(0), height, width, windows.data_ptr(), mirrored.data_ptr(), len(images),
            into.data_ptr(), into.shape[3],
        )
    )  # fmt: skip


def normalize(pixels: "Tensor", into: "Tensor", mean: "Tensor", scale: "Tensor") -> bool:
    """Write (pixels - mean) * scale: whole pixels of any shape, contiguous, uint8, into as many float32.

    `mean` and `scale` are a channel's, (3,) float32. False, and nothing done, where torch has to do it.
    """
    import torch

    ready = pixels.device.type == "cpu" and pixels.dtype == torch.uint8 and pixels.is_contiguous()
    ours = loops() if ready else None
    if ours is None:
        return False
    ours.normalize(pixels.data_ptr(), into.data_ptr(), pixels.numel(), mean.data_ptr(), scale.data_ptr())
    return True


def _row_by_row(images: "Tensor") -> bool:
    """Whether each image's pixels follow each other, (H, W, 3) bytes."""
    import torch

    return (
        (images.device.type, images.dtype, images.shape[1]) == ("cpu", torch.uint8, 3)
        and images.stride()[1:] == (1, 3 * images.shape[3], 3)
    )  # fmt: skip
