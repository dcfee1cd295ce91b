"""The charts of a search: its course, the settings' importance, and every trial as a line through its values."""

from collections.abc import Mapping, Sequence
from math import log10
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from sightline.evaluation.text import shorten
from sightline.reports.figures import ACCENT, INK, MUTED, STYLE, svg

Trials = Sequence[Mapping[str, Any]]

_LONGEST = 24


def history(trials: Trials) -> Markup | None:
    """Each trial's figure in its order, and the best so far; None without two that finished."""
    finished = [trial for trial in trials if trial["state"] == "complete"]
    if len(finished) < 2:
        return None
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 3.0), layout="constrained")
        axes = figure.subplots()
        early = [trial for trial in trials if trial["state"] == "pruned" and trial["value"] is not None]
        axes.plot(*_points(early), "x", color=MUTED, markersize=5, label="ended early")
        axes.plot(*_points(finished), "o", color=ACCENT, markersize=5, label="finished")
        best = [max(trial["value"] for trial in finished[: number + 1]) for number in range(len(finished))]
        axes.step([trial["number"] for trial in finished], best, where="post", color=INK, linewidth=1, label="best")
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_xlabel("Trial")
        axes.set_ylabel("Validation figure")
        figure.legend(loc="outside lower center", ncols=3, fontsize=8)
        return svg(figure, "history", f"The validation figure of each trial; the best reached {best[-1]:.1%}.")


def front(trials: Trials, against: str | None, numbers: Sequence[int]) -> Markup | None:
    """Every finished trial's figure against its cost, Pareto's front as a line; None of a search with one aim."""
    finished = [trial for trial in trials if trial["state"] == "complete" and trial["cost"] is not None]
    if against is None or len(finished) < 2:
        return None
    unit = 1e6 if against == "macs" else 1e-3
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 3.0), layout="constrained")
        axes = figure.subplots()
        axes.plot(
            [trial["cost"] / unit for trial in finished], [trial["value"] for trial in finished], "o", color=MUTED
        )
        best = sorted((trial for trial in finished if trial["number"] in numbers), key=lambda trial: trial["cost"])
        places, values = [trial["cost"] / unit for trial in best], [trial["value"] for trial in best]
        axes.step(places, values, "o-", where="post", color=ACCENT, linewidth=1)
        for trial, place, value in zip(best, places, values, strict=True):
            axes.annotate(f"{trial['number']}", (place, value), (5, 3), textcoords="offset points", fontsize=8)
        axes.margins(x=0.1)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.set_xlabel(
            "Million multiply-accumulates" if against == "macs" else "Milliseconds of an image, this machine"
        )
        axes.set_ylabel("Validation figure")
        words = "; ".join(f"trial {trial['number']} {trial['value']:.1%}" for trial in best)
        return svg(figure, "front", f"Validation figure against cost; on the front: {words}.")


def importance(shares: Mapping[str, float]) -> Markup | None:
    """A bar for each setting; None without any."""
    if not shares:
        return None
    ordered = sorted(shares.items(), key=lambda pair: pair[1])
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 0.9 + 0.35 * len(ordered)), layout="constrained")
        axes = figure.subplots()
        axes.barh([shorten(name, _LONGEST) for name, _ in ordered], [share for _, share in ordered], color=ACCENT)
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.set_xlabel("Share in the difference between trials")
        words = "; ".join(f"{name} {share:.0%}" for name, share in reversed(ordered))
        return svg(figure, "importance", f"How much each setting mattered: {words}.")


def parallel(trials: Trials, space: Sequence[Mapping[str, Any]]) -> Markup | None:
    """Every finished trial as a line through its settings' values; None with fewer than two settings or trials."""
    finished = sorted(
        (trial for trial in trials if trial["state"] == "complete"), key=lambda trial: float(trial["value"])
    )
    if len(finished) < 2 or len(space) < 2:
        return None
    scales = [_Scale(dimension) for dimension in space]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.6 + 1.5 * len(space), 3.2), layout="constrained")
        axes = figure.subplots()
        axes.grid(visible=False)
        low, high = finished[0]["value"], finished[-1]["value"]
        for trial in finished:
            values = dict(setting.split("=", 1) for setting in trial["settings"])
            heights = [scale.height(values[scale.setting]) for scale in scales]
            best = (trial["value"] - low) / (high - low) if high > low else 1.0
            colour = ACCENT if trial is finished[-1] else MUTED
            axes.plot(range(len(scales)), heights, color=colour, alpha=0.25 + 0.75 * best, linewidth=0.8 + 1.2 * best)
        for place, scale in enumerate(scales):
            _axis(axes, place, scale)
        axes.set_xticks(range(len(scales)), [shorten(scale.setting, 20) for scale in scales])
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlim(-0.3, len(scales) - 0.4)
        return svg(figure, "parallel", "Every finished trial as a line through its values; the best stands out.")


class _Scale:
    """Where a setting's values stand on its axis, 0 to 1."""

    def __init__(self, dimension: Mapping[str, Any]) -> None:
        self.setting: str = dimension["setting"]
        self._log: bool = dimension["log"]
        self._ends = (dimension["low"], dimension["high"])
        self._choices: list[str] = list(dimension["choices"])
        self.labels = self._choices or [f"{end:g}" for end in self._ends]

    def height(self, value: str) -> float:
        """Of one value."""
        if self._choices:
            return self._choices.index(value) / (len(self._choices) - 1)
        low, high, place = (log10(number) if self._log else number for number in (*self._ends, float(value)))
        return (place - low) / (high - low)


def _axis(axes: Axes, place: int, scale: _Scale) -> None:
    axes.axvline(place, color=MUTED, linewidth=0.8)
    for number, label in enumerate(scale.labels):
        height = number / (len(scale.labels) - 1)
        axes.annotate(shorten(label, 14), (place, height), (4, 0), textcoords="offset points", fontsize=7, va="center")


def _points(trials: Trials) -> tuple[list[int], list[float]]:
    return [trial["number"] for trial in trials], [trial["value"] for trial in trials]
