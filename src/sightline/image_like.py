"""What a caller may give for an image, and how it is read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline.decode import BROKEN, decode, first_line, upright_rgb
from sightline.errors import UnreadableImageError

ImageLike: TypeAlias = str | Path | bytes | Image.Image | NDArray[Any]
"""A file's path, a file's bytes, a Pillow image in any mode, or an array (H, W), (H, W, 3) or (H, W, 4) of uint8."""


def reader(image: ImageLike) -> Callable[[int], Image.Image]:
    """What gives the image, of so many pixels at most where it is a file; a path is read here, once.

    Raises UnreadableImageError, as what it returns does.
    """
    if isinstance(image, Image.Image):
        return lambda _: _checked(image)
    if isinstance(image, np.ndarray):
        return lambda _: _from_array(image)
    if isinstance(image, bytes):
        return lambda most: decode(image, max_pixels=most)
    if not isinstance(image, str | Path):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers needn't check types
        raise UnreadableImageError(f"expected a path, bytes, a Pillow image or an array, got {type(image).__name__}")
    try:
        content = Path(image).read_bytes()
    except OSError as error:
        raise UnreadableImageError(error.strerror or str(error)) from error
    except ValueError as error:  # a null character, or a surrogate that no bytes stand for
        raise UnreadableImageError(f"no file can have this name: {error}") from error
    return lambda most: decode(content, max_pixels=most)


def _from_array(array: NDArray[Any]) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise UnreadableImageError(
            f"an array must be uint8 of shape (H, W), (H, W, 3) or (H, W, 4), got {array.dtype} of shape {array.shape}"
        )
    return _checked(Image.fromarray(array))


def _checked(image: Image.Image) -> Image.Image:
    if 0 in image.size:
        raise UnreadableImageError("the image has no pixels")
    try:
        return upright_rgb(image.copy())
    except MemoryError as error:
        raise UnreadableImageError("too large for the memory") from error
    except BROKEN as error:  # a file that is damaged and only decoded here, or an image that was closed
        raise UnreadableImageError(first_line(error)) from error
