"""The names of a network's classes, in the order of its logits."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from sightline.errors import ModelError


def read_classes(classes: str | Path | Sequence[str] | None) -> tuple[str, ...]:
    """Names from a file, one a line or JSON, or as they are given.

    JSON is a list of names, or numbers from 0 with their names, either way round ({"0": "cat"} or {"cat": 0}).
    Raises ModelError for a file that can't be read, and for names that are missing, empty or doubled.
    """
    if classes is None:
        raise ModelError("The names of the classes are needed: a file, one name a line or JSON (--classes).")
    names = _from_file(Path(classes)) if isinstance(classes, str | Path) else list(classes)
    where = f" in {str(classes)!r}" if isinstance(classes, str | Path) else ""
    if not names:
        raise ModelError(f"There are no names of classes{where}.")
    for number, name in enumerate(names, 1):
        if not name.strip():
            raise ModelError(f"The name of class {number} of {len(names)}{where} is empty.")
    [(commonest, times)] = Counter(names).most_common(1)
    if times > 1:
        raise ModelError(f"The class {commonest!r} is named {times} times{where}; every class needs a name of its own.")
    return tuple(names)


def _from_file(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ModelError(f"The names of the classes in {str(path)!r} can't be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ModelError(f"The names of the classes in {str(path)!r} are not in UTF-8: {error.reason}.") from error
    if path.suffix.lower() != ".json":
        return text.rstrip().splitlines() if text.strip() else []
    try:
        return _from_json(json.loads(text))
    except (ValueError, TypeError, RecursionError) as error:
        raise ModelError(f"{str(path)!r} is no list of names, nor numbers from 0 with their names: {error}.") from error


def _from_json(content: Any) -> list[str]:
    if isinstance(content, list) and all(isinstance(name, str) for name in cast(list[object], content)):
        return cast(list[str], content)
    if not isinstance(content, dict):
        raise TypeError(f"it holds a {type(content).__name__}")
    pairs = cast(dict[str, object], content)
    numbered = {value: key for key, value in pairs.items() if isinstance(value, int)}
    if len(numbered) < len(pairs):
        numbered = {int(key): str(value) for key, value in pairs.items()}
    if sorted(numbered) != list(range(len(pairs))):
        raise ValueError("its numbers are not 0, 1, 2 and so on")
    return [numbered[number] for number in range(len(pairs))]
