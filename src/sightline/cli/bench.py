"""`sightline bench`."""

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sightline import catalog
from sightline.cli.saying import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sightline.benchmarking.figures import Bench, Row

_COLUMNS = ("p50 ms", "p95", "p99", "images/s", "times as fast", "start s", "memory", "on disk", "accuracy")


def bench(
    models: Annotated[
        list[Path] | None, typer.Argument(metavar="MODEL...", help="Model folders and exported ones.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Images with known labels, to measure accuracy; else the folders' own figures.")
    ] = None,
    images: Annotated[int | None, typer.Option(help="How many of them at most.", min=1, show_default="1000")] = None,
    engines: Annotated[
        str, typer.Option(help=f"Some of {','.join(catalog.names('sightline.engines'))}; all that can run if left out.")
    ] = "",
    precision: Annotated[str, typer.Option(help="Of model folders: float32, bf16 or float32,bf16.")] = "float32",
    batch: Annotated[str, typer.Option(help="Batch sizes.")] = "1,32",
    threads: Annotated[str, typer.Option(help="Numbers of threads; as many as there are cores if left out.")] = "",
    seconds: Annotated[float, typer.Option(help="Of measured calls, for each combination.")] = 5.0,
    device: Annotated[str, typer.Option(help="Of torch's engines: cpu, cuda or mps. The others use the CPU.")] = "cpu",
    against: Annotated[
        list[Path] | None, typer.Option(help="An ONNX file that Sightline didn't write; may be repeated.")
    ] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write every figure to this file.")] = None,
    html_path: Annotated[Path | None, typer.Option("--html", help="Write a page to this file.")] = None,
) -> None:
    """Time models over engines, precisions, batch sizes and threads, side by side. Exit code 1 if one of them fails."""
    from dataclasses import asdict

    from sightline.benchmarking import bench as run
    from sightline.benchmarking.plan import Plan
    from sightline.errors import SightlineError
    from sightline.files import write_json

    say()
    _check_files(json_path, html_path, data)
    if engines and not _words(engines):
        raise SightlineError(f"--engines takes names with commas between them, got {engines!r}.")
    if images is not None and data is None:
        raise SightlineError("--images says how many images of --data are taken. Name --data too.")
    plan = Plan(
        engines=tuple(_words(engines)),
        precisions=tuple(_words(precision)),
        batch_sizes=_numbers("--batch", batch),
        threads=_numbers("--threads", threads),
        seconds=seconds,
        device=device,
        data=data,
        num_images=Plan.num_images if images is None else images,
    )
    found = run(models or [], against=against or [], plan=plan)
    _print(found)
    if json_path is not None:
        write_json(json_path, asdict(found))
    if html_path is not None:
        from sightline.reports.bench import write_bench_report

        write_bench_report(html_path, found)
    if found.failures:
        raise typer.Exit(1)


def _words(text: str) -> list[str]:
    return list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def _numbers(option: str, text: str) -> tuple[int, ...]:
    from sightline.errors import SightlineError

    try:
        return tuple(int(word) for word in _words(text))
    except ValueError as error:
        raise SightlineError(f"{option} takes whole numbers with commas between them, got {text!r}.") from error


def _check_files(json_path: Path | None, html_path: Path | None, data: str | None) -> None:
    """Find what would fail before anything is timed."""
    from sightline.data.outside import check_outside
    from sightline.errors import SightlineError

    for path in (json_path, html_path):
        if path is not None and path.is_dir():
            raise SightlineError(f"{str(path)!r} is a folder. Name the file to write.")
        if path is not None and data is not None:
            check_outside(path, data)
        there = None if path is None else next(parent for parent in path.absolute().parents if parent.exists())
        if there is not None and not (there.is_dir() and os.access(there, os.W_OK)):
            raise SightlineError(f"Could not write {str(path)!r}: {str(there)!r} is no folder that can be written to.")
    if html_path is not None:
        importlib.import_module("sightline.reports.bench")  # it needs packages that timing doesn't


def _print(found: "Bench") -> None:
    from sightline.benchmarking.figures import where

    several = len({row.model for row in found.rows}) > 1
    for rows in found.groups():
        print(f"{where(rows)}")
        _print_table([("", *_COLUMNS), *(_cells(row, several=several) for row in rows)])
        print()
    print(*found.sentences(), sep="\n")
    print(f"Times are against {found.baseline}. * marks what no other is ahead of in both speed and {_judged(found)}.")
    for sentence in found.measured_on():
        print(sentence)
    for row in found.failures:
        print(f"failed: {_name(row, several=True)}, batch {row.batch_size}: {row.failure}")
    for reason in found.left_out:
        print(f"left out: {reason}")


def _judged(found: "Bench") -> str:
    from sightline.benchmarking.figures import compares_accuracy

    return "accuracy" if all(compares_accuracy(rows) for rows in found.groups()) else "size on the disk"


def _print_table(table: "Sequence[tuple[str, ...]]") -> None:
    widths = [max(len(cells[place]) for cells in table) for place in range(len(table[0]))]
    for first, *cells in table:
        aligned = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        print("  ".join((first.ljust(widths[0]), *aligned)).rstrip())


def _name(row: "Row", *, several: bool) -> str:
    return f"{row.model}  {row.label}" if several else row.label


def _cells(row: "Row", *, several: bool) -> tuple[str, ...]:
    name = f"{'*' if row.best else ' '} {_name(row, several=several)}"
    if row.latency is None:
        return (name, "failed", *[""] * (len(_COLUMNS) - 1))
    latency, ratio = row.latency, row.ratio
    return (
        name,
        *(_milliseconds(value) for value in (latency.p50_seconds, latency.p95_seconds, latency.p99_seconds)),
        f"{row.images_per_second:,.0f}",
        "-" if ratio is None else f"{ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f})",
        f"{row.start_seconds:.1f}",
        "-" if row.memory is None else f"{row.memory / 1e6:,.0f} MB",
        f"{row.size / 1e6:,.1f} MB",
        "-" if row.accuracy is None else _percent(row),
    )


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:.3g}"


def _percent(row: "Row") -> str:
    from sightline.evaluation.intervals import Interval

    assert row.accuracy is not None
    return str(Interval(row.accuracy.value, row.accuracy.low, row.accuracy.high))
