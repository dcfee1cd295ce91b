"""Plain JPEGs take a shorter way than Pillow's, to the same pixels or the same refusal."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sightline.decode import MAX_PIXELS, decode, open_image, upright_rgb
from sightline.errors import UnreadableImageError
from sightline.jpeg import plain_jpeg


def photo(width: int = 61, height: int = 43) -> Image.Image:
    """Smooth colours with some noise, so that every step of the decoder has something to do."""
    rng = np.random.default_rng(0)
    waves = np.sin(np.linspace(0, 9, height))[:, None, None] * np.cos(np.linspace(0, 7, width))[None, :, None]
    pixels = 128 + 90 * waves * np.array([1, -0.5, 0.3]) + rng.normal(0, 12, (height, width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def jpeg(image: Image.Image, **settings: Any) -> bytes:
    file = BytesIO()
    image.save(file, "JPEG", **settings)
    return file.getvalue()


def by_pillow(content: bytes) -> np.ndarray[Any, Any] | str:
    try:
        return np.asarray(upright_rgb(open_image(content)))
    except UnreadableImageError as error:
        return str(error)


@pytest.mark.parametrize("size", [(61, 43), (16, 16), (1, 1), (8, 100), (333, 257)])
@pytest.mark.parametrize("quality", [20, 75, 100])
@pytest.mark.parametrize(
    "settings",
    [{"subsampling": 0}, {"subsampling": 1}, {"subsampling": 2}, {"progressive": True}, {"restart_marker_rows": 1}],
)
def test_the_pixels_are_pillow_s(settings: dict[str, Any], quality: int, size: tuple[int, int]) -> None:
    content = jpeg(photo(*size), quality=quality, **settings)
    pixels = plain_jpeg(content, MAX_PIXELS)
    assert pixels is not None
    np.testing.assert_array_equal(pixels, by_pillow(content))
    np.testing.assert_array_equal(np.asarray(decode(content)), pixels)


def test_grey_repeats_its_channel_as_pillow_s_does() -> None:
    content = jpeg(photo().convert("L"))
    pixels = plain_jpeg(content, MAX_PIXELS)
    assert pixels is not None
    np.testing.assert_array_equal(pixels, by_pillow(content))


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return jpeg(photo(), exif=exif)


def after(content: bytes, more: bytes) -> bytes:
    """A JPEG with something more right behind its first marker."""
    return content[:2] + more + content[2:]


def misleading() -> bytes:
    """A segment that holds what looks like the start of the pixels, before the one that states the orientation."""
    inside = b"\xff\xda\x00\x02\xff\xda"
    return after(turned(), b"\xff\xe2" + (2 + len(inside)).to_bytes(2) + inside)


XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("EXIF", turned()),
        ("XMP", jpeg(photo(), xmp=XMP)),
        ("EXIF behind a segment like pixels", misleading()),
        ("EXIF behind a byte too many", after(turned(), b"\xff")),
        ("EXIF behind a segment without an end", after(turned(), b"\xff\xe2\x00\x00")),
        ("four colours", jpeg(photo().convert("CMYK"))),
        ("RGB as it is", jpeg(photo(), keep_rgb=True)),
        ("cut short", jpeg(photo())[:-40]),
        ("a PNG", b"\x89PNG\r\n\x1a\n"),
        ("nothing", b""),
    ],
)
def test_whatever_is_not_plain_is_left_to_pillow(name: str, content: bytes) -> None:
    assert plain_jpeg(content, MAX_PIXELS) is None, name


def test_too_many_pixels_are_left_to_pillow_undecoded() -> None:
    assert plain_jpeg(jpeg(photo(61, 43)), 61 * 43 - 1) is None
    assert plain_jpeg(jpeg(photo(61, 43)), 61 * 43) is not None


def test_damaged_files_get_pillow_s_pixels_or_pillow_s_reason() -> None:
    rng = np.random.default_rng(1)
    originals = [jpeg(photo(), quality=quality, progressive=bool(quality % 2)) for quality in (30, 75, 91)]
    taken = 0
    for _ in range(400):
        content = bytearray(originals[rng.integers(3)])
        for place in rng.integers(2, len(content), rng.integers(1, 4)):
            content[place] = rng.integers(256)
        pixels = plain_jpeg(bytes(content), MAX_PIXELS)
        if pixels is not None:
            taken += 1
            np.testing.assert_array_equal(pixels, by_pillow(bytes(content)))
    assert taken > 100
