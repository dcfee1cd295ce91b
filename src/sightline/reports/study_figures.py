"""The charts of a study: every run as a dot, the arms' means by epoch, and two factors crossed."""

from collections.abc import Iterable, Sequence
from statistics import mean
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from sightline.evaluation.text import shorten
from sightline.reports.figures import ACCENT, INK, MUTED, STYLE, svg

PALETTE = ("#3b82f6", "#d97706", "#0d9488", "#db2777", "#7c3aed", "#65a30d", "#dc2626", "#64748b")
"""Told apart on a white and on a black page; markers tell them apart without colour."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_LONGEST = 28

Arms = Sequence[dict[str, Any]]


def dots(arms: Arms, figure_name: str) -> Markup:
    """A line for each arm: its runs as rings, their mean as a dot, the baseline's mean as a dashed line.

    The baseline is the first arm; where none of its runs has ended there is no such line.
    """
    ended = [arm for arm in arms if arm["mean"] is not None]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 0.9 + 0.3 * len(ended)), layout="constrained")
        axes = figure.subplots()
        if arms[0]["mean"] is not None:
            axes.axvline(arms[0]["mean"], color=MUTED, linewidth=0.9, linestyle="--")
        for row, arm in enumerate(ended):
            values = [run["val"] for run in arm["runs"]]
            axes.plot(values, [row] * len(values), "o", color=ACCENT, markersize=6, fillstyle="none")
            axes.plot([arm["mean"]], [row], "o", color=INK, markersize=5)
        axes.set_yticks(range(len(ended)), [_label(arm["name"]) for arm in ended])
        axes.set_ylim(len(ended) - 0.5, -0.5)
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.set_xlabel(f"Validation {figure_name}")
        words = "; ".join(f"{arm['name']} {arm['mean']:.1%}" for arm in ended)
        return svg(figure, "dots", f"Validation {figure_name}, a ring for each run: {words}.")


def courses(arms: Arms, column: str, title: str, *, percent: bool) -> Markup | None:
    """The mean over an arm's runs of a column of metrics.csv by epoch, and the runs' range; None without two epochs."""
    drawn = 0
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 3.2), layout="constrained")
        axes = figure.subplots()
        for number, arm in enumerate(arms):
            epochs, rows = _by_epoch(arm, column)
            if len(epochs) < 2:
                continue
            drawn += 1
            _course(axes, number, _label(arm["name"]), epochs, rows)
        if not drawn:
            return None
        axes.set_title(title, loc="left", fontweight="bold", fontsize=10)
        axes.set_xlabel("Epoch")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        if percent:
            axes.yaxis.set_major_formatter(PercentFormatter(1))
        figure.legend(loc="outside lower center", ncols=2, fontsize=8)
        return svg(figure, f"course-{column}", f"{title} by epoch, a line for each arm; the table has the figures.")


def _course(axes: Axes, number: int, label: str, epochs: list[float], rows: list[list[float]]) -> None:
    colour, marker = PALETTE[number % len(PALETTE)], MARKERS[number % len(MARKERS)]
    middle = [mean(row) for row in rows]
    axes.fill_between(epochs, [min(row) for row in rows], [max(row) for row in rows], color=colour, alpha=0.15, lw=0)
    axes.plot(epochs, middle, color=colour, marker=marker, markersize=3, linewidth=1.4, label=label)


def _by_epoch(arm: dict[str, Any], column: str) -> tuple[list[float], list[list[float]]]:
    """(epochs, the runs' values at each)."""
    found: dict[float, list[float]] = {}
    for run in arm["runs"]:
        for row in run["curve"]:
            value = row.get(column)
            if value is not None:
                found.setdefault(row["epoch"], []).append(value)
    epochs = sorted(found)
    return epochs, [found[epoch] for epoch in epochs]


def crossing(arms: Arms, factors: Sequence[dict[str, Any]], figure_name: str) -> Markup:
    """Two crossed factors: the first along the axis, a line for each value of the second; parallel lines add up."""
    first, second = factors
    means = {tuple(arm["arm"]["labels"]): arm["mean"] for arm in arms}
    labels = [level["label"] for level in first["levels"]]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 3.2), layout="constrained")
        axes = figure.subplots()
        for number, level in enumerate(second["levels"]):
            points = [
                (place, means[label, level["label"]])
                for place, label in enumerate(labels)
                if means[label, level["label"]] is not None
            ]
            colour, marker = PALETTE[number % len(PALETTE)], MARKERS[number % len(MARKERS)]
            places, values = [place for place, _ in points], [value for _, value in points]
            axes.plot(places, values, color=colour, marker=marker, label=_label(level["label"]))
        axes.set_xticks(range(len(labels)), [_label(label) for label in labels])
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.set_title(f"{first['name']} by {second['name']}", loc="left", fontweight="bold", fontsize=10)
        axes.set_ylabel(f"Validation {figure_name}")
        figure.legend(loc="outside lower center", ncols=3, fontsize=8)
        return svg(figure, "crossing", f"Mean validation {figure_name} for each value of {first['name']}, a line each.")


def gradients_by_stage(arms: Arms, column: str, title: str, *, percent: bool) -> Markup | None:
    """A column of gradients.csv in the first epoch along the network, the mean over an arm's runs; None without it."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 3.4), layout="constrained")
        axes = figure.subplots()
        courses_of = [_first_epoch(arm, column) for arm in arms]
        stages = in_one_order(courses_of)
        for number, (arm, values) in enumerate(zip(arms, courses_of, strict=True)):
            if values:
                colour, marker = PALETTE[number % len(PALETTE)], MARKERS[number % len(MARKERS)]
                places = [stages.index(stage) for stage in values]
                axes.plot(places, list(values.values()), color=colour, marker=marker, label=_label(arm["name"]))
        if not stages:
            return None
        axes.set_xticks(range(len(stages)), stages)
        if percent:
            axes.yaxis.set_major_formatter(PercentFormatter(1))
        else:
            axes.set_yscale("log")
        axes.set_title(title, loc="left", fontweight="bold", fontsize=10)
        figure.legend(loc="outside lower center", ncols=2, fontsize=8)
        return svg(figure, f"stages-{column}", f"{title} at each stage in the first epoch, a line for each arm.")


def in_one_order(orders: Iterable[Iterable[str]]) -> list[str]:
    """Every name that one of the orders has, once; each right after the name that it follows where it is met first."""
    found: list[str] = []
    for order in orders:
        place = 0
        for name in order:
            if name not in found:
                found.insert(place, name)
            place = found.index(name) + 1
    return found


def _first_epoch(arm: dict[str, Any], column: str) -> dict[str, float]:
    """By stage, the mean over the runs; stages without the figure are left out."""
    found: dict[str, list[float]] = {}
    for run in arm["runs"]:
        for row in run["gradients"]:
            if row["epoch"] == 1 and row[column] is not None:
                found.setdefault(row["stage"], []).append(row[column])
    return {stage: mean(values) for stage, values in found.items()}


def _label(name: str) -> str:
    return shorten(name, _LONGEST).replace("$", r"\$")  # matplotlib would read mathematics
