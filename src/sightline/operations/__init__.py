"""Operations on batches of pixels with one parameter an image; several augmentations share them.

Each is a pure function: what is drawn at random is drawn by its caller.
"""

import torch
from torch import Tensor


def like(values: Tensor, images: Tensor) -> Tensor:
    """Float pixels (B, 3, H, W) in the type of `images`: within 0 to 255, and rounded for uint8."""
    values = values.clamp(0, 255)
    return values.to(images.dtype) if images.is_floating_point() else values.round().to(images.dtype)


def as_uint8(images: Tensor) -> Tensor:
    """Pixels (B, 3, H, W) as uint8; float ones are rounded."""
    return images if images.dtype == torch.uint8 else images.float().round().clamp(0, 255).to(torch.uint8)


def beside(values: Tensor, images: Tensor) -> Tensor:
    """What was drawn on the CPU, on the images' device; the work that waits in a GPU's queue isn't waited for."""
    return values.to(images.device, non_blocking=images.is_cuda)


def per_image(values: Tensor, images: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1, 1) on the images' device, to multiply whole images by."""
    return beside(values, images)[:, None, None, None]


def centre_window(images: Tensor, size: int) -> Tensor:
    """The central window, `size` pixels a side where an image is larger: what evaluation sees of the canvas."""
    height, width = images.shape[2:]
    top, left = (max(0, round((side - size) / 2)) for side in (height, width))
    return images[:, :, top : top + size, left : left + size]
