"""Plain values, such as JSON, as something to read: facts, tables and lists."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard, cast

LONGEST = 200
"""Entries of a list or table that are shown."""


@dataclass(frozen=True, slots=True)
class Table:
    """A named part: facts are a table of two columns without a head."""

    caption: str
    columns: tuple[str, ...]
    """Empty for facts and lists."""
    rows: tuple[tuple[str, ...], ...]
    is_cut: bool = False
    """Whether there are more rows than are shown."""


def tables(values: Mapping[str, object], caption: str = "") -> list[Table]:
    """What `values` says: first its single values together, then a table for each part with parts of its own.

    Empty lists and dictionaries are facts too: "none".
    """
    facts = tuple((words(key), text(value)) for key, value in values.items() if _is_single(value))
    found = [Table(caption, (), facts)] if facts else []
    for key, value in values.items():
        if _is_single(value):
            continue
        name = f"{caption}: {words(key)}" if caption else words(key).capitalize()
        if _is_mapping(value):
            found += _from_mapping(value, name)
        else:
            found.append(_from_list(cast(Sequence[object], value), name))
    return found


def words(key: str) -> str:
    """A key as it is read: num_near_duplicates is "near duplicates"."""
    return key.removeprefix("num_").replace("_", " ")


def text(value: object) -> str:
    """One value on one line."""
    if _is_mapping(value):
        return ", ".join(f"{words(key)} {text(part)}" for key, part in value.items()) or "none"
    if _is_list(value):
        return ", ".join(map(text, value)) or "none"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
    return str(value)


def _from_mapping(values: Mapping[str, object], caption: str) -> list[Table]:
    if not all(_is_mapping(part) for part in values.values()):
        return tables(values, caption)
    parts = cast(Mapping[str, Mapping[str, object]], values)
    columns = list(dict.fromkeys(key for part in parts.values() for key in part))
    rows = [(name, *(text(part.get(column, "")) for column in columns)) for name, part in parts.items()]
    return [_cut(caption, ("", *map(words, columns)), rows)]


def _from_list(values: Sequence[object], caption: str) -> Table:
    if not all(_is_mapping(part) for part in values):
        return _cut(caption, (), [(text(part),) for part in values])
    parts = cast(Sequence[Mapping[str, object]], values)
    columns = list(dict.fromkeys(key for part in parts for key in part))
    rows = [tuple(text(part.get(column, "")) for column in columns) for part in parts]
    return _cut(caption, tuple(map(words, columns)), rows)


def _cut(caption: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Table:
    return Table(caption, columns, tuple(rows[:LONGEST]), is_cut=len(rows) > LONGEST)


def _is_single(value: object) -> bool:
    return not (_is_mapping(value) or _is_list(value)) or not value


def _is_mapping(value: object) -> TypeGuard[Mapping[str, object]]:
    return isinstance(value, Mapping)


def _is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))
