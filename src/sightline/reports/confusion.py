"""The confusion matrix: a table that can be read up to some forty classes, a heat map beyond."""

from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline.evaluation.metrics import Evaluation
from sightline.evaluation.text import shorten
from sightline.reports.thumbnails import encode

MAX_TABLE_CLASSES = 40
"""With more classes the table no longer fits a screen."""

_RIGHT, _WRONG = (37, 99, 235), (234, 88, 12)
_LONGEST_LABEL = 24
_HEAT_MAP_SIDE = 640
"""Pixels a heat map has at least, as a whole number of pixels a dot."""
_MOST_DOTS = 320
"""On a side of a heat map: smaller ones couldn't be seen, so that with more classes a dot stands for several."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Images of one class that were taken for one class."""

    count: int
    colour: str
    """CSS; "" for no images."""
    predicted: str


@dataclass(frozen=True, slots=True)
class Row:
    """All images of one class."""

    target: str
    label: str
    """The name, shortened where it wouldn't fit."""
    support: int
    cells: tuple[Cell, ...]


def table_rows(evaluation: Evaluation) -> list[Row]:
    """The matrix, a row for each true class."""
    names = [figures.name for figures in evaluation.classes]
    matrix = evaluation.confusion_matrix
    opacity = _opacity(matrix)
    return [
        Row(
            target=figures.name,
            label=shorten(figures.name, _LONGEST_LABEL),
            support=figures.support,
            cells=tuple(
                Cell(count, _css(row == column, opacity[row, column]) if count else "", names[column])
                for column, count in enumerate(matrix[row].tolist())
            ),
        )
        for row, figures in enumerate(evaluation.classes)
    ]


def heat_map(evaluation: Evaluation) -> str:
    """The matrix as a data: address of a PNG: rows are true classes, right answers blue and wrong ones orange.

    What is empty is transparent, so that the map stands on a light page and on a dark one.
    """
    opacity = _strongest(_opacity(evaluation.confusion_matrix, least=0.3), classes_a_dot(evaluation))
    diagonal = np.arange(len(opacity))
    pixels = np.empty((*opacity.shape, 4), dtype=np.uint8)
    pixels[..., :3] = _WRONG
    pixels[diagonal, diagonal, :3] = _RIGHT
    pixels[..., 3] = np.rint(opacity * 255)
    scale = -(-_HEAT_MAP_SIDE // len(opacity))
    buffer = BytesIO()
    enlarged = pixels.repeat(scale, axis=0).repeat(scale, axis=1)
    Image.fromarray(enlarged, "RGBA").save(buffer, "PNG", optimize=True)
    return encode(buffer.getvalue(), "image/png")


def classes_a_dot(evaluation: Evaluation) -> int:
    """How many classes share a dot of the heat map, in each direction."""
    return -(-len(evaluation.classes) // _MOST_DOTS)


def _strongest(opacity: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """(K, K) -> (K / size, K / size), rounded up: each the largest of its size x size cells."""
    missing = -len(opacity) % size
    padded = np.pad(opacity, (0, missing))
    side = len(padded) // size
    return padded.reshape(side, size, side, size).max(axis=(1, 3))


def _opacity(matrix: NDArray[np.int64], *, least: float = 0.12) -> NDArray[np.float64]:
    """(K, K), 0 or `least` to 0.7, by the square root of the share of the row, so that single mistakes are seen.

    Text stays readable on 0.7 of either colour, on a light page and on a dark one.
    """
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    return np.where(matrix > 0, least + (0.7 - least) * np.sqrt(share), 0.0)


def _css(right: bool, opacity: float) -> str:  # noqa: FBT001 - a cell is on the diagonal or isn't
    red, green, blue = _RIGHT if right else _WRONG
    return f"rgb({red} {green} {blue} / {opacity:.2f})"
