import io
import random
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sightline.decode import MAX_PIXELS, decode, open_image, orientation, upright_rgb
from sightline.errors import UnreadableImageError

CORNERS = (
    np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], dtype=np.uint8).repeat(8, 0).repeat(12, 1)
)
"""(16, 24, 3): red and green above, blue and white below."""


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, form, **options)
    return content.getvalue()


def decoded(image: Image.Image, form: str = "PNG", **options: Any) -> np.ndarray:
    """(H, W, 3) of what comes back."""
    result = decode(encoded(image, form, **options))
    assert result.mode == "RGB"
    return np.asarray(result)


def ramp() -> np.ndarray:
    """(16, 16) of every value from 0 to 255."""
    return np.arange(256, dtype=np.uint8).reshape(16, 16)


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM", "WEBP", "GIF", "JPEG2000"])
def test_lossless_formats_give_back_their_pixels(form: str) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    np.testing.assert_array_equal(decoded(Image.fromarray(CORNERS), form, **options), CORNERS)


@pytest.mark.parametrize("form", ["JPEG", "AVIF"])
def test_lossy_formats_give_nearly_their_pixels(form: str) -> None:
    difference = decoded(Image.fromarray(CORNERS), form, quality=95, subsampling="4:4:4").astype(int) - CORNERS
    assert np.abs(difference).mean() < 8


STORED = {
    1: CORNERS,
    2: CORNERS[:, ::-1],
    3: CORNERS[::-1, ::-1],
    4: CORNERS[::-1],
    5: CORNERS.transpose(1, 0, 2),
    6: CORNERS.transpose(1, 0, 2)[::-1],
    7: CORNERS.transpose(1, 0, 2)[::-1, ::-1],
    8: CORNERS.transpose(1, 0, 2)[:, ::-1],
}
"""What a camera stores so that its EXIF orientation makes CORNERS of it (Exif 2.32, tag 0112)."""


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("value", STORED)
def test_every_exif_orientation_comes_out_upright(value: int, form: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    options = {"lossless": True} if form == "WEBP" else {}
    image = Image.fromarray(np.ascontiguousarray(STORED[value]))
    np.testing.assert_array_equal(decoded(image, form, exif=exif, **options), CORNERS)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_upright(value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    np.testing.assert_array_equal(decoded(Image.fromarray(CORNERS), exif=exif), CORNERS)


def test_an_exif_block_that_cannot_be_read_counts_as_none() -> None:
    assert decode(encoded(Image.fromarray(CORNERS), "JPEG", exif=b"Exif\0\0no such thing")).size == (24, 16)


def test_making_an_image_upright_leaves_the_given_one_as_it_was() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = open_image(encoded(Image.fromarray(CORNERS), exif=exif))
    assert upright_rgb(image).size == (16, 24)
    assert image.size == (24, 16)
    assert orientation(image) == 6


def test_grey_and_bilevel_repeat_their_channel() -> None:
    grey = Image.fromarray(ramp())
    np.testing.assert_array_equal(decoded(grey), ramp()[:, :, None].repeat(3, 2))
    bilevel = grey.convert("1")
    np.testing.assert_array_equal(decoded(bilevel), np.asarray(bilevel.convert("L"))[:, :, None].repeat(3, 2))


def test_a_palette_is_looked_up() -> None:
    np.testing.assert_array_equal(decoded(Image.fromarray(CORNERS).quantize(4)), CORNERS)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_alpha_is_composited_over_white(form: str) -> None:
    pixels = np.zeros((1, 3, 4), dtype=np.uint8)
    pixels[0, :, 3] = (0, 128, 255)
    assert decoded(Image.fromarray(pixels), form)[0].tolist() == [[255] * 3, [127] * 3, [0] * 3]
    grey = Image.fromarray(np.ascontiguousarray(pixels[:, :, [0, 3]]), "LA")
    assert decoded(grey, form)[0].tolist() == [[255] * 3, [127] * 3, [0] * 3]


def test_a_transparent_colour_becomes_white_in_palette_grey_and_rgb() -> None:
    palette = Image.fromarray(CORNERS).quantize(4)
    index = palette.getpixel((0, 0))
    assert decoded(palette, transparency=index)[0, 0].tolist() == [255, 255, 255]
    assert decoded(Image.new("L", (2, 2), 7), transparency=7)[0, 0].tolist() == [255, 255, 255]
    colour = decoded(Image.fromarray(CORNERS), transparency=(255, 0, 0))
    assert colour[0, 0].tolist() == [255, 255, 255]
    assert colour[0, -1].tolist() == [0, 255, 0]


def test_several_transparent_palette_entries_are_each_composited() -> None:
    palette = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), "P")
    palette.putpalette([0, 0, 0, 0, 0, 0])
    assert decoded(palette, transparency=bytes([0, 128]))[0].tolist() == [[255] * 3, [127] * 3]


def test_cmyk_becomes_rgb() -> None:
    inks = Image.fromarray(CORNERS).convert("CMYK")
    np.testing.assert_array_equal(decoded(inks, "TIFF"), CORNERS)
    assert np.abs(decoded(inks, "JPEG", quality=95).astype(int) - CORNERS).mean() < 8


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_divided_by_257(form: str) -> None:
    deep = ramp().astype(np.uint16) * 257
    np.testing.assert_array_equal(decoded(Image.fromarray(deep), form)[:, :, 0], ramp())


def test_big_endian_sixteen_bit_grey_is_the_same_as_little_endian() -> None:
    deep = ramp().astype(np.uint16) * 257
    header = b"P5 16 16 65535\n"
    np.testing.assert_array_equal(np.asarray(decode(header + deep.astype(">u2").tobytes()))[:, :, 0], ramp())


def test_sixteen_bit_colour_keeps_the_upper_eight_bits() -> None:
    pixel = struct.pack(">HHH", 65535, 0x80FF, 0x0001)
    content = png(1, 1, b"\0" + pixel, depth=16, colour=2)
    assert np.asarray(decode(content)).tolist() == [[[255, 128, 0]]]


def test_pixels_without_a_stated_range_are_refused() -> None:
    with pytest.raises(UnreadableImageError, match="floating-point pixels, whose range isn't stated"):
        decode(encoded(Image.fromarray(np.ones((4, 4), dtype=np.float32)), "TIFF"))
    with pytest.raises(UnreadableImageError, match="32-bit pixels, whose range isn't stated"):
        decode(encoded(Image.fromarray(np.full((4, 4), 70_000, dtype=np.int32)), "TIFF"))
    small = np.full((4, 4), 65_535, dtype=np.int32)
    assert decoded(Image.fromarray(small), "TIFF")[0, 0].tolist() == [255] * 3


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "lime", "blue")]
    assert decoded(frames[0], "GIF", save_all=True, append_images=frames[1:])[0, 0].tolist() == [255, 0, 0]


def test_a_phones_photo_with_a_second_image_behind_it_gives_the_first() -> None:
    first, second = Image.new("RGB", (9, 9), "red"), Image.new("RGB", (9, 9), "blue")
    red, _, blue = decoded(first, "MPO", save_all=True, append_images=[second])[0, 0].tolist()
    assert red > 200
    assert blue < 50


def test_the_format_is_found_from_the_content_and_not_from_a_name() -> None:
    assert open_image(encoded(Image.fromarray(CORNERS), "GIF")).format == "GIF"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"just a note, saved as photo.jpg", "not an image in a known format"),
        (b"\x89PNG\r\n\x1a\n", "not an image in a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image in a known format"),
    ],
)
def test_what_is_no_image_says_so(content: bytes, reason: str) -> None:
    with pytest.raises(UnreadableImageError) as error:
        decode(content)
    assert str(error.value) == reason


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "JPEG2000", "AVIF", "PPM"])
def test_half_a_file_is_unreadable(form: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = encoded(Image.fromarray(noise), form)
    with pytest.raises(UnreadableImageError):
        decode(content[: len(content) // 2])


def png(width: int, height: int, rows: bytes, *, depth: int = 8, colour: int = 0) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(40_000, 40_000), (10_000, 9_000), (MAX_PIXELS + 1, 1)])
def test_a_decompression_bomb_is_refused_before_it_is_unpacked(width: int, height: int) -> None:
    bomb = png(width, height, bytes(1_000_000))
    with pytest.raises(UnreadableImageError, match="more than 89,478,485 pixels"):
        decode(bomb)


def test_a_long_strip_is_read() -> None:
    assert decode(png(1, 5000, b"\0\7" * 5000)).size == (1, 5000)
    assert decode(png(5000, 1, b"\0" + b"\7" * 5000)).size == (5000, 1)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about what it finds in the damage
@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "JPEG2000", "AVIF", "PPM"])
def test_damage_of_any_kind_is_unreadable_or_an_rgb_image_and_nothing_else(form: str) -> None:
    draws = random.Random(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"exif": exif} if form in {"JPEG", "PNG", "WEBP", "TIFF", "AVIF"} else {}
    whole = encoded(Image.fromarray(CORNERS), form, **options)
    reasons: list[str] = []
    for _ in range(300):
        content = bytearray(whole)
        span = len(content) if draws.random() < 0.5 else min(len(content), 100)
        for _ in range(draws.randint(1, 6)):
            content[draws.randrange(span)] = draws.choice([0, 1, 127, 255, draws.randrange(256)])
        try:
            assert decode(bytes(content)).mode == "RGB"
        except UnreadableImageError as error:
            reasons.append(str(error))
    assert reasons
    assert all(len(reason.splitlines()) == 1 for reason in reasons)
