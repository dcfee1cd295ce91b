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


def leads(lead: float) -> NDArray[np.float64]:
    """(1 + GRID * GRID,) how far a class's logit is ahead: by `lead`, and by 2 less where the first part is covered."""
    return lead - np.where(np.arange(1 + GRID * GRID) == 1, 2.0, 0.0)


@pytest.mark.parametrize("lead", [0.0, 25.0, 30.0])
def test_a_nearly_certain_answer_has_the_heat_of_any_other(lead: float) -> None:
    probabilities = 1 / (1 + np.exp(-leads(lead)))
    found = heat_map(np.zeros((3, 16, 16), np.uint8), probabilities)
    assert found.grid[0, 0] == pytest.approx(0.5, rel=0.05)  # four squares cover the corner
    assert found.grid[4:, 4:] == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("lead", [0.0, 50.0, 600.0, -600.0])
def test_the_other_classes_tell_how_certain_an_answer_is(lead: float) -> None:
    others = 1 / (1 + np.exp(leads(lead)))
    found = heat_map(np.zeros((3, 16, 16), np.uint8), 1 / (1 + np.exp(-leads(lead))), others)
    assert found.grid[0, 0] == pytest.approx(0.5)
    assert found.grid[4:, 4:] == pytest.approx(0)


def test_answers_at_both_ends_have_numbers_for_heat() -> None:
    probabilities = np.tile([1.0, 0.0], GRID * GRID)[: 1 + GRID * GRID]
    for others in (None, 1 - probabilities):
        assert np.isfinite(heat_map(np.zeros((3, 16, 16), np.uint8), probabilities, others).grid).all()


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
