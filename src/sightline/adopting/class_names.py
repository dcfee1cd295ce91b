"""The names of a network's classes, in the order of its logits."""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from sightline.data.layout import class_name
from sightline.errors import ModelError

_UNPRINTED = ("Cc", "Cs")
"""Unicode's control characters, which a terminal obeys, and halves of characters, which no file can hold."""


def read_classes(classes: str | Path | Sequence[str] | None) -> tuple[str, ...]:
    """Names from a file, one a line or JSON, or as they are given.

    JSON is a list of names, or numbers from 0 with their names, either way round ({"0": "cat"} or {"cat": 0}).
    Raises ModelError for a file that can't be read, and for names that are missing, empty, doubled or no plain text.
    """
    if classes is None:
        raise ModelError("The names of the classes are needed: a file, one name a line or JSON (--classes).")
    if isinstance(classes, str | Path):
        return _checked(_from_file(Path(classes)), where=f" in {str(classes)!r}")
    given = cast(object, classes)  # what Python's callers pass may be anything
    if not isinstance(given, Sequence):
        raise ModelError(f"The names of the classes are a list in the order of the logits, got {given!r}.")
    return _checked(list(classes))


def hub_classes(label_names: object, *, where: str) -> tuple[tuple[str, ...], str]:
    """Names that a model's author has published with it, in any of JSON's forms; and a sentence on those doubled.

    ImageNet has two classes "crane" and two "maillot", and users can't mend what was published: their number in the
    logits, from 0, is put behind such names. Raises ModelError for what is no list of names, and for empty ones.
    """
    try:
        names = _checked(_from_json(label_names), where=where, doubled=True)
    except (ValueError, TypeError) as error:
        raise ModelError(
            f"The label_names{where} are no list of names, nor numbers from 0 with their names: {error}. "
            "Give the names of the classes by --classes."
        ) from error
    times = Counter(names)
    distinct = [f"{name} ({number})" if times[name] > 1 else name for number, name in enumerate(names)]
    doubled = ", ".join(repr(name) for name, count in times.items() if count > 1)
    said = f"Several classes have one name{where}; their number was put behind it: {doubled}." if doubled else ""
    return _checked(distinct, where=where), said


def _checked(names: list[str], *, where: str = "", doubled: bool = False) -> tuple[str, ...]:
    """The names without spaces around them, spelled as those of data; `doubled` ones too, if so asked.

    Raises ModelError for those that can't be.
    """
    if not names:
        raise ModelError(f"There are no names of classes{where}.")
    for number, name in enumerate(cast(list[object], names), 1):
        which = f"The name of class {number} of {len(names)}{where}"
        if not isinstance(name, str):
            raise ModelError(f"{which} is {name!r}, where text is expected.")
        if not name.strip():
            raise ModelError(f"{which} is empty.")
        if any(unicodedata.category(character) in _UNPRINTED for character in name.strip()):
            raise ModelError(f"{which} holds control characters: {name!r}.")
    names = [class_name(name.strip()) for name in names]
    [(commonest, times)] = Counter(names).most_common(1)
    if times > 1 and not doubled:
        raise ModelError(f"The class {commonest!r} is named {times} times{where}; every class needs a name of its own.")
    return tuple(names)


def _from_file(path: Path) -> list[str]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ModelError(f"The names of the classes in {str(path)!r} can't be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ModelError(f"The names of the classes in {str(path)!r} are not in UTF-8: {error.reason}.") from error
    if path.suffix.lower() != ".json":
        return re.split(r"\r?\n", text.rstrip()) if text.strip() else []  # splitlines() would split within names
    try:
        return _from_json(json.loads(text))
    except (ValueError, TypeError, RecursionError) as error:
        raise ModelError(f"{str(path)!r} is no list of names, nor numbers from 0 with their names: {error}.") from error


def _from_json(content: Any) -> list[str]:
    if isinstance(content, list):
        return cast(list[str], content)
    if not isinstance(content, dict):
        raise TypeError(f"it holds a {type(content).__name__}")
    pairs = cast(dict[str, object], content)
    numbered: dict[int, object] = {value: key for key, value in pairs.items() if isinstance(value, int)}
    if len(numbered) < len(pairs):
        numbered = {int(key): value for key, value in pairs.items()}
    if sorted(numbered) != list(range(len(pairs))):
        raise ValueError("its numbers are not 0, 1, 2 and so on")
    return [cast(str, numbered[number]) for number in range(len(pairs))]
