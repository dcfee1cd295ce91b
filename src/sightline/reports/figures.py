"""Charts as SVG that is part of a page: its text is the page's text, its colours the page's light or dark ones."""

import re
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from sightline.evaluation.calibration import ReliabilityBin
from sightline.evaluation.metrics import ProbabilityFigures

# Matplotlib can't write CSS variables, so each is drawn in a colour of its own and replaced in the SVG.
INK, MUTED, LINE, ACCENT, WRONG = "#010101", "#020202", "#030303", "#040404", "#050505"
_VARIABLES = {INK: "--ink", MUTED: "--muted", LINE: "--line", ACCENT: "--accent", WRONG: "--wrong"}

STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "sightline",  # or ids, and with them the file, would differ each time
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "legend.frameon": False,
    "legend.labelcolor": INK,
}
_SIZE = (3.9, 2.8)
"""Inches. A chart fills a phone's width or a third of a screen's, so it is drawn once for both."""

_LABEL_POINTS = 9
"""What a label takes up, in points each way."""

History = Sequence[Mapping[str, float | None]]


def curves(history: History, *, accuracy: str = "Accuracy") -> list[Markup]:
    """Loss, accuracy and learning rate by epoch; a chart is left out when fewer than two rows have its figures.

    `accuracy` names what the columns of that name hold.
    """
    charts = (
        (("train_loss", "val_loss"), "Loss", False),
        (("train_accuracy", "val_accuracy"), accuracy, True),
        (("lr",), "Learning rate", False),
    )
    return [
        _curve(history, columns, title, percent=percent)
        for columns, title, percent in charts
        if any(len(_points(history, column)[0]) > 1 for column in columns)
    ]


def label_points(axes: Axes, points: Sequence[tuple[float, float, str]]) -> None:
    """A label beside each point (x, y) of what is drawn; points too near for labels of their own share one."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # settles limits and layout
    shared: list[tuple[float, float, list[str]]] = []
    for x, y, label in points:
        for other_x, other_y, labels in shared:
            across, down = axes.transData.transform((x, y)) - axes.transData.transform((other_x, other_y))
            if max(abs(across), abs(down)) < _LABEL_POINTS * figure.dpi / 72:
                labels.append(label)
                break
        else:
            shared.append((x, y, [label]))
    for x, y, labels in shared:
        axes.annotate(", ".join(labels), (x, y), (6, 3), textcoords="offset points", fontsize=8)


def reliability_diagram(
    figures: ProbabilityFigures, *, name: str, axes: tuple[str, str, str] = ("Confidence", "Accuracy", "Images")
) -> Markup:
    """Accuracy against confidence with the gap between them, above the number of images in each bin.

    `name` is the chart's own within the page; `axes` are the names of what is compared, and of what is counted.
    """
    bins = [part for part in figures.bins if part.count]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(_SIZE[0], 3.6), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        _draw_gaps(upper, bins)
        upper.set(ylabel=axes[1])
        lower.bar(*_columns(bins), width=1 / len(figures.bins), color=MUTED, edgecolor="none", align="edge")
        lower.set(xlabel=axes[0], ylabel=axes[2], xlim=(0, 1))
        lower.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        lower.yaxis.set_major_locator(MaxNLocator(2, integer=True))
        figure.align_ylabels()
        error = f"{figures.calibration_error:.1%}"
        words = f"{axes[1].lower()} and {axes[0].lower()}"
        return svg(figure, name, f"Reliability diagram: {words} differ by {error} on average.")


def _columns(bins: Sequence[ReliabilityBin]) -> tuple[list[float], list[int]]:
    return [part.low for part in bins], [part.count for part in bins]


def _draw_gaps(axes: Axes, bins: Sequence[ReliabilityBin]) -> None:
    for part in bins:
        assert part.accuracy is not None  # a bin with images has one
        assert part.confidence is not None
        width, accuracy = part.high - part.low, part.accuracy
        axes.bar(part.low, accuracy.value, width=width, align="edge", color=ACCENT, alpha=0.55)
        gap = part.confidence - accuracy.value
        axes.bar(part.low, gap, width=width, bottom=accuracy.value, align="edge", color=WRONG, alpha=0.3)
        axes.hlines(part.confidence, part.low, part.high, color=WRONG, linewidth=1.4)
        axes.vlines((part.low + part.high) / 2, accuracy.low, accuracy.high, color=INK, linewidth=0.9)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle="--")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))


def _curve(history: History, columns: Sequence[str], title: str, *, percent: bool) -> Markup:
    last: list[str] = []
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=_SIZE, layout="constrained")
        axes = figure.subplots()
        for column, colour, style in zip(columns, (ACCENT, WRONG), ("-", "--"), strict=False):
            epochs, values = _points(history, column)
            if not epochs:
                continue
            label = {"train": "training", "val": "validation"}.get(column.partition("_")[0], column)
            # With two marks to tell lines apart, colour is never the only one.
            marker = "o" if len(epochs) <= 30 else None
            axes.plot(epochs, values, style, color=colour, label=label, marker=marker, markersize=3, linewidth=1.6)
            last.append(f"{label} ends at {values[-1]:.1%}" if percent else f"{label} ends at {values[-1]:.4g}")
        axes.set_title(title, loc="left", fontweight="bold", fontsize=10)
        axes.set_xlabel("Epoch")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        if percent:
            axes.yaxis.set_major_formatter(PercentFormatter(1))
        if len(columns) > 1:
            axes.legend(loc="best")
        return svg(figure, title.lower().replace(" ", "-"), f"{title} by epoch: {', '.join(last)}.")


def _points(history: History, column: str) -> tuple[list[float], list[float]]:
    """(epochs, values) of the rows that have the column."""
    rows = [(row.get("epoch"), row.get(column)) for row in history]
    known = [(epoch, value) for epoch, value in rows if epoch is not None and value is not None]
    return [epoch for epoch, _ in known], [value for _, value in known]


def svg(figure: Figure, name: str, description: str) -> Markup:
    """The figure as an <svg> element, described in words for those who can't see it."""
    buffer = StringIO()
    empty = dict.fromkeys(("Date", "Creator", "Format", "Type"))  # no dates: equal figures are equal files
    figure.savefig(buffer, format="svg", transparent=True, metadata=empty)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace("xlink:href", "href")
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    # Ids are the page's, so that two charts must not share one.
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    text = re.sub(
        r'^<svg [^>]*?viewBox="([^"]*)"[^>]*>',
        lambda found: f'<svg viewBox="{found[1]}" role="img" aria-label="{escape(description)}">',
        text,
    )
    return Markup(text)  # noqa: S704 - drawn from numbers and our own words; no text of the user's is in it
