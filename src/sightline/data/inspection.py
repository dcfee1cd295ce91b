"""inspect(): one look at every file of a table, remembered for the next time."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import astuple
from pathlib import Path
from typing import Any

import PIL

from sightline.data.facts import ImageFacts, look
from sightline.data.table import ImageTable, Source
from sightline.errors import SightlineError
from sightline.files import cache_folder, write_text
from sightline.progress import track

_VERSION = 1
"""Raised when a later release sees other facts in the same bytes."""

_KEPT = 50
"""Tables whose facts are remembered; the one that was not asked for longest goes first."""

_CHUNK = 64
"""Images handed to a thread at a time."""


def inspect(table: ImageTable) -> tuple[ImageFacts, ...]:
    """The facts of each row, in the table's order.

    Only files that are new or changed since the last time are read: by size and time of change in a folder, by
    the archive's and the member's checksum in an archive. What could not be read is tried again each time. A
    cache that can't be read or written is no error.
    """
    file = _cache_file(table.source.location)
    stamps = table.source.stamps(table.paths)
    known = _read(file)
    facts = {
        path: known[path, stamp]
        for path, stamp in zip(table.paths, stamps, strict=True)
        if stamp and (path, stamp) in known
    }
    new = [path for path in table.paths if path not in facts]
    if new:
        facts.update((fact.path, fact) for fact in _look_at(table.source, new))
        rows = [(stamp, facts[path]) for path, stamp in zip(table.paths, stamps, strict=True)]
        _write(file, [(stamp, fact) for stamp, fact in rows if stamp and fact.error is None])
    return tuple(facts[path] for path in table.paths)


def _look_at(source: Source, paths: Sequence[str]) -> Iterator[ImageFacts]:
    """Decoding gives Python's lock free, so threads do; they share what the operating system has cached."""

    def look_at(chunk: Sequence[str]) -> list[ImageFacts]:
        return [look(source, path) for path in chunk]

    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    pool = ThreadPoolExecutor(min(32, os.cpu_count() or 1))
    try:
        results = pool.map(look_at, chunks)
        for done in track(results, total=len(paths), label="Inspecting", size=_CHUNK):
            yield from done
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupted user doesn't wait for the rest


def _cache_file(location: str) -> Path:
    key = hashlib.sha256(f"{_VERSION} {PIL.__version__} {location}".encode()).hexdigest()[:16]
    return cache_folder() / "facts" / f"{key}.json"


def _read(file: Path) -> dict[tuple[str, str], ImageFacts]:
    try:
        rows: list[list[Any]] = json.loads(file.read_text())
        known = {(row[1], row[0]): ImageFacts(*row[1:]) for row in rows}
        os.utime(file)
    except (OSError, ValueError, TypeError, LookupError):
        return {}
    return known


def _write(file: Path, rows: Sequence[tuple[str, ImageFacts]]) -> None:
    lines = ",\n".join(json.dumps([stamp, *astuple(fact)]) for stamp, fact in rows)
    with suppress(SightlineError, OSError):
        write_text(file, f"[{lines}]\n")
        files = sorted(file.parent.glob("*.json"), key=lambda kept: kept.stat().st_mtime)
        for old in files[:-_KEPT]:
            old.unlink()
