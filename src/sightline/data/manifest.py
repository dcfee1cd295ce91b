"""A list of images: CSV or Parquet with the columns path, label and, if there are splits, split.

With a separator a label may hold several names ("cat;dog"), or none.
"""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sightline import deps
from sightline.data.folder import FolderSource, is_text, reason
from sightline.data.layout import SPLIT_NAMES, class_name
from sightline.data.phrases import listed
from sightline.data.table import ImageTable
from sightline.errors import DataError

MANIFESTS = (".csv", ".parquet")
COLUMNS = ("path", "label", "split")


def read_manifest(file: Path, location: str, separator: str | None = None) -> ImageTable:
    """The table of the images a list names; relative paths count from the list's own folder.

    With a `separator` a label is cut into names at it; spaces around them, repetitions and empty names don't count.

    Raises DataError that names every faulty column, or every faulty row by its number. A file that isn't there is no
    fault of the list: it is found out, like any unreadable image, when the images are looked at.
    """
    parquet = file.suffix.lower() == ".parquet"
    columns, rows = _parquet_rows(file, separator) if parquet else _csv_rows(file)
    _check_columns(file, columns)
    if not rows:
        raise DataError(f"{str(file)!r} names no images: there is nothing below its header.")
    problems = _problems(rows, has_splits="split" in columns, may_be_empty=separator is not None)
    if problems:
        more = f"; and {len(problems) - 5:,} more" if len(problems) > 5 else ""
        raise DataError(f"{str(file)!r} has faulty rows: {'; '.join(problems[:5])}{more}.")
    rows = sorted(rows, key=lambda row: row["path"])
    return ImageTable(
        source=FolderSource(location, str(file.absolute().parent)),
        paths=tuple(row["path"] for row in rows),
        labels=tuple(_label(row["label"], separator) for row in rows),
        splits=tuple(SPLIT_NAMES[row["split"].casefold()] if row.get("split") else None for row in rows),
        separator=separator,
    )


def _label(text: str, separator: str | None) -> str:
    if separator is None:
        return class_name(text)
    return separator.join(sorted({class_name(part.strip()) for part in text.split(separator)} - {""}))


def _csv_rows(file: Path) -> tuple[list[str], list[dict[str, str]]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, skipinitialspace=True, restkey="", restval="", strict=True)
            columns = list(reader.fieldnames or [])
            return columns, [_texts(row) for row in reader]
    except OSError as error:
        raise DataError(f"{str(file)!r} can't be read: {reason(error)}.") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{str(file)!r} is no CSV file in UTF-8 ({error}).") from error


def _parquet_rows(file: Path, separator: str | None) -> tuple[list[str], list[dict[str, str]]]:
    parquet: Any = deps.require("pyarrow.parquet", extra="parquet", purpose="Reading a Parquet file")
    arrow: Any = deps.require("pyarrow", extra="parquet", purpose="Reading a Parquet file")
    try:
        columns = list(parquet.read_schema(file).names)
        table = parquet.read_table(file, columns=[name for name in columns if name in COLUMNS])
    except (arrow.ArrowException, OSError) as error:
        raise DataError(f"{str(file)!r} can't be read as Parquet ({str(error).splitlines()[0]}).") from error
    rows = table.to_pylist()
    for row in rows:
        if isinstance(row.get("label"), list):
            if separator is None:
                raise DataError(
                    f"{str(file)!r} has lists of labels. Name a label separator that no label holds, such as ';' "
                    "(data.label_separator, or --label-separator of `check`)."
                )
            row["label"] = separator.join(map(str, row["label"]))
    return columns, [_texts(row) for row in rows]


def _texts(row: dict[str, Any]) -> dict[str, str]:
    return {name: "" if value is None else str(value).strip() for name, value in row.items()}


def _check_columns(file: Path, columns: Sequence[str]) -> None:
    if (
        columns
        and set(columns) <= set(COLUMNS)
        and {"path", "label"} <= set(columns)
        and len(set(columns)) == len(columns)
    ):
        return
    raise DataError(
        f"{str(file)!r} has the columns {listed(columns, 8) or 'of an empty file'}; expected are path,label or "
        "path,label,split in its first line, separated by commas."
    )


def _problems(rows: Sequence[dict[str, str]], *, has_splits: bool, may_be_empty: bool) -> list[str]:
    """A few words on each row that can't be used; rows count from 1 below the header."""
    seen = Counter(row["path"] for row in rows)
    problems: list[str] = []
    for number, row in enumerate(rows, start=1):
        path, split = row["path"], row.get("split", "")
        if "" in row:
            problems.append(f"row {number} has more values than there are columns")
        elif not path or not (row["label"] or may_be_empty):
            problems.append(f"row {number} has no {'label' if path else 'path'}")
        elif "\0" in path or not is_text(path + row["label"]):
            problems.append(f"row {number}: {path!r} is no path")
        elif seen[path] > 1:
            problems.append(f"row {number}: {path!r} is named {seen[path]} times")
        elif has_splits and split.casefold() not in SPLIT_NAMES:
            problems.append(f"row {number}: split {split!r} is none of train, val, test")
    return problems
