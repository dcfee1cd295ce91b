"""Charts of gradients.csv: how strong gradients arrive at each stage, and how many units have died."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from sightline.reports.figures import STYLE, svg

GradientHistory = Sequence[Mapping[str, str | float | None]]
"""A row for each stage of each epoch: epoch, stage, gradient_norm, gradient_to_weight, dead, saturated."""

_CHARTS = (
    ("gradient_norm", "Gradient norm"),
    ("gradient_to_weight", "Gradient by weight"),
    ("dead", "Dead units"),
    ("saturated", "Saturated values"),
)
_SHARES = ("dead", "saturated")
_DASHES = ("-", "--", "-.", ":")


def gradient_charts(history: GradientHistory) -> list[Markup]:
    """A line for each stage over the epochs, norms on a log scale; a chart without two epochs' figures is left out."""
    return [
        _chart(history, column, title)
        for column, title in _CHARTS
        if len({row["epoch"] for row in history if row.get(column) is not None}) > 1
    ]


def _chart(history: GradientHistory, column: str, title: str) -> Markup:
    stages = list(dict.fromkeys(str(row["stage"]) for row in history))
    ends: list[str] = []
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.9, 2.6 + 0.19 * -(-len(stages) // 2)), layout="constrained")
        axes = figure.subplots()
        for place, stage in enumerate(stages):
            epochs, values = _line(history, column, stage)
            if values:
                dash = _DASHES[place % len(_DASHES)]  # colour is never the only mark
                axes.plot(epochs, values, dash, color=_stand_in(place), label=stage, linewidth=1.6)
                ends.append(
                    f"{stage} ends at {values[-1]:.1%}" if column in _SHARES else f"{stage} at {values[-1]:.2g}"
                )
        axes.set_title(title, loc="left", fontweight="bold", fontsize=10)
        axes.set_xlabel("Epoch")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        if column in _SHARES:
            axes.yaxis.set_major_formatter(PercentFormatter(1))
            axes.set_ylim(bottom=0)
        else:
            axes.set_yscale("log")
        figure.legend(loc="outside lower center", ncols=2, fontsize=8, handlelength=3.2)
        chart = svg(figure, column.replace("_", "-"), f"{title} by epoch: {', '.join(ends)}.")
    return _coloured(chart, len(stages))


def _line(history: GradientHistory, column: str, stage: str) -> tuple[list[float], list[float]]:
    """(epochs, values) of one stage; what is 0 has no place on a log scale."""
    epochs: list[float] = []
    values: list[float] = []
    for row in history:
        epoch, value = row["epoch"], row.get(column)
        if row["stage"] != stage or not isinstance(epoch, float) or not isinstance(value, float):
            continue
        if value > 0 or column in _SHARES:
            epochs.append(epoch)
            values.append(value)
    return epochs, values


def _stand_in(place: int) -> str:
    """Drawn by Matplotlib, which knows no CSS, in place of a line's colour."""
    return f"#0600{place:02x}"


def _coloured(chart: Markup, count: int) -> Markup:
    """The page's two colours, the first stage in one, the last in the other and the rest between them."""
    text = str(chart)
    for place in range(count):
        share = round(100 * (1 - place / max(count - 1, 1)))
        text = text.replace(_stand_in(place), f"color-mix(in oklch, var(--accent) {share}%, var(--wrong))")
    return Markup(text)  # noqa: S704  # numbers and our own words
