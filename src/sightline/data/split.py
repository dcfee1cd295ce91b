"""split(): which images are trained on, chosen by, and kept for the final figures.

A split the user made stays as it is. What is missing is held out of the training images, class by class, in an
order that depends on the seed and on each file's content alone: a renamed file stays where it was, and
images that are added later move only as many others as the counts ask for. Images with several labels are
shared out by all of them (`stratify`).
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.data.facts import ImageFacts
from sightline.data.phrases import counted, listed
from sightline.data.stratify import hold_out
from sightline.data.table import SPLITS, ImageTable, Split
from sightline.data.trainable import check_trainable, has_splits, missing_splits
from sightline.errors import DataError


@dataclass(frozen=True, eq=False)
class Splits:
    """Where in a table the images of each split stand, ascending. An image is in one split or, left out, in none."""

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]
    made: tuple[str, ...] = ()
    """A sentence on each thing that we decided and not the user."""

    def named(self) -> dict[Split, NDArray[np.int64]]:
        """Each split by its name."""
        return {"train": self.train, "val": self.val, "test": self.test}

    def assigned(self, table: ImageTable) -> tuple[Split | None, ...]:
        """The split of each row of the table; None for what was left out."""
        names: list[Split | None] = [None] * len(table)
        for name, places in self.named().items():
            for place in places.tolist():
                names[place] = name
        return tuple(names)

    def to_json(self, table: ImageTable) -> dict[str, Any]:
        """Plain values that name the images by path."""
        return {
            **{name: [table.paths[place] for place in places.tolist()] for name, places in self.named().items()},
            "made": list(self.made),
        }

    def contents(self, table: ImageTable, facts: Sequence[ImageFacts]) -> dict[str, str]:
        """For each split a hash over its images' paths, labels and bytes: another one means that something changed."""
        hashes: dict[str, str] = {}
        for name, places in self.named().items():
            lines = [f"{table.paths[place]}\t{table.labels[place]}\t{facts[place].sha256}" for place in places.tolist()]
            hashes[name] = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        return hashes

    @staticmethod
    def from_json(value: Any, table: ImageTable) -> "Splits":
        """What `to_json` wrote, found again in the table, which may have more images by now.

        Raises DataError that names the images which are no longer there, or for anything else than was written.
        """
        lists = [value.get(name) for name in (*SPLITS, "made")] if isinstance(value, dict) else [None]
        if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists):
            raise DataError("The stored splits are damaged: train, val, test and made were expected. Name other data.")
        place = {path: number for number, path in enumerate(table.paths)}
        gone = sorted(path for split in SPLITS for path in value[split] if path not in place)
        if gone:
            it = "it" if len(gone) == 1 else "them"
            raise DataError(
                f"{counted(len(gone), 'image')} of the stored split {'is' if len(gone) == 1 else 'are'} no longer in "
                f"{table.source.location!r}: {listed(gone)}. Put {it} back, or name other data."
            )
        places = {split: np.array(sorted(place[path] for path in value[split]), dtype=np.int64) for split in SPLITS}
        return Splits(places["train"], places["val"], places["test"], tuple(value["made"]))


_ORDER: tuple[Split, ...] = ("test", "val")
"""The validation split is a share of what the test split leaves."""


def split(
    table: ImageTable, facts: Sequence[ImageFacts], *, val_fraction: float, test_fraction: float, seed: int
) -> Splits:
    """Divide the readable images of a table.

    test_fraction counts from all images (from the training images where the user made a validation split),
    val_fraction from what is left for training then; both are 0 to 1, rounded within each class, and at
    least one image of each class. Files of the same content stay together; where they carry different labels, or
    one of them is in a split already, they stay in train.

    Raises DataError when a class has too few images, by name and count.
    """
    check_trainable(table)
    assigned: list[Split | None] = [
        (own or "train") if fact.error is None else None for own, fact in zip(table.splits, facts, strict=True)
    ]
    fractions: dict[Split, float] = {"val": val_fraction, "test": test_fraction}
    missing: list[Split] = [name for name in _ORDER if name in missing_splits(table)]
    made: list[str] = []
    for number, name in enumerate(missing):
        spared = len(missing) - number  # for train, and each split still to come
        key = f"{seed} {name}"
        if table.multi_label:
            moved = _shared_out(table, _pool(table, facts, assigned), fractions[name], spared, key)
        else:
            pools = _pools(table, facts, assigned)
            moved = [place for pool in pools for place in _chosen(pool, fractions[name], spared, key)]
        for place in moved:
            assigned[place] = name
        whole = "all images" if not has_splits(table) and name == "test" else "the training images"
        made.append(
            f"{name}: {counted(len(moved), 'image')}, {fractions[name]:.3g} of {whole}, held out by us, "
            f"stratified by {'all labels of an image' if table.multi_label else 'class'}, seed {seed}"
        )
    if missing and has_splits(table):
        made.append(f"The data has no {' and no '.join(sorted(missing))} split of its own")
    left_out = sum(fact.error is not None for fact in facts)
    if left_out:
        made.append(f"left out: {counted(left_out, 'unreadable image')}")
    absent = _check_every_class(table, assigned, missing)
    made += absent
    train, val, test = (np.array([i for i, own in enumerate(assigned) if own == name], np.int64) for name in SPLITS)
    return Splits(train, val, test, tuple(made))


@dataclass(frozen=True)
class _Pool:
    """The training images of one class; of all classes where an image may have several."""

    places: list[int]
    groups: dict[str, list[int]]
    """By content, those that may be moved: their content is nowhere else, and under no other label."""


def _pools(table: ImageTable, facts: Sequence[ImageFacts], assigned: Sequence[Split | None]) -> list[_Pool]:
    """A pool for each class."""
    whole = _pool(table, facts, assigned)
    pools: dict[str, _Pool] = {}
    for place in whole.places:
        pool = pools.setdefault(table.labels[place], _Pool([], {}))
        pool.places.append(place)
    for content, places in whole.groups.items():
        pools[table.labels[places[0]]].groups[content] = places
    return list(pools.values())


def _pool(table: ImageTable, facts: Sequence[ImageFacts], assigned: Sequence[Split | None]) -> _Pool:
    carriers: dict[str, set[tuple[str, Split | None]]] = defaultdict(set)
    for fact, label, own in zip(facts, table.labels, assigned, strict=True):
        carriers[fact.sha256].add((label, own))
    pool = _Pool([], defaultdict(list))
    for place, (fact, own) in enumerate(zip(facts, assigned, strict=True)):
        if own != "train":
            continue
        pool.places.append(place)
        if len(carriers[fact.sha256]) == 1:
            pool.groups[fact.sha256].append(place)
    return pool


def _shared_out(table: ImageTable, pool: _Pool, fraction: float, spared: int, key: str) -> list[int]:
    """A share of the pool, whole groups, about the same of each class; those without a label are one more."""
    number = {name: index for index, name in enumerate(("", *table.classes))}
    rows = {place: [number[name] for name in table.names[place] or ("",)] for place in pool.places}
    totals = np.bincount([column for row in rows.values() for column in row], minlength=len(number))
    contents = sorted(pool.groups, key=lambda content: _rank(key, content))
    groups = np.zeros((len(contents), len(number)), dtype=np.int64)
    for row, content in zip(groups, contents, strict=True):
        row[rows[pool.groups[content][0]]] = len(pool.groups[content])
    held = hold_out(groups, totals, fraction=fraction, spared=spared)
    return [place for index in np.flatnonzero(held).tolist() for place in pool.groups[contents[index]]]


def _chosen(pool: _Pool, fraction: float, spared: int, key: str) -> list[int]:
    """A share of the pool, whole groups in an order that `key` decides, so many that at least `spared` images stay.

    Where every group is larger than the share, the smallest, if as many others stay.
    """
    wanted = min(max(1, int(len(pool.places) * fraction + 0.5)), len(pool.places) - spared)
    groups = [pool.groups[content] for content in sorted(pool.groups, key=lambda content: _rank(key, content))]
    chosen: list[int] = []
    for group in groups:
        if len(chosen) + len(group) <= wanted:
            chosen += group
    bound = sum(map(len, groups)) < len(pool.places)  # to train, by what else carries their content
    if not chosen and len(groups) - 1 + bound >= spared:
        return min(groups, key=len)
    return chosen


def _rank(key: str, content: str) -> bytes:
    return hashlib.sha256(f"{key} {content}".encode()).digest()


def _check_every_class(table: ImageTable, assigned: Sequence[Split | None], made: Sequence[Split]) -> list[str]:
    """Raise DataError when a class that can be read has nothing in train, or in a split that we made.

    Classes of images with several labels can't always be parted so that each is in every split: then the sentences on
    those that are in train alone are given instead.
    """
    said: list[str] = []
    for name in ("train", *made):
        present = {label for names, own in zip(table.names, assigned, strict=True) if own == name for label in names}
        absent = sorted(set(table.classes) - present)
        if absent and table.multi_label and name != "train":
            said.append(f"{name}: no image of {counted(len(absent), 'class', 'classes')}: {listed(absent)}")
        elif absent:
            raise DataError(
                f"{counted(len(absent), 'class', 'classes')} would have no image in {name}, since unreadable images "
                f"and copies of one image don't count: {listed(absent)}. Add images or remove the class."
            )
    return said
