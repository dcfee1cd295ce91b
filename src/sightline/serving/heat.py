"""Heat maps by occlusion: which parts of an image a class's probability hangs on.

A grey square is laid over each part in turn, and what the class's log-odds lose is the part's heat. It asks nothing
of the model but its answers, so that every engine and format can be explained.
Source: Visualizing and Understanding Convolutional Networks (Zeiler and Fergus, 2014), section 4.2, which plots the
probability; log-odds tell apart what a nearly certain network still distinguishes.
"""

from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline.preprocess import LONGEST, Preprocess

METHOD = "occlusion: what the class's log-odds lose when a grey square covers that part (Zeiler and Fergus, 2014)"

GRID = 8
"""Squares along each side."""
REACH = 1.0
"""How far a square reaches beyond its own part on each side, in parts: 1 covers three parts by three."""
STRONGEST = 0.65
"""Opacity of the hottest part in the picture."""
SUREST = 1e-14
"""How near to 1 a probability is believed: nearer, double precision rounds more than a hundredth of what is missing."""


_SMALLEST = np.finfo(np.float64).tiny


@dataclass(frozen=True)
class HeatMap:
    """What was found for one image and class."""

    grid: NDArray[np.float64]
    """(GRID, GRID): the mean loss of log-odds over the squares that cover the part; above 0 speaks for the class."""
    overlay: bytes
    """A PNG of what the network saw, with the heat over it."""


def occluded(pixels: NDArray[np.uint8], preprocess: Preprocess) -> NDArray[np.uint8]:
    """(3, S, S) -> (1 + GRID * GRID, 3, S, S): the image, then with the square over each part, row by row."""
    grey = np.rint(np.array(preprocess.mean) * 255).astype(np.uint8).reshape(3, 1, 1)
    images = np.repeat(pixels[None], 1 + GRID * GRID, axis=0)
    for number in range(GRID * GRID):
        rows, columns = _square(number, pixels.shape[1])
        images[1 + number, :, rows, columns] = grey
    return images


def heat_map(
    pixels: NDArray[np.uint8], probabilities: NDArray[np.float64], others: NDArray[np.float64] | None = None
) -> HeatMap:
    """From the image (3, S, S) and the class's probability for each of `occluded`'s images (1 + GRID * GRID,).

    `others` are the other classes' probabilities, added up, where an image has one label: of an answer that is nearly
    certain they tell how nearly, which its own probability rounds away. Left out, they are what is missing to 1.
    """
    against = np.maximum(1 - probabilities, SUREST) if others is None else np.maximum(others, _SMALLEST)
    odds = np.log(np.maximum(probabilities, _SMALLEST)) - np.log(against)
    losses = (odds[0] - odds[1:]).reshape(GRID, GRID)
    size = pixels.shape[1]
    sums, counts = np.zeros((size, size)), np.zeros((size, size))
    for number, loss in enumerate(losses.ravel()):
        rows, columns = _square(number, size)
        sums[rows, columns] += loss
        counts[rows, columns] += 1
    mean = sums / counts
    edges = np.linspace(0, size, GRID + 1).astype(int)
    middles = np.minimum((edges[:-1] + edges[1:]) // 2, size - 1)
    return HeatMap(mean[np.ix_(middles, middles)], _overlay(pixels, mean))


def window(size: tuple[int, int], preprocess: Preprocess) -> tuple[float, float, float, float]:
    """Left, top, width and height of what the network sees, as fractions of an upright image of `size` pixels."""
    longest = LONGEST * min(size)
    kept = min(size[0], longest), min(size[1], longest)
    short = min(kept)
    resized = kept[0] * preprocess.resize // short, kept[1] * preprocess.resize // short
    starts = [round((side - preprocess.image_size) / 2) / side for side in resized]
    spans = [preprocess.image_size / side for side in resized]
    shares = [part / whole for part, whole in zip(kept, size, strict=True)]
    left, top = ((1 - share) / 2 + start * share for share, start in zip(shares, starts, strict=True))
    return left, top, spans[0] * shares[0], spans[1] * shares[1]


def _square(number: int, size: int) -> tuple[slice, slice]:
    """Rows and columns of the square over part `number` of an image of `size` pixels."""
    part = size / GRID
    ranges: list[slice] = []
    for place in divmod(number, GRID):
        start, stop = (place - REACH) * part, (place + 1 + REACH) * part
        ranges.append(slice(max(0, round(start)), max(1, min(size, round(stop)))))
    return ranges[0], ranges[1]


def _overlay(pixels: NDArray[np.uint8], heat: NDArray[np.float64]) -> bytes:
    """Orange where a part speaks for the class; what speaks against it stays grey."""
    warm = np.clip(heat, 0, None)
    strength = (warm / warm.max() if warm.max() > 0 else warm)[..., None]
    image = pixels.transpose(1, 2, 0).astype(np.float64)
    faded = 0.5 * image + 0.5 * image.mean(axis=2, keepdims=True)
    colour = np.array([255.0, 110.0, 0.0]) * (1 - strength) + np.array([255.0, 225.0, 0.0]) * strength
    mixed = faded * (1 - STRONGEST * strength) + colour * STRONGEST * strength
    file = BytesIO()
    Image.fromarray(np.rint(mixed).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()
