"""Which images a model was trained on, by their names: figures measured on those flatter it."""

import json
from collections.abc import Iterable
from pathlib import Path

from sightline.errors import ModelError


def num_seen(folder: Path, paths: Iterable[str]) -> int:
    """How many of the paths, relative to their data, bear names that the folder's model was trained on.

    With labels or without, as in a distillation. 0 where the folder doesn't say, as with adopted weights. Raises
    ModelError for a damaged splits.json.
    """
    file = folder / "splits.json"
    if not file.exists():
        return 0
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        trained_on = {*stored["train"], *stored.get("unlabelled", ())}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ModelError(f"{str(file)!r} can't be read: {error}.") from error
    return sum(path in trained_on for path in paths)
