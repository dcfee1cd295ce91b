"""The plot of a sweep: what each way of compressing a model left of its accuracy, against time and computation."""

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sightline.compressing.judging import Row
from sightline.files import whole_file

_KEPT, _BEATEN, _FRONT = "#1f5fbf", "#9aa5b1", "#b3261e"


def unbeaten(rows: Sequence[Row], cost: Callable[[Row], float]) -> list[Row]:
    """Pareto's front: the rows that no other equals in accuracy for less, by rising cost."""
    front: list[Row] = []
    for row in sorted(rows, key=lambda row: (cost(row), -row.accuracy.value)):
        if not front or row.accuracy.value > front[-1].accuracy.value:
            front.append(row)
    return front


def write_sweep(path: Path, rows: Sequence[Row]) -> None:
    """Write the plot as PNG, whole or not at all; the first row is the model as it was. Raises SightlineError."""
    figure = Figure(figsize=(9.6, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    timed = [row for row in rows if row.seconds is not None]
    _draw(left, timed, lambda row: 1e3 * (row.seconds or 0.0), "Milliseconds an image, on this machine")
    _draw(right, rows, lambda row: row.macs / 1e6, "Million multiply-accumulates an image")
    left.set_ylabel("Test accuracy, %, with its 95% interval")
    with whole_file(path) as aside:
        figure.savefig(aside, format="png", dpi=140, metadata={"Software": None})


def _draw(axes: Axes, rows: Sequence[Row], cost: Callable[[Row], float], label: str) -> None:
    front = unbeaten(rows, cost)
    axes.plot([cost(row) for row in front], [100 * row.accuracy.value for row in front], color=_FRONT, linewidth=1)
    for place, row in enumerate(rows):
        value = 100 * row.accuracy.value
        reach = [[value - 100 * row.accuracy.low], [100 * row.accuracy.high - value]]
        colour = _KEPT if row in front else _BEATEN
        axes.errorbar(cost(row), value, yerr=reach, fmt="s" if place == 0 else "o", color=colour, capsize=2)
        axes.annotate(row.name, (cost(row), value), xytext=(7, -12), textcoords="offset points", fontsize=8)
    axes.set_xlabel(label)
    axes.margins(x=0.14)
    axes.grid(visible=True, alpha=0.25)
