"""Affine maps of whole batches, each image by its own matrix.

Points are in pixels from the image's centre, x to the right and y down, as in torchvision.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from sightline.operations import beside, like

PaddingMode = Literal["zeros", "border", "reflection"]
"""torch's names for what is seen beyond the border: black, the border's own colour, or the image mirrored."""


def rotation(angles: Tensor) -> Tensor:
    """(B,) degrees, counter-clockwise as seen -> (B, 2, 3) the map of each image's points."""
    return affine(-angles)


def affine(
    angles: Tensor, shift: Tensor | None = None, scale: Tensor | None = None, shear: Tensor | None = None
) -> Tensor:
    """(B, 2, 3) float64: where each point of the image goes.

    Sheared along x and then y by `shear` (B, 2) in degrees, rotated clockwise by `angles` (B,), scaled by `scale` (B,),
    moved by `shift` (B, 2) in pixels: torchvision's order.
    """
    turn = torch.deg2rad(angles.double())
    rotate = _matrix(turn.cos(), -turn.sin(), turn.sin(), turn.cos())
    if shear is not None:
        slope = torch.deg2rad(shear.double()).tan()
        one, zero = torch.ones_like(turn), torch.zeros_like(turn)
        rotate = rotate @ _matrix(one, zero, -slope[:, 1], one) @ _matrix(one, -slope[:, 0], zero, one)
    if scale is not None:
        rotate = rotate * scale.double()[:, None, None]
    moved = torch.zeros_like(turn)[:, None].expand(-1, 2) if shift is None else shift.double()
    return torch.cat([rotate, moved[:, :, None]], dim=2)


def warp(images: Tensor, maps: Tensor, *, padding_mode: PaddingMode = "zeros") -> Tensor:
    """Images (B, 3, H, W) under `maps` (B, 2, 3), sampled bilinearly; size and type stay."""
    height, width = images.shape[2:]
    back = torch.linalg.inv(maps[:, :, :2])  # from a pixel of the result to the place it is read from
    read_from = torch.cat([back, -back @ maps[:, :, 2:]], dim=2)
    # affine_grid's own unit is half the image's side.
    half = torch.tensor([width / 2, height / 2], dtype=torch.float64)
    theta = read_from * torch.cat([half, half.new_ones(1)]) / half[:, None]
    grid = F.affine_grid(beside(theta.float(), images), list(images.shape), align_corners=False)
    sampled = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode=padding_mode, align_corners=False)
    return like(sampled, images)


def _matrix(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """(B,) each -> (B, 2, 2) [[a, b], [c, d]]."""
    return torch.stack([torch.stack([a, b], dim=1), torch.stack([c, d], dim=1)], dim=1)
