import itertools
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from sightline.errors import RecipeError
from sightline.preprocess import LONGEST, Preprocess


def noise(width: int, height: int) -> Image.Image:
    draws = np.random.default_rng(width * 10_007 + height)
    return Image.fromarray(draws.integers(0, 256, (height, width, 3), dtype=np.uint8))


SIZES = [
    (1, 1),
    (7, 5),
    (5, 7),
    (32, 32),
    (33, 47),
    (48, 31),
    (64, 64),
    (65, 64),
    (64, 67),
    (200, 131),
    (99, 301),
    (1, 8),
]
SQUARES = [(32, 32), (32, 37), (32, 36), (31, 36), (31, 37), (31, 31), (1, 1), (1, 2), (28, 64), (29, 33)]


@pytest.mark.parametrize(("image_size", "resize"), SQUARES)
def test_the_canvas_holds_the_evaluation_window_at_its_centre(image_size: int, resize: int) -> None:
    preprocess = Preprocess(image_size=image_size, resize=resize)
    margin = preprocess.margin
    for width, height in SIZES:
        image = noise(width, height)
        canvas, pixels = preprocess.canvas(image), preprocess.pixels(image)
        assert canvas.shape == (resize, resize, 3)
        assert pixels.shape == (image_size, image_size, 3)
        window = canvas[margin : margin + image_size, margin : margin + image_size]
        np.testing.assert_array_equal(window, pixels, err_msg=f"{width}x{height}")


@pytest.mark.parametrize("side", range(20, 45))
def test_the_canvas_never_reaches_over_the_edge(side: int) -> None:
    white = Image.new("RGB", (side, 2 * side + 1), "white")  # what lay outside would be black
    for image_size, resize in itertools.product(range(side - 3, side), range(side, side + 4)):
        assert Preprocess(image_size=image_size, resize=resize).canvas(white).min() == 255


@pytest.mark.parametrize(("interpolation", "most"), [("bilinear", 1), ("bicubic", 15)])
@pytest.mark.parametrize(("image_size", "resize"), SQUARES)
def test_pixels_are_torchvisions_but_for_roundings(
    image_size: int, resize: int, interpolation: Literal["bilinear", "bicubic"], most: int
) -> None:
    """Pillow may resize the window's columns before its rows where it took the whole's rows first.

    What lies between is rounded and, by bicubic in noise, cut off at white, at other places then.
    """
    preprocess = Preprocess(image_size=image_size, resize=resize, interpolation=interpolation)
    theirs = transforms.Compose(
        [transforms.Resize(resize, InterpolationMode(interpolation)), transforms.CenterCrop(image_size)]
    )
    for width, height in SIZES:
        image = noise(width, height)
        apart = np.abs(preprocess.pixels(image).astype(int) - np.asarray(theirs(image)).astype(int))
        assert apart.max() <= (0 if width == height else most), f"{width}x{height}"
        assert apart.mean() < 1, f"{width}x{height}"


def test_tensors_are_torchvisions() -> None:
    preprocess, image = Preprocess(image_size=64, resize=64), noise(64, 64)
    theirs = transforms.Compose([transforms.ToTensor(), transforms.Normalize(preprocess.mean, preprocess.std)])
    torch.testing.assert_close(preprocess.tensor(image), theirs(image), atol=2e-6, rtol=0)


def test_bytes_and_floats_on_the_same_scale_are_normalised_alike() -> None:
    preprocess = Preprocess(image_size=4, resize=4)
    pixels = torch.arange(48, dtype=torch.uint8).reshape(1, 3, 4, 4)
    torch.testing.assert_close(preprocess.normalize(pixels), preprocess.normalize(pixels.float()), atol=0, rtol=0)


def test_a_strip_is_cut_before_it_is_resized() -> None:
    preprocess = Preprocess(image_size=224, resize=256)
    for size in ((1, 5000), (5000, 1)):  # resized whole it would have 1,280,000 pixels on a side
        assert preprocess.canvas(Image.new("RGB", size, "white")).min() == 255


def test_a_strip_keeps_its_centre() -> None:
    stripes = np.zeros((10, 1001, 3), dtype=np.uint8)
    stripes[:, 501 - 5 * LONGEST : 501 + 5 * LONGEST] = 255
    assert Preprocess(image_size=8, resize=8).pixels(Image.fromarray(stripes)).min() == 255


def test_an_image_in_any_mode_and_orientation_can_be_given_and_stays_as_it_was() -> None:
    image = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6))
    image.getexif()[0x0112] = 6
    preprocess = Preprocess(image_size=4, resize=4)
    upright = image.transpose(Image.Transpose.ROTATE_270).convert("RGB")
    upright.getexif().clear()
    torch.testing.assert_close(preprocess.tensor(image), preprocess.tensor(upright))
    assert (image.size, image.mode) == ((6, 4), "L")


@pytest.mark.parametrize(("image_size", "resize"), [(0, 8), (9, 8), (-1, 8)])
def test_sizes_that_do_not_fit_are_refused(image_size: int, resize: int) -> None:
    with pytest.raises(RecipeError, match=f"image size \\({image_size}\\)"):
        Preprocess(image_size=image_size, resize=resize)


def test_a_std_of_zero_is_refused() -> None:
    with pytest.raises(RecipeError, match="greater than 0"):
        Preprocess(image_size=8, resize=8, std=(0.2, 0.0, 0.2))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_normalising_for_channels_last_gives_the_same_bits(layout: torch.memory_format, dtype: torch.dtype) -> None:
    preprocess = Preprocess(image_size=8, resize=8)
    pixels = torch.randint(0, 256, (3, 3, 6, 8)).to(dtype).contiguous(memory_format=layout)
    before = pixels.clone()
    normalized = preprocess.normalize(pixels, channels_last=True)
    assert torch.equal(normalized, preprocess.normalize(pixels))
    assert normalized.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(pixels, before)
