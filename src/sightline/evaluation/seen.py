"""Which images a model was trained on, by their bytes, not their names: figures measured on those flatter it."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from sightline.data.inspection import inspect
from sightline.data.table import ImageTable
from sightline.errors import ModelError


def digests_of(table: ImageTable, places: Sequence[int]) -> list[str]:
    """The digest of each image at one of the places (`ImageFacts.digest`)."""
    facts = inspect(table)
    return [facts[place].digest for place in places]


def num_seen(folder: Path, digests: Iterable[str]) -> int:
    """How many of the images with these digests the folder's model was trained on.

    With labels or without, as in a distillation. 0 where the folder doesn't say, as with adopted weights. Raises
    ModelError for a damaged splits.json.
    """
    file = folder / "splits.json"
    if not file.exists():
        return 0
    try:
        trained_on = set(json.loads(file.read_text(encoding="utf-8")).get("digests", ()))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(f"{str(file)!r} can't be read: {error}.") from error
    return sum(digest in trained_on for digest in digests)
