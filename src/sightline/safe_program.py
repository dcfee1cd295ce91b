"""Is a .pt2 archive data alone? `torch.export.load` would run what a prepared one tells it to.

It falls back to unrestricted pickles (torch/_export/serde/serialize.py, `deserialize_torch_artifact`), reads constants
as pickles where their table says so, evaluates shapes and guards as Python, and calls any function of torch that a
graph names. So an archive is looked through first, and only what Sightline's own exports hold is let pass: raw tensors,
calls of ATen operators, and shapes that are arithmetic.
"""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

from sightline.errors import ModelError

_MEMBERS = re.compile(
    r"[^/]+/(models/model\.json|data/(weights|constants)/(weight|tensor)_\d+|data/sample_inputs/model\.pt"
    r"|data/(weights|constants)/model_(weights|constants)_config\.json|extra/[\w.]+"
    r"|archive_format|archive_version|byteorder|\.data/\w+)"
)
_PAYLOAD = re.compile(r"(weight|tensor)_\d+")
_TARGET = re.compile(r"torch\.ops\.aten\.\w+\.\w+|_operator\.(getitem|add|sub|mul|floordiv|mod|neg|eq|ne|lt|le|gt|ge)")
_EXPRESSION = re.compile(
    r"(?:\b(?:Symbol|Integer|Add|Mul|Pow|Mod|FloorDiv|Max|Min|positive|integer|nonnegative|True|False)\b|'[su]\d+'"
    r"|\b[su]\d+\b|\b\d+\b|[-+*/(),= ])*"
)


def check_program(path: Path) -> None:
    """Raise ModelError where loading the archive could do more than build a network."""
    try:
        with zipfile.ZipFile(path) as archive:
            strange = next(chain(_ambiguous(archive), _strange(archive)), None)
    except (zipfile.BadZipFile, OSError, ValueError, KeyError) as error:
        raise ModelError(f"{str(path)!r} can't be read as a .pt2 archive: {error}.") from error
    if strange is not None:
        raise ModelError(
            f"{str(path)!r} is refused, since it holds more than tensors and operators: {strange}. "
            "Export the model again from its model folder."
        )


def _ambiguous(archive: zipfile.ZipFile) -> Iterator[str]:
    """What another reader of archives, such as torch's, might find in place of what is looked at here, in words."""
    names = [name.lower() for name in archive.namelist()]
    if len(set(names)) < len(names):
        yield "two files of one name"
    if len({name.partition("/")[0] for name in names}) > 1:
        yield "files outside of its one folder"
    if archive.comment or min((file.header_offset for file in archive.infolist()), default=0) != 0:
        yield "bytes before or after the archive"


def _strange(archive: zipfile.ZipFile) -> Iterator[str]:
    """What is not data alone, in words."""
    for name in archive.namelist():
        if not _MEMBERS.fullmatch(name):
            yield f"a file {name!r}"
        elif name.endswith("_config.json"):
            entries = json.loads(archive.read(name))["config"]
            yield from (f"a pickle {key!r}" for key, entry in entries.items() if _pickled(entry))
        elif name.endswith("models/model.json"):
            program = json.loads(archive.read(name))
            yield from (f"a condition {code!r}" for code in program["guards_code"])
            yield from _strange_words(program)
        elif name.endswith(".pt"):
            yield from _strange_pickle(archive.read(name))


def _pickled(entry: dict[str, Any]) -> bool:
    return entry["use_pickle"] is not False or not _PAYLOAD.fullmatch(entry["path_name"])


def _strange_words(part: object) -> Iterator[str]:
    """Functions that are no operators and expressions that are no arithmetic, anywhere in the program."""
    if isinstance(part, list):
        for item in cast(list[object], part):
            yield from _strange_words(item)
    if not isinstance(part, dict):
        return
    for key, value in cast(dict[str, object], part).items():
        if key == "target" and isinstance(value, str) and not _TARGET.fullmatch(value):
            yield f"a call of {value!r}"
        if key == "expr_str" and not (isinstance(value, str) and _EXPRESSION.fullmatch(value)):
            yield f"an expression {value!r}"
        yield from _strange_words(value)


def _strange_pickle(content: bytes) -> Iterator[str]:
    import torch

    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError) as error:
        yield f"a pickle ({str(error).splitlines()[0]})"
