"""What compressing a model gained and cost, step by step or way by way, as one page from its compress.json."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from sightline.compressing.judging import Row
from sightline.compressing.table import RESULT
from sightline.evaluation.intervals import Interval
from sightline.evaluation.paired import PairedTest
from sightline.evaluation.text import shorten
from sightline.reports.figures import ACCENT, INK, MUTED, STYLE, label_points, svg
from sightline.reports.front import unbeaten
from sightline.reports.html import page_template, write_page


def write_compression_report(folder: Path) -> Path:
    """Write `compress.html` beside `compress.json`, and return its path. Raises ModelError where there is none."""
    return write_page(folder, Path(RESULT).stem, render_compression)


def render_compression(result: dict[str, Any]) -> str:
    """The page's text. Equal results give equal pages."""
    rows = [_row(plain) for plain in result["rows"]]
    timed = [row for row in rows if row.seconds is not None]
    charts = [
        _chart(timed, lambda row: 1e3 * (row.seconds or 0.0), "Milliseconds for an image (median)", "time"),
        _chart(rows, lambda row: row.size / 1e6, "Megabytes on the disk", "size"),
        _chart(rows, lambda row: row.macs / 1e6, "Million multiply-accumulates an image", "macs"),
    ]
    return page_template("compression.html.j2").render(
        result=result,
        title=f"{result['model']}, compressed",
        measure=_measure(rows[0]),
        rows=[_cells(row, rows[0]) for row in rows],
        charts=[chart for chart in charts if chart is not None],
        sentences=sentences(rows, result["kind"]),
        settings={name: [_words(step) for step in steps] for name, steps in result["settings"].items()},
        untimed=[row for row in rows if row.reason is not None],
    )


def sentences(rows: Sequence[Row], kind: str) -> list[str]:
    """What was found, in words: of a chain its end, of a sweep the ways that no other is ahead of."""
    first, *others = rows
    if kind == "chain":
        return [_gains(others[-1], first)]
    front = _front([row for row in rows if row.seconds is not None], lambda row: row.seconds or 0.0)
    named = ", ".join(row.name for row in front) or "none was timed"
    return [
        f"No other reaches the same accuracy in as little time as: {named}.",
        *(_gains(row, first) for row in others),
    ]


def _front(rows: Sequence[Row], cost: Callable[[Row], float]) -> list[Row]:
    return unbeaten(rows, cost, lambda row: row.accuracy.value)


def _gains(row: Row, first: Row) -> str:
    what = " with all their labels" if row.several_labels else ""
    said = f"{row.name}: {row.accuracy.percent} instead of {first.accuracy.percent} of the test images right{what}"
    if row.paired is not None and row.paired.difference:
        told = "" if row.paired.p_value < 0.05 else ", which chance may have made"
        said += f", {row.paired}{told}"
    said += f"; {first.size / row.size:.1f} times smaller"
    if row.seconds and first.seconds:
        said += f"; {first.seconds / row.seconds:.1f} times as fast as the model was in PyTorch"
    if row.seconds and row.same_engine_seconds:
        said += f", {row.same_engine_seconds / row.seconds:.1f} times as fast as in {row.engine}'s float32"
    return f"{said}."


def _measure(row: Row) -> str:
    """What the rows are judged by."""
    return "All labels right" if row.several_labels else "Accuracy"


def _cells(row: Row, first: Row) -> dict[str, Any]:
    """Of the table; None where there is no figure."""
    return {
        "name": row.name,
        "accuracy": str(row.accuracy),
        "change": None if row.paired is None else _points(row.paired),
        "size": f"{row.size / 1e6:,.2f} MB",
        "smaller": first.size / row.size,
        "params": f"{row.params / 1e6:,.2f} M",
        "macs": f"{row.macs / 1e6:,.1f} M",
        "time": None if row.seconds is None else f"{row.seconds * 1e3:.3g} ms",
        "engine": row.engine if row.precision == "float32" else f"{row.engine} {row.precision}",
        "faster": first.seconds / row.seconds if first.seconds and row.seconds else None,
        "same_engine": row.same_engine_seconds / row.seconds if row.same_engine_seconds and row.seconds else None,
        "path": row.path,
    }


def _points(paired: PairedTest) -> str:
    return f"{paired.difference * 100:+.1f} ({paired.low * 100:+.1f} to {paired.high * 100:+.1f})"


def _words(step: dict[str, Any]) -> str:
    """A method with its settings."""
    values = (
        (name, (":" if name == "pattern" else " ").join(map(str, value)) if isinstance(value, list) else value)
        for name, value in step["settings"].items()
    )
    return " ".join([step["method"], *(f"{name}={value}" for name, value in values)])


def _row(plain: dict[str, Any]) -> Row:
    paired = plain["paired"]
    accuracy = Interval(**plain["accuracy"])
    return replace(Row(**plain), accuracy=accuracy, paired=None if paired is None else PairedTest(**paired))


def _chart(rows: Sequence[Row], cost: Callable[[Row], float], label: str, name: str) -> Markup | None:
    """Accuracy with its interval against a cost, numbered as in the table; Pareto's front as a line.

    None where the cost is the same for all.
    """
    if len({cost(row) for row in rows}) < 2:
        return None
    front = _front(rows, cost)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.2, 3.2), layout="constrained")
        axes = figure.subplots()
        line = [[cost(row) for row in front], [row.accuracy.value for row in front]]
        axes.step(*line, where="post", color=MUTED, linewidth=0.9)
        for row in rows:
            place, colour = cost(row), ACCENT if row in front else INK
            axes.vlines(place, row.accuracy.low, row.accuracy.high, color=colour, linewidth=1, alpha=0.6)
            fill = "full" if row in front else "none"
            axes.plot([place], [row.accuracy.value], "o", color=colour, markersize=6, fillstyle=fill)
        axes.margins(x=0.12)
        axes.set_xlim(left=0)
        label_points(axes, [(cost(row), row.accuracy.value, str(number)) for number, row in enumerate(rows, 1)])
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.set_xlabel(label)
        axes.set_ylabel(f"{_measure(rows[0])}, test images")
        words = "; ".join(f"{shorten(row.name, 40)} {row.accuracy.percent}" for row in rows)
        return svg(
            figure, f"front-{name}", f"{_measure(rows[0])} against {label.lower()}: {words}. The table has the figures."
        )
