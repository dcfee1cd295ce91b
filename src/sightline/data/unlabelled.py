"""Images without labels, which a run trains on beside those of the data: a teacher says what is in them.

They stand behind the data's own in one table, so that whatever reads, packs, orders and augments images sees no
difference; their class number is -1.
"""

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sightline.data.audit import fingerprint
from sightline.data.inspection import inspect
from sightline.data.listing import list_images
from sightline.data.phrases import counted
from sightline.data.prepare import LEAVE_OUT, Prepared
from sightline.data.table import ImageTable, Source
from sightline.errors import DataError
from sightline.files import expanded, write_json

log = logging.getLogger("sightline")

NO_LABEL = -1
"""The class number of an image without one."""


@dataclass(frozen=True, eq=False)
class Pool:
    """What a run trains on."""

    table: ImageTable
    """The data's images, and behind them those without a label."""
    targets: NDArray[np.int64]
    """As `ImageTable.targets`, with NO_LABEL where there is none."""
    places: NDArray[np.int64]
    """Of the images to train on."""
    fingerprint: str
    num_labelled: int
    """Rows of the table that are the data's own."""
    unlabelled: tuple[str, ...] = ()
    """The other rows' paths in their own folder or archive."""
    digests: tuple[str, ...] = ()
    """Of their bytes (`ImageFacts.digest`)."""

    @property
    def num_unlabelled(self) -> int:
        """Images without a label."""
        return len(self.table) - self.num_labelled


def labelled(prepared: Prepared) -> Pool:
    """The training images of the data, and no others."""
    table = prepared.table
    return Pool(table, table.targets, prepared.splits.train, prepared.fingerprint, len(table))


def with_unlabelled(prepared: Prepared, location: str, *, leave_out_unreadable: bool, advice: str = LEAVE_OUT) -> Pool:
    """The training images of the data, and every image in the folder or archive `location`, whatever folder it is in.

    Copies of the data's own images are left out, for a teacher's word on the test images would leak; so are unreadable
    ones where `leave_out_unreadable` says so. Raises DataError where they may not be, ending with `advice`, or nothing
    is left.
    """
    found = _table(location)
    facts = inspect(found)
    broken = [fact for fact in facts if fact.error is not None]
    if broken and not leave_out_unreadable:
        first = "; ".join(f"{fact.path!r}: {fact.error}" for fact in broken[:3])
        raise DataError(
            f"{len(broken):,} of {counted(len(facts), 'image')} in {location!r} could not be read ({first}). "
            + advice.format(them="it" if len(broken) == 1 else "them")
        )
    own = {fact.sha256 for fact in prepared.facts if fact.sha256}
    kept = [place for place, fact in enumerate(facts) if fact.error is None and fact.sha256 not in own]
    if not kept:
        raise DataError(f"{location!r} holds no image that can be read and isn't in the data already.")
    copies = len(facts) - len(broken) - len(kept)
    said = [f"{counted(len(kept), 'image')} without labels from {location!r}"]
    if copies:
        said.append(f"{counted(copies, 'copy', 'copies')} of the data's own left out")
    if broken:
        said.append(f"{counted(len(broken), 'file')} left out that can't be read, such as {broken[0].path!r}")
    log.info("; ".join(said) + ".")
    extra = _chosen(found, kept)
    table = prepared.table
    joined = ImageTable(
        source=_Joined(table.source, extra.source, f"{extra.source.location}/"),
        paths=table.paths + tuple(f"{extra.source.location}/{path}" for path in extra.paths),
        labels=table.labels + extra.labels,
        splits=table.splits + extra.splits,
    )
    behind = np.arange(len(table), len(joined))
    return Pool(
        table=joined,
        targets=np.concatenate([table.targets, np.full(len(extra), NO_LABEL)]),
        places=np.concatenate([prepared.splits.train, behind]),
        fingerprint=f"{prepared.fingerprint} {fingerprint(extra, [facts[place] for place in kept])}",
        num_labelled=len(table),
        unlabelled=extra.paths,
        digests=tuple(facts[place].digest for place in kept),
    )


def record(pool: Pool, splits: Path) -> None:
    """Name the images without labels in a run's splits.json, beside those of the data."""
    if pool.num_unlabelled:
        stored = json.loads(splits.read_text(encoding="utf-8"))
        digests = sorted({*stored.get("digests", ()), *pool.digests})
        write_json(splits, {**stored, "unlabelled": pool.unlabelled, "digests": digests})


def contents(location: str) -> str:
    """A fingerprint of every image there. Raises DataError where there is nothing."""
    table = _table(location)
    return fingerprint(table, inspect(table))


def place_of(location: str) -> str:
    """Its absolute path. Raises DataError where there is nothing."""
    place = os.path.abspath(expanded(location))  # noqa: PTH100  # resolve() would follow links
    if location.strip() and Path(place).exists():
        return place
    raise DataError(f"{location!r} does not exist; expected is a folder or archive of images without labels.")


@dataclass(frozen=True)
class _Joined:
    """Two places that images are read from; the second's have paths that begin with `prefix`, where it is."""

    first: Source
    second: Source
    prefix: str

    @property
    def location(self) -> str:
        return self.first.location

    def read(self, path: str) -> bytes:
        if path.startswith(self.prefix):
            return self.second.read(path.removeprefix(self.prefix))
        return self.first.read(path)

    def stamps(self, paths: Sequence[str]) -> list[str]:
        return [
            self.second.stamps([path.removeprefix(self.prefix)])[0]
            if path.startswith(self.prefix)
            else self.first.stamps([path])[0]
            for path in paths
        ]


def _table(location: str) -> ImageTable:
    """Every image there, without a label. Raises DataError."""
    listed = list_images([place_of(location)])
    sources = {id(source): source for _, source, _ in listed.items}
    (source,) = sources.values()
    paths = tuple(path for _, _, path in listed.items)
    return _unlabelled(source, paths)


def _chosen(table: ImageTable, places: Sequence[int]) -> ImageTable:
    return _unlabelled(table.source, tuple(table.paths[place] for place in places))


def _unlabelled(source: Source, paths: tuple[str, ...]) -> ImageTable:
    return ImageTable(source=source, paths=paths, labels=("",) * len(paths), splits=("train",) * len(paths))
