"""The architectures in a table: year, paper, size, published accuracy and where the figures come from.

Importing the architectures takes torch, and seconds: so the finished table is kept in the cache, for as long as the
code that made it stays.
"""

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from sightline import files
from sightline.errors import ModelError, SightlineError, unknown_name

if TYPE_CHECKING:
    from sightline.models import Family, Variant


@dataclass(frozen=True, kw_only=True)
class ListedModel:
    """A row."""

    name: str
    title: str
    paper: str
    year: int
    params: int
    macs: int
    """Multiply-accumulates for one image of image_size: the published figure, or ours where there is none."""
    image_size: int
    num_classes: int
    top1: float | None
    """Published accuracy, percent; None where nobody published it."""
    source: str
    """Of top1, and of macs where they were published."""


SORT_KEYS = ("name", "year", "params", "macs", "top1", "size")


def list_models(containing: str = "", sort: str = "year") -> list[ListedModel]:
    """The architectures whose name contains a text, in upper or lower case, the largest or newest last.

    Raises ModelError for an unknown column to sort by, or when no name contains the text.
    """
    if sort not in SORT_KEYS:
        raise ModelError(unknown_name("column to sort by", sort, SORT_KEYS, listing="`sightline models --help`"))
    rows = [row for row in _all_models() if containing.lower() in row.name]
    if not rows:
        raise ModelError(f"No architecture's name contains {containing!r}. `sightline models` lists them all.")
    return sorted(rows, key=lambda row: _position(row, sort))


@cache
def _all_models() -> tuple[ListedModel, ...]:
    path = files.cache_folder() / "models" / f"{_fingerprint()}.json"
    try:
        return tuple(ListedModel(**row) for row in json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # none yet, or one that another hand wrote: both are made anew
        rows = _made_anew()
    with suppress(SightlineError):  # a cache that can't be written costs the next call its seconds, nothing more
        files.write_json(path, [asdict(row) for row in rows])
    return rows


def _fingerprint() -> str:
    """Names what the figures follow from: the architectures' own files."""
    digest = hashlib.sha256()
    for source in sorted([*Path(__file__).parent.glob("models/*.py"), Path(__file__)]):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _made_anew() -> tuple[ListedModel, ...]:
    from sightline.models import variants  # takes torch, which a table from the cache does without

    return tuple(_row(name, *entry) for name, entry in variants().items())


def _row(name: str, family: "Family", variant: "Variant") -> ListedModel:
    macs = variant.counted_macs if variant.num_macs is None else variant.num_macs
    if macs is None:
        raise ModelError(f"The architecture {name!r} states neither num_macs nor counted_macs.")
    return ListedModel(
        name=name,
        title=family.title,
        paper=family.paper,
        year=family.year,
        params=variant.num_params,
        macs=macs,
        image_size=variant.image_size,
        num_classes=variant.num_classes,
        top1=variant.top1,
        source=variant.source,
    )


def _position(row: ListedModel, sort: str) -> tuple[float | str, ...]:
    if sort == "name":
        return (row.name,)
    first = {"year": row.year, "params": row.params, "macs": row.macs, "top1": row.top1 or 0, "size": row.image_size}
    return (first[sort], row.params, row.name)
