"""The operations that AutoAugment and its heirs choose from, on uint8 images, each with its own magnitude.

Source: AutoAugment (Cubuk et al., CVPR 2019), appendix, table 6. What is uncovered is black, as in torchvision.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sightline.operations import beside, colour, like, per_image
from sightline.operations.warp import affine, rotation, warp

SIGNED = frozenset(
    ("shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "color", "contrast", "sharpness")
)
"""Operations whose magnitude is taken negative half of the time."""


@dataclass(frozen=True, kw_only=True)
class Space:
    """Which operations a method chooses from, and how far each goes."""

    largest: Mapping[str, float]
    """By operation, its magnitude at full strength; 0 where there is none. Shears are slopes, rotations degrees."""
    translate: Literal["share", "pixels"] = "share"
    """Unit of the translations: a share of the side, or pixels."""
    most_bits: int = 8
    """What posterize keeps of each channel at strength 0."""

    @property
    def names(self) -> tuple[str, ...]:
        """The operations in a stated order: draws choose by number."""
        return tuple(self.largest)

    def magnitudes(self, name: str, strengths: Tensor, *, height: int, width: int) -> Tensor:
        """(B,) float64: strengths 0 to 1 (negative where the sign was drawn so) in the operation's own unit."""
        reach = strengths.double() * self.largest[name]
        # Three decimals, where a whole number decides: float32 may have missed it by its last digit.
        if name == "posterize":
            return (self.most_bits - reach).round()
        if name == "solarize":
            return (255 * (1 - reach)).round(decimals=3)
        if name.startswith("translate"):
            side = {"translate_x": width, "translate_y": height}[name] if self.translate == "share" else 1
            return (reach * side).round(decimals=3).trunc()
        return reach


def apply_each(images: Tensor, space: Space, chosen: Tensor, strengths: Tensor) -> Tensor:
    """Each image (B, 3, H, W) uint8 after the operation it has chosen: `chosen` (B,) numbers one of `space.names`.

    `strengths` (B,) are -1 to 1; the sign plays no part in operations without one. Below 0, `chosen` leaves an image.
    """
    height, width = images.shape[2:]
    result = images.clone()
    for number, name in enumerate(space.names):
        rows = torch.nonzero(chosen == number)[:, 0]
        if len(rows) == 0 or name == "identity":
            continue
        picked = strengths[rows] if name in SIGNED else strengths[rows].abs()
        magnitudes = space.magnitudes(name, picked, height=height, width=width)
        places = beside(rows, images)
        result[places] = OPERATIONS[name](images[places], magnitudes)
    return result


def _shear(images: Tensor, slopes_x: Tensor, slopes_y: Tensor) -> Tensor:
    """Sheared about the top left corner, as the paper's own code does."""
    height, width = images.shape[2:]
    maps = torch.eye(2, 3, dtype=torch.float64).repeat(len(images), 1, 1)
    maps[:, 0, 1], maps[:, 1, 0] = -slopes_x, -slopes_y
    corner = torch.tensor([-width / 2, -height / 2], dtype=torch.float64)
    maps[:, :, 2] = corner - maps[:, :, :2] @ corner
    return warp(images, maps)


def _translate(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return warp(images, affine(torch.zeros_like(x), shift=torch.stack([x, y], dim=1)))


def _colour(adjust: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda images, magnitudes: like(adjust(images.float(), (1 + magnitudes).float()), images)


def _sharpness(images: Tensor, magnitudes: Tensor) -> Tensor:
    from torchvision.transforms.v2 import functional

    smooth = functional.adjust_sharpness(images, 0.0).float()
    return like(colour.blend(images.float(), smooth, (1 + magnitudes).float()), images)


def _posterize(images: Tensor, bits: Tensor) -> Tensor:
    return images & per_image(256 - 2 ** (8 - bits), images).to(torch.uint8)


def _solarize(images: Tensor, thresholds: Tensor) -> Tensor:
    return torch.where(images < per_image(thresholds, images), images, 255 - images)


def _auto_contrast(images: Tensor, _: Tensor) -> Tensor:
    from torchvision.transforms.v2 import functional

    return functional.autocontrast(images)


def _equalize(images: Tensor, _: Tensor) -> Tensor:
    from torchvision.transforms.v2 import functional

    return functional.equalize(images)


OPERATIONS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "identity": lambda images, _: images,
    "shear_x": lambda images, slopes: _shear(images, slopes, torch.zeros_like(slopes)),
    "shear_y": lambda images, slopes: _shear(images, torch.zeros_like(slopes), slopes),
    "translate_x": lambda images, pixels: _translate(images, pixels, torch.zeros_like(pixels)),
    "translate_y": lambda images, pixels: _translate(images, torch.zeros_like(pixels), pixels),
    "rotate": lambda images, degrees: warp(images, rotation(degrees)),
    "brightness": _colour(colour.adjust_brightness),
    "color": _colour(colour.adjust_saturation),
    "contrast": _colour(colour.adjust_contrast),
    "sharpness": _sharpness,
    "posterize": _posterize,
    "solarize": _solarize,
    "auto_contrast": _auto_contrast,
    "equalize": _equalize,
    "invert": lambda images, _: 255 - images,
}
"""(images (B, 3, H, W) uint8, magnitudes (B,) in the operation's own unit) -> images."""
