"""The architectures in a table: year, paper, size, published accuracy and where the figures come from."""

from dataclasses import dataclass
from functools import cache

import torch

from sightline.errors import ModelError, unknown_name
from sightline.models import create_model, variants
from sightline.summary import num_macs


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
    rows = [_row(name) for name in variants() if containing.lower() in name]
    if not rows:
        raise ModelError(f"No architecture's name contains {containing!r}. `sightline models` lists them all.")
    return sorted(rows, key=lambda row: _position(row, sort))


def _row(name: str) -> ListedModel:
    family, variant = variants()[name]
    return ListedModel(
        name=name,
        title=family.title,
        paper=family.paper,
        year=family.year,
        params=variant.num_params,
        macs=_counted(name) if variant.num_macs is None else variant.num_macs,
        image_size=variant.image_size,
        num_classes=variant.num_classes,
        top1=variant.top1,
        source=variant.source,
    )


@cache
def _counted(name: str) -> int:
    with torch.device("meta"):
        model = create_model(name)
    return num_macs(model, variants()[name][1].image_size)


def _position(row: ListedModel, sort: str) -> tuple[float | str, ...]:
    if sort == "name":
        return (row.name,)
    first = {"year": row.year, "params": row.params, "macs": row.macs, "top1": row.top1 or 0, "size": row.image_size}
    return (first[sort], row.params, row.name)
