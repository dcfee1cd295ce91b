"""Pictures small enough to be part of a page."""

from base64 import b64encode
from io import BytesIO

from PIL import Image

PIXELATED = 64
"""Images up to this side are kept pixel for pixel, as PNG: JPEG would blur what there is."""


SIDE = 192
"""Pixels of the square that a picture is shrunk to fit."""


def shrunk(image: Image.Image) -> Image.Image:
    """A copy in RGB that fits the square; never enlarged."""
    thumbnail = image.convert("RGB")
    thumbnail.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return thumbnail


def data_uri(image: Image.Image) -> str:
    """The image as a data: address for <img src>, shrunk."""
    thumbnail = shrunk(image)
    buffer = BytesIO()
    if max(thumbnail.size) <= PIXELATED:
        thumbnail.save(buffer, "PNG", optimize=True)
        return encode(buffer.getvalue(), "image/png")
    thumbnail.save(buffer, "JPEG", quality=82)
    return encode(buffer.getvalue(), "image/jpeg")


def encode(content: bytes, media_type: str) -> str:
    """A file's bytes as a data: address."""
    return f"data:{media_type};base64,{b64encode(content).decode()}"
