"""What one look at an image file tells: size, mode, content hashes, or why it can't be read."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline.data.table import Source
from sightline.decode import BROKEN, MAX_PIXELS, open_image, orientation, upright_rgb
from sightline.errors import UnreadableImageError
from sightline.jpeg import plain_jpeg

_SIDE = 32
_LOW = 8
"""The hash looks at the _LOW x _LOW lowest frequencies of a _SIDE x _SIDE thumbnail."""

_FLAT = 4.0
"""A thumbnail whose grey values' standard deviation is less shows too little to be told from others."""

SMALLEST = 32
"""Images with a shorter side have no perceptual hash: so few pixels are alike without being the same picture."""


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """One file of a table. What could not be found out is 0, "" or None."""

    path: str
    num_bytes: int = 0
    sha256: str = ""
    """Of the file's bytes, in hexadecimal."""
    width: int = 0
    """As stored, before the EXIF orientation is applied, in pixels."""
    height: int = 0
    mode: str = ""
    """Pillow's name for how colours are stored: RGB, L, P, CMYK, I;16, ..."""
    format: str = ""
    """Found from the content: JPEG, PNG, ..."""
    orientation: int = 1
    """The EXIF orientation, 1 to 8; 1 is upright."""
    animated: bool = False
    phash: int | None = None
    """64-bit perceptual hash; None for images that are too small or too flat for one."""
    error: str | None = None
    """Why the image can't be used; None when it can."""

    @property
    def digest(self) -> str:
        """16 digits of `sha256`, enough to tell the images of a set apart."""
        return self.sha256[:16]


def look(source: Source, path: str) -> ImageFacts:
    """Read and decode one file in full, exactly as training will."""
    try:
        content = source.read(path)
    except UnreadableImageError as error:
        return ImageFacts(path, error=str(error))
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        pixels = plain_jpeg(content, MAX_PIXELS)
        image = open_image(content, load=pixels is None)
        upright = upright_rgb(image) if pixels is None else Image.fromarray(pixels)
    except UnreadableImageError as error:
        return ImageFacts(path, num_bytes=len(content), sha256=sha256, error=str(error))
    return ImageFacts(
        path,
        num_bytes=len(content),
        sha256=sha256,
        width=image.width,
        height=image.height,
        mode=image.mode,
        format=image.format or "",
        orientation=orientation(image),
        animated=_is_animated(image),
        phash=perceptual_hash(upright),
    )


def perceptual_hash(image: Image.Image) -> int | None:
    """64 bits that stay nearly the same when an upright image is resized or compressed again.

    Each bit is the sign of one of the lowest frequencies of the grey thumbnail's cosine transform, without
    the constant. Frequencies that are all but absent count as 0, so that noise doesn't decide.

    Source: Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions (2010), section 3.2.1,
    with the sign for the median and a whole image for 8-bit blocks.
    """
    if min(image.size) < SMALLEST:
        return None
    thumbnail = _thumbnail(image).astype(np.float32)
    values = thumbnail.ravel()
    variance = values @ values / values.size - (values.sum() / values.size) ** 2
    if variance < _FLAT**2:
        return None
    spectrum = _COSINES @ thumbnail @ _COSINES.T  # (_LOW, _LOW)
    bits = np.packbits(spectrum.ravel() > _PRESENT)
    return int.from_bytes(bits.tobytes(), "big") & ~(1 << 63)  # the first bit is the constant's


def _thumbnail(image: Image.Image) -> NDArray[np.uint8]:
    """(_SIDE, _SIDE), grey."""
    factor = min(image.size) // (2 * _SIDE)
    if factor > 1:
        image = image.reduce(factor)  # box filter: most of a large image's pixels go at once
    if image.size != (_SIDE, _SIDE):
        image = image.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    return np.frombuffer(image.convert("L").tobytes(), dtype=np.uint8).reshape(_SIDE, _SIDE)


_COSINES = np.cos(np.pi / _SIDE * np.outer(np.arange(_LOW), np.arange(_SIDE) + 0.5)).astype(np.float32)
"""(_LOW, _SIDE): the lowest rows of the cosine transform (DCT-II), unscaled."""

_PRESENT = 16.0
"""Over three times the noise that rounding to whole grey values leaves in a frequency: 0.29 (uniform) times 32 / 2."""


def _is_animated(image: Image.Image) -> bool:
    if image.format == "MPO":  # a phone's photo with a depth or gain map behind it
        return False
    try:
        return bool(getattr(image, "is_animated", False))
    except BROKEN:  # Pillow seeks a GIF's second frame to tell: it is there, and damaged
        return True
