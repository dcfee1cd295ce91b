"""The plot of layer sensitivity: layers down, shares cut across, points of accuracy lost in the cells."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from sightline.compressing.sensitivity import Cut
from sightline.errors import SightlineError
from sightline.files import whole_file

ROW_INCHES = 0.24
FORMATS = (".png", ".svg", ".pdf")


def check_plot(path: Path) -> None:
    """Raise SightlineError for a file that no plot can be written to."""
    if path.suffix not in FORMATS or path.is_dir():
        raise SightlineError(f"The plot's file must end in {', '.join(FORMATS)}, got {str(path)!r}.")


def write_sensitivity(path: Path, cuts: Sequence[Cut]) -> None:
    """Write the plot whole or not at all. Raises SightlineError."""
    check_plot(path)
    layers, ratios = list(dict.fromkeys(cut.layer for cut in cuts)), sorted({cut.ratio for cut in cuts})
    lost = np.zeros((len(layers), len(ratios)))
    for cut in cuts:
        lost[layers.index(cut.layer), ratios.index(cut.ratio)] = 0.0 - 100 * cut.paired.difference  # and never -0.0
    figure = Figure(figsize=(2.6 + 0.9 * len(ratios), 1.2 + ROW_INCHES * len(layers)), layout="constrained")
    axes = figure.subplots()
    top = max(float(lost.max()), 1.0)
    axes.imshow(lost, cmap="Oranges", vmin=0, vmax=top, aspect="auto")
    for row, column in np.ndindex(lost.shape):
        colour = "white" if lost[row, column] > 0.6 * top else "black"
        axes.text(column, row, f"{lost[row, column]:.1f}", ha="center", va="center", color=colour, fontsize=7)
    axes.set_xticks(range(len(ratios)), [f"{ratio:.0%}" for ratio in ratios])
    axes.set_yticks(range(len(layers)), layers, fontsize=7)
    axes.tick_params(length=0)
    axes.set_xlabel("Share of the layer's channels cut, without training")
    axes.set_title("Points of accuracy lost", fontsize=10, loc="left")
    with whole_file(path) as aside:
        figure.savefig(aside, format=path.suffix[1:], dpi=150)
