"""Pixels to tensor: the same object in training, evaluation, export and serving.

An image is resized so that its short side is `resize` pixels, and its centre of `image_size` squared
is what a network sees in evaluation. Training sees the larger centre of `resize` squared, the canvas,
and crops its own windows from it; the evaluation window is the canvas's own centre, pixel for pixel.
What lies where is torchvision's Resize and CenterCrop, so published weights see what they expect; but what they would
cut off, a third of a photo, is not computed, for which a value here and there is rounded the other way.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline.decode import upright_rgb
from sightline.errors import RecipeError

if TYPE_CHECKING:  # an exported model is prepared for without torch
    from torch import Tensor

Interpolation: TypeAlias = Literal["bilinear", "bicubic"]
"""Pillow's antialiased filters of these names."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

LONGEST = 8
"""Images whose sides differ by a larger factor are cut to their centre before resizing."""

_IN_CACHE = 200_000
"""Pixels that are normalised at a time: few enough for a cache, enough that threads seldom wait for Python."""

_RESAMPLE: dict[Interpolation, Image.Resampling] = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """How an image becomes a network's input."""

    image_size: int
    """Side of the square a network sees, in pixels."""
    resize: int
    """Length of the short side after resizing, in pixels; at least image_size."""
    interpolation: Interpolation = "bilinear"
    """Pillow's antialiased filter of this name."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Subtracted from each channel (R, G, B) on the scale 0 to 1."""
    std: tuple[float, float, float] = IMAGENET_STD
    """Each channel is divided by it afterwards."""

    def __post_init__(self) -> None:
        if not 1 <= self.image_size <= self.resize:
            raise RecipeError(
                f"The image size ({self.image_size}) must be at least 1 and at most the resized side ({self.resize})."
            )
        if not all(map(math.isfinite, self.mean)):
            raise RecipeError(f"Every mean must be a number, got {self.mean}.")
        if not all(0 < value < math.inf for value in self.std):
            raise RecipeError(f"Every std must be a number greater than 0, got {self.std}.")

    @property
    def margin(self) -> int:
        """Where the evaluation window begins in the canvas, from the top and from the left, in pixels."""
        return round((self.resize - self.image_size) / 2)

    def canvas(self, image: Image.Image) -> NDArray[np.uint8]:
        """(resize, resize, 3) uint8: the resized image's centre, for training crops."""
        image, side = self._trimmed(image), self.resize
        short = min(image.size)
        width, height = image.width * side // short, image.height * side // short
        left = round((width - self.image_size) / 2) - self.margin
        top = round((height - self.image_size) / 2) - self.margin
        if image.size == (width, height):
            return np.array(image.crop((left, top, left + side, top + side)), dtype=np.uint8)
        across, down = image.width / width, image.height / height  # of the original, from one pixel to the next
        box = (left * across, top * down, (left + side) * across, (top + side) * down)
        return np.array(image.resize((side, side), _RESAMPLE[self.interpolation], box), dtype=np.uint8)

    def pixels(self, image: Image.Image) -> NDArray[np.uint8]:
        """(image_size, image_size, 3) uint8: what the network sees, before normalisation."""
        canvas, begin, end = self.canvas(image), self.margin, self.margin + self.image_size
        return canvas[begin:end, begin:end]

    def normalize(self, pixels: "Tensor", *, channels_last: bool = False) -> "Tensor":
        """(B, 3, H, W) uint8, or float on the scale 0 to 255 -> float32, normalised, on the same device.

        `channels_last` asks for torch's memory format of that name; the values are the same.
        """
        import torch

        if channels_last:
            return self._normalize_rows(pixels)
        mean, scale = (values.view(1, 3, 1, 1) for values in self._mean_and_scale(pixels))
        if pixels.dtype != torch.uint8:
            return (pixels.float() - mean) * scale
        return pixels.to(torch.float32, memory_format=torch.contiguous_format).sub_(mean).mul_(scale)

    def _normalize_rows(self, pixels: "Tensor") -> "Tensor":
        """`normalize` by whole rows of pixels, the channel innermost: on a CPU 3 values at a time would be slow."""
        import torch

        from sightline.native import pixels as native
        from sightline.threads import mapped

        height, width = pixels.shape[2:]
        channels = self._mean_and_scale(pixels)
        rows = pixels.permute(0, 2, 3, 1).reshape(-1, width * 3)
        values = torch.empty(rows.shape, dtype=torch.float32, device=pixels.device)
        step = _IN_CACHE // width + 1 if pixels.device.type == "cpu" else max(1, len(rows))

        def fill(parts: "tuple[Tensor, Tensor]") -> None:
            if not native.normalize(*parts, *channels):
                mean, scale = (of_a_channel.repeat(width) for of_a_channel in channels)  # (W * 3,)
                parts[1].copy_(parts[0]).sub_(mean).mul_(scale)

        mapped(fill, list(zip(rows.split(step), values.split(step), strict=True)))
        return values.view(-1, height, width, 3).permute(0, 3, 1, 2)

    def _mean_and_scale(self, pixels: "Tensor") -> "tuple[Tensor, Tensor]":
        """(3,) and (3,) on the pixels' device: what is subtracted, and what is multiplied by then."""
        import torch

        mean, scale = torch.tensor(self.mean).mul(255), torch.tensor(self.std).mul(255).reciprocal()
        both = torch.stack([mean, scale]).to(pixels.device, non_blocking=pixels.is_cuda)
        return both[0], both[1]

    def normalize_array(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, 3, H, W) uint8 -> float32, the very bits of `normalize`, without torch."""
        mean = np.array(self.mean, np.float32) * np.float32(255)
        scale = np.reciprocal(np.array(self.std, np.float32) * np.float32(255))
        images = pixels.astype(np.float32, order="C")
        images -= mean.reshape(1, 3, 1, 1)
        images *= scale.reshape(1, 3, 1, 1)
        return images

    def tensor(self, image: Image.Image) -> "Tensor":
        """(3, image_size, image_size) float32, ready for a network, from an image in any mode."""
        import torch

        pixels = torch.from_numpy(self.pixels(upright_rgb(image)))
        return self.normalize(pixels.permute(2, 0, 1)[None])[0]

    def _trimmed(self, image: Image.Image) -> Image.Image:
        """A strip more than LONGEST times as long as wide, cut to its centre: resized whole it could fill memory."""
        longest = LONGEST * min(image.size)
        if max(image.size) <= longest:
            return image
        width, height = min(image.width, longest), min(image.height, longest)
        left, top = (image.width - width) // 2, (image.height - height) // 2
        return image.crop((left, top, left + width, top + height))
