"""One image of a request as the pixels that the network sees, by the same code as training and `predict`."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline.decode import decode, large_alone, upright_rgb
from sightline.errors import UnreadableImageError
from sightline.preprocess import Preprocess

Source: TypeAlias = bytes | NDArray[np.uint8]
"""A file's bytes, or pixels (H, W, 3) that a client decoded."""


def decoded(source: Source, preprocess: Preprocess, max_pixels: int) -> NDArray[np.uint8]:
    """(3, image_size, image_size). Raises UnreadableImageError."""
    return decoded_with_size(source, preprocess, max_pixels)[0]


def decoded_with_size(
    source: Source, preprocess: Preprocess, max_pixels: int
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """The same, and the upright image's width and height."""
    return large_alone(lambda most: _window(source, preprocess, most), max_pixels)


def _window(source: Source, preprocess: Preprocess, max_pixels: int) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    image = decode(source, max_pixels=max_pixels) if isinstance(source, bytes) else _from_array(source)
    return preprocess.pixels(image).transpose(2, 0, 1), image.size


def _from_array(pixels: NDArray[np.uint8]) -> Image.Image:
    if 0 in pixels.shape:
        raise UnreadableImageError("the image has no pixels")
    return upright_rgb(Image.fromarray(pixels))
