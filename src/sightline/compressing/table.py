"""The table of a chain or of a sweep: `compress.json`, of which `reports/compression.py` makes a page."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from sightline.command_line import command_line
from sightline.compressing.images import Images
from sightline.compressing.judging import Row
from sightline.errors import ModelError
from sightline.evaluation.seen import digests_of, num_seen
from sightline.exported_folder import ExportedFolder, open_folder
from sightline.files import write_json
from sightline.measuring.machine import machine
from sightline.model_folder import ModelFolder

RESULT, PAGE = "compress.json", "compress.html"
"""Beside the steps' folders, or those of a sweep's ways: the table, and its page."""


def write_table(
    place: Path,
    kind: str,
    folder: ModelFolder,
    images: Images,
    rows: Sequence[Row],
    ways: Mapping[str, Sequence[object]],
    left_out: Mapping[str, ModelError],
) -> None:
    """The table as it stands in `compress.json`; the page of an earlier one goes."""
    exported = [(row.name, open_folder(row.path)) for row in rows]
    result = {
        "kind": kind,
        "model": folder.path.resolve().name,
        "fingerprint": folder.spec.fingerprint,
        "data": images.location,
        "seen": num_seen(folder.path, digests_of(images.table, images.places("test").tolist())),
        "command": command_line(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "rows": [asdict(replace(row, path=str(Path(row.path).resolve()))) for row in rows],
        "settings": {name: [_chosen(method) for method in methods] for name, methods in ways.items()},
        "float_layers": {
            name: each.artefact.details["float_layers"]
            for name, each in exported
            if isinstance(each, ExportedFolder) and each.artefact.details.get("float_layers")
        },
        "left_out": [f"{name}: {error}" for name, error in left_out.items()],
    }
    (place / PAGE).unlink(missing_ok=True)
    write_json(place / RESULT, result)


def _chosen(method: object) -> dict[str, Any]:
    """A method's name, and the settings that have a value."""
    own: dict[str, Any] = asdict(cast(Any, method))
    return {
        "method": name_of(method),
        "settings": {name: value for name, value in own.items() if value not in (None, ())},
    }


def name_of(method: object) -> str:
    """Of the file it is defined in."""
    return type(method).__module__.rpartition(".")[2]


def is_table(file: Path) -> bool:
    """Whether `write_table` has written it."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and {"kind", "rows", "left_out"} <= found.keys()
