"""A bench as one page."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, PercentFormatter, StrMethodFormatter

from sightline.benchmarking.figures import (
    Accuracy,
    Bench,
    Row,
    compares_accuracy,
    quality_of,
    rounded_size,
    where,
)
from sightline.evaluation.intervals import Interval
from sightline.evaluation.text import shorten
from sightline.files import write_text
from sightline.reports.figures import MUTED, STYLE, svg
from sightline.reports.html import page_template
from sightline.reports.study_figures import MARKERS, PALETTE


def write_bench_report(path: Path, bench: Bench) -> None:
    """Write the page, whole or not at all. Raises SightlineError when it can't be written."""
    write_text(path, render_bench(bench))


def render_bench(bench: Bench) -> str:
    """The page's text. Equal benches give equal pages."""
    groups = [
        {"title": where(rows), "rows": rows, "chart": pareto(rows, number)}
        for number, rows in enumerate(bench.groups())
    ]
    names = list(dict.fromkeys(row.model for row in bench.rows))
    return page_template("bench.html.j2").render(
        bench=bench,
        groups=groups,
        title=f"Bench of {' and '.join(names) if len(names) < 3 else f'{len(names)} models'}",
        several=len(names) > 1,
        interval=_interval,
    )


def _interval(accuracy: Accuracy) -> str:
    return str(Interval(accuracy.value, accuracy.low, accuracy.high))


def pareto(rows: Sequence[Row], number: int) -> Markup | None:
    """Quality against milliseconds for an image, a mark for each row, and a line through those that nothing beats.

    Quality is accuracy, with its interval, else the size on the disk. None where neither differs: the table says all.
    """
    ended = [row for row in rows if row.latency is not None]
    if quality_of(ended) is None:
        return None
    accurate = compares_accuracy(ended)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 3.6), layout="constrained")
        axes = figure.subplots()
        best = sorted(_point(row, accurate=accurate) for row in ended if row.best)
        axes.plot(*zip(*best, strict=True), color=MUTED, linewidth=1, linestyle="--", zorder=1)
        several = len({row.model for row in ended}) > 1
        for place, row in enumerate(ended):
            colour, marker = PALETTE[place % len(PALETTE)], MARKERS[place % len(MARKERS)]
            label = shorten(f"{row.model}, {row.label}" if several else row.label, 40).replace("$", r"\$")
            milliseconds, quality = _point(row, accurate=accurate)
            if accurate and row.accuracy is not None:
                axes.vlines(milliseconds, row.accuracy.low, row.accuracy.high, color=colour, linewidth=1, alpha=0.6)
            fill = "full" if row.best else "none"
            axes.plot([milliseconds], [quality], marker, color=colour, markersize=7, fillstyle=fill, label=label)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:.12g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("Milliseconds for an image (median)")
        axes.set_ylabel("Accuracy" if accurate else "Megabytes on the disk")
        if accurate:
            axes.yaxis.set_major_formatter(PercentFormatter(1))
        else:
            axes.set_ylim(0, 1.2 * max(row.size for row in ended) / 1e6)
        figure.legend(loc="outside lower center", ncols=2, fontsize=8)
        what = "Accuracy" if accurate else "Size"
        return svg(figure, f"pareto-{number}", f"{what} against latency: {where(rows)}. The table has the figures.")


def _point(row: Row, *, accurate: bool) -> tuple[float, float]:
    """(milliseconds for an image, quality)."""
    assert row.latency is not None
    quality = row.accuracy.value if accurate and row.accuracy is not None else rounded_size(row) / 1e6
    return row.latency.p50_seconds * 1e3 / row.batch_size, quality
