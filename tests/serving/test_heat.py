import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sightline.preprocess import Preprocess
from sightline.serving.heat import GRID, heat_map, occluded, window


def test_the_heat_is_where_the_answer_hangs() -> None:
    """A model that looks at one corner alone."""
    preprocess = Preprocess(image_size=32, resize=32)
    pixels = np.full((3, 32, 32), 250, np.uint8)
    images = occluded(pixels, preprocess)
    assert images.shape == (1 + GRID * GRID, 3, 32, 32)
    assert (images[0] == pixels).all()
    found = heat_map(pixels, images[:, :, 2:6, 26:30].mean((1, 2, 3)) / 256)
    assert np.unravel_index(found.grid.argmax(), found.grid.shape) in [(0, 7), (0, 6), (1, 7), (1, 6)]
    assert found.grid[4:, :4] == pytest.approx(0)
    assert found.grid[0, 7] > 0.5


def test_an_answer_that_hangs_on_nothing_has_no_heat() -> None:
    found = heat_map(np.zeros((3, 16, 16), np.uint8), np.ones(1 + GRID * GRID))
    assert found.grid == pytest.approx(0)


@pytest.mark.parametrize("size", [(40, 30), (30, 40), (32, 32), (500, 20), (20, 500), (33, 47)])
def test_the_window_is_what_the_network_sees(size: tuple[int, int]) -> None:
    preprocess = Preprocess(image_size=16, resize=20)
    left, top, width, height = window(size, preprocess)
    columns, rows = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    image = Image.fromarray(np.stack([columns, rows, columns], axis=2).astype(np.uint8))
    seen: NDArray[np.uint8] = preprocess.pixels(image)
    assert seen[8, 8, 0] / 255 == pytest.approx(left + width * 8.5 / 16, abs=0.03)
    assert seen[8, 8, 1] / 255 == pytest.approx(top + height * 8.5 / 16, abs=0.03)
    assert seen[0, 0, 0] / 255 == pytest.approx(left + width * 0.5 / 16, abs=0.03)
    assert seen[0, 0, 1] / 255 == pytest.approx(top + height * 0.5 / 16, abs=0.03)
