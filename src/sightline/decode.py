"""Bytes to an upright RGB image, in one stated way for training, evaluation and serving.

Orientation: the EXIF tag is applied; an EXIF block that can't be read counts as none. Colour:

| stored as                 | becomes RGB by                                              |
|---------------------------|-------------------------------------------------------------|
| grey, bilevel             | repeating the channel                                       |
| palette                   | looking it up                                               |
| alpha, transparent colour | compositing over white                                      |
| CMYK, YCbCr, Lab, HSV     | Pillow's conversion                                         |
| 16-bit grey               | dividing by 257, so that 65535 becomes 255                  |
| 16-bit colour             | Pillow's decoder, which keeps the upper 8 bits              |
| floating point            | refused: its range isn't stated in the file                 |

An animation gives its first frame. The format is found from the content, never from the name.
"""

import struct
import threading
import zlib
from collections.abc import Callable
from io import BytesIO
from typing import TypeVar

import numpy as np
from PIL import ExifTags, Image

from sightline.errors import UnreadableImageError
from sightline.jpeg import plain_jpeg

Result = TypeVar("Result")

MAX_PIXELS = 89_478_485
"""Larger images are refused unread: a few kilobytes can unpack to gigabytes. Pillow's own bound."""

LARGE_PIXELS = 12_500_000
"""Larger images are decoded one at a time: several of the largest allowed at once would fill the memory."""

_one_large = threading.Lock()

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".jp2", ".avif", ".mpo"}
)
"""What counts as an image by name when a folder is listed, in lower case."""

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")
"""Formats with a decoder inside Pillow; none of them starts another program (EPS would). JPEG covers MPO."""

BROKEN = (
    *(OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, ArithmeticError, RuntimeError),
    *(struct.error, zlib.error),
)
"""What Pillow's decoders raise on damaged files; found by damaging files of every format."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image upright, by its EXIF orientation. Source: CIPA DC-008 (Exif 2.32), section 4.6.4, tag 0112."""


class TooManyPixelsError(UnreadableImageError):
    """An image whose header states more pixels than allowed; nothing of it was decoded."""


def large_alone(read: Callable[[int], Result], max_pixels: int = MAX_PIXELS) -> Result:
    """`read(max_pixels)`, for threads that decode beside each other: a large image is read by one of them at a time.

    `read` raises TooManyPixelsError where the image has more pixels than it is told.
    """
    try:
        return read(min(max_pixels, LARGE_PIXELS))
    except TooManyPixelsError:
        if max_pixels <= LARGE_PIXELS:
            raise
    with _one_large:
        return read(max_pixels)


def decode(content: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The image as upright 8-bit RGB, from a file's bytes.

    Raises UnreadableImageError with the reason when it can't be decoded or is larger than `max_pixels`.
    """
    pixels = plain_jpeg(content, max_pixels)
    if pixels is not None:
        return Image.fromarray(pixels)
    return upright_rgb(open_image(content, max_pixels=max_pixels))


def open_image(content: bytes, *, max_pixels: int = MAX_PIXELS, load: bool = True) -> Image.Image:
    """The decoded image in its stored mode and orientation, or its header alone. Raises UnreadableImageError."""
    if not content:
        raise UnreadableImageError("the file is empty")
    try:
        image = Image.open(BytesIO(content), formats=_FORMATS)
        _check_size(image, max_pixels)
        if load:
            image.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImageError(f"more than {MAX_PIXELS:,} pixels") from error
    except Image.UnidentifiedImageError as error:
        raise UnreadableImageError("not an image in a known format") from error
    except MemoryError as error:
        raise UnreadableImageError("too large for the memory") from error
    except BROKEN as error:
        raise UnreadableImageError(first_line(error)) from error
    return image


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) to 8; 1 where none is stated, or the EXIF block can't be read."""
    try:
        stated = image.getexif().get(ExifTags.Base.Orientation, 1)
    except BROKEN:
        return 1
    return stated if stated in _TURNS else 1


def upright_rgb(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation and convert to 8-bit RGB (see the table above). The given image stays as it is."""
    turn = _TURNS.get(orientation(image))
    try:
        return _rgb(image if turn is None else image.transpose(turn))
    except MemoryError as error:
        raise UnreadableImageError("too large for the memory") from error
    except BROKEN as error:
        raise UnreadableImageError(first_line(error)) from error


def first_line(error: Exception) -> str:
    """What a decoder says is wrong, in one line."""
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


def _check_size(image: Image.Image, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise TooManyPixelsError(f"{image.width}x{image.height} is more than {max_pixels:,} pixels")


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _from_16_bits(image)
    if image.mode == "F":
        raise UnreadableImageError("floating-point pixels, whose range isn't stated in the file")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        background = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(background, image).convert("RGB")
    return image.convert("RGB")


def _from_16_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise UnreadableImageError("32-bit pixels, whose range isn't stated in the file")
    grey = np.rint(values / 257).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")
