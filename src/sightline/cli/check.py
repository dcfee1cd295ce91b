"""`sightline check`."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from sightline.data.audit import Alike, DataAudit

NUM_SHOWN = 5
"""Entries of each list that are printed; the JSON has more."""

NUM_CLASSES_SHOWN = 30


def check(
    data: Annotated[str, typer.Argument(help="A folder, archive or list of images, or the name of a set.")],
    label_separator: Annotated[
        str | None, typer.Option(help="What parts several labels of an image in a CSV or Parquet list, such as ';'.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write all findings to this file, too.")] = None,
) -> None:
    """Look at every image of DATA and report what would stop or spoil a training. Exit code 1 if anything would."""
    from rich.console import Console

    from sightline.data.outside import check_outside
    from sightline.data.prepare import check as run
    from sightline.files import write_json

    if json is not None:
        check_outside(json, data)
    findings = run(data, label_separator=label_separator)
    console = Console(highlight=False, markup=False, emoji=False)
    for part in _parts(findings):
        console.print(part, soft_wrap=isinstance(part, str))
    if json is not None:
        write_json(json, findings.to_json())
        console.print(f"\nAll findings: {json}", soft_wrap=True)
    if findings.problems():
        raise typer.Exit(1)


def _parts(findings: "DataAudit") -> Iterator["str | Table"]:
    from sightline.data.phrases import counted

    yield f"{findings.location}: {counted(findings.num_images, 'image')}, fingerprint {findings.fingerprint[:16]}\n"
    yield _classes(findings)
    yield ""
    yield _properties(findings)
    yield from _named("Unreadable", [f"{image.path}: {image.reason}" for image in findings.unreadable])
    yield from _named("Same bytes, several labels", list(map(_alike, findings.conflicts)))
    yield from _named("In more than one split", list(map(_alike, findings.leaks)))
    yield from _named("Same bytes", list(map(_alike, findings.duplicates)))
    yield from _named("Nearly the same", list(map(_alike, findings.near_duplicates)))
    yield from _named("Extremely long or wide", list(findings.elongated))
    yield from _named("Animated, first frame used", list(findings.animated))
    yield from _named("No image by its name, ignored", list(findings.ignored))
    yield ""
    problems = findings.problems()
    yield "\n".join(f"problem: {sentence}" for sentence in problems) if problems else "No problems found."


def _classes(findings: "DataAudit") -> "Table":
    from rich.table import Table

    table = Table("class", box=None, pad_edge=False)
    splits = findings.split_counts
    for name in (*splits, "images"):
        table.add_column(name, justify="right")
    for label, number in list(findings.counts.items())[:NUM_CLASSES_SHOWN]:
        table.add_row(_shown(label), *(f"{splits[name][label]:,}" for name in splits), f"{number:,}")
    hidden = len(findings.counts) - NUM_CLASSES_SHOWN
    if hidden > 0:
        table.add_row(f"... {hidden:,} more classes")
    totals = (f"{sum(counts.values()):,}" for counts in splits.values())
    table.add_row(f"{len(findings.counts):,} classes", *totals, f"{findings.num_images:,}", style="bold")
    return table


def _properties(findings: "DataAudit") -> "Table":
    from rich.table import Table

    from sightline.data.facts import SMALLEST
    from sightline.data.phrases import counted

    low, median, high = findings.sides
    near, untold = counted(len(findings.near_duplicates), "group"), counted(findings.not_compared, "image")
    table = Table(show_header=False, box=None, pad_edge=False)
    if findings.without_label is not None:
        labels = sum(findings.counts.values()) / findings.num_images
        table.add_row("labels an image", f"{labels:.2f} on average; {findings.without_label:,} images have none")
    table.add_row("largest class to smallest", f"{findings.imbalance:.3g} to 1")
    table.add_row(
        "shorter side", f"{low:,} to {high:,} pixels, median {median:,}; {len(findings.small):,} below {SMALLEST}"
    )
    table.add_row("formats", ", ".join(f"{name} {number:,}" for name, number in findings.formats.items()))
    table.add_row("colours stored as", ", ".join(f"{name} {number:,}" for name, number in findings.modes.items()))
    table.add_row("turned by EXIF", f"{findings.rotated:,}")
    table.add_row("same bytes", counted(len(findings.duplicates), "group"))
    table.add_row(
        "nearly the same",
        f"{near}; {untold} too small or flat to tell",
    )
    return table


def _named(title: str, lines: list[str]) -> Iterator[str]:
    if not lines:
        return
    more = [f"... {len(lines) - NUM_SHOWN:,} more"] if len(lines) > NUM_SHOWN else []
    yield "\n".join([f"\n{title} ({len(lines):,})", *(f"  {_shown(line)}" for line in (*lines[:NUM_SHOWN], *more))])


def _shown(name: str) -> str:
    """A name as one line that can't steer the terminal: what has no shape of its own is escaped."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in name)


def _alike(group: "Alike") -> str:
    more = f" and {len(group.paths) - 4:,} more" if len(group.paths) > 4 else ""
    labels = f"  [{', '.join(group.labels)}]" if len(group.labels) > 1 else ""
    return " = ".join(group.paths[:4]) + more + labels
