"""A list of images: CSV or Parquet with the columns path, label and, if there are splits, split.

With a separator a label may hold several names ("cat;dog"), or none.
"""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

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
    _check_rows(file, _problems(rows, has_splits="split" in columns, may_be_empty=separator is not None))
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
        found = cast(list[dict[str, object]], table.to_pylist())
    except (arrow.ArrowException, OSError, ValueError) as error:  # ValueError: texts that are no UTF-8
        raise DataError(f"{str(file)!r} can't be read as Parquet ({str(error).splitlines()[0]}).") from error
    if separator is None and any(isinstance(row.get("label"), list) for row in found):
        raise DataError(
            f"{str(file)!r} has lists of labels. Name a label separator that no label holds, such as ';' "
            "(data.label_separator, or --label-separator of `check`)."
        )
    rows: list[dict[str, str]] = []
    problems: list[str] = []
    for number, row in enumerate(found, start=1):
        try:
            rows.append({name: _cell(name, value, separator) for name, value in row.items()})
        except (ValueError, TypeError) as error:
            problems.append(f"row {number}: {error}")
    _check_rows(file, problems)
    return columns, rows


def _cell(name: str, value: object, separator: str | None) -> str:
    """The text of a Parquet value. Raises ValueError or TypeError with the reason when it has none."""
    if name != "label" or separator is None or not isinstance(value, list):
        return _plain(name, value)
    labels = [_plain(name, label) for label in cast(list[object], value)]
    cut = next((label for label in labels if separator in label), None)
    if cut is not None:
        raise ValueError(f"the label {cut!r} holds the label separator {separator!r}; name one that no label holds")
    return separator.join(labels)


def _plain(name: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        try:
            return value.decode().strip()
        except UnicodeDecodeError as error:
            raise ValueError(f"the {name} {value[:40]!r} is not in UTF-8") from error
    if not isinstance(value, str | int | float):
        raise TypeError(f"the {name} is of type {type(value).__name__}, where text or a number is expected")
    return str(value).strip()


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
    where = "" if file.suffix.lower() == ".parquet" else " in its first line, separated by commas"
    raise DataError(
        f"{str(file)!r} has the columns {listed(columns, 8) or 'of an empty file'}; expected are path,label or "
        f"path,label,split{where}."
    )


def _check_rows(file: Path, problems: Sequence[str]) -> None:
    if problems:
        more = f"; and {len(problems) - 5:,} more" if len(problems) > 5 else ""
        raise DataError(f"{str(file)!r} has faulty rows: {'; '.join(problems[:5])}{more}.")


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
