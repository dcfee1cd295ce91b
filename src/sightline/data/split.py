"""split(): which images are trained on, chosen by, and kept for the final figures.

A split the user made stays as it is. What is missing is held out of the training images, class by class, in an
order that depends on the seed and on each file's content alone: a renamed file stays where it was, and
images that are added later move only as many others as the counts ask for.
"""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.data.facts import ImageFacts
from sightline.data.phrases import counted, listed
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

    def thinned(self, limit: int) -> "Splits":
        """At most `limit` images of each split, spread over it so that they are of several classes."""
        few = [places[:: max(1, -(-len(places) // limit))] for places in self.named().values()]
        return Splits(*few, made=(*self.made, f"Of each split no more than {counted(limit, 'image')} taken"))

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

    @staticmethod
    def from_json(value: Mapping[str, Any], table: ImageTable) -> "Splits":
        """What `to_json` wrote, found again in the table, which may have more images by now.

        Raises DataError that names the images which are no longer there.
        """
        place = {path: number for number, path in enumerate(table.paths)}
        gone = [path for split in SPLITS for path in value[split] if path not in place]
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
    for name in missing:
        number = _hold_out(table, facts, assigned, name, fractions[name], seed)
        whole = "all images" if not has_splits(table) and name == "test" else "the training images"
        made.append(
            f"{name}: {counted(number, 'image')}, {fractions[name]:.3g} of {whole}, held out by us, "
            f"stratified by class, seed {seed}"
        )
    if missing and has_splits(table):
        made.append(f"The data has no {' and no '.join(sorted(missing))} split of its own")
    left_out = sum(fact.error is not None for fact in facts)
    if left_out:
        made.append(f"left out: {counted(left_out, 'unreadable image')}")
    _check_every_class(table, assigned, missing)
    train, val, test = (np.array([i for i, own in enumerate(assigned) if own == name], np.int64) for name in SPLITS)
    return Splits(train, val, test, tuple(made))


def _hold_out(
    table: ImageTable,
    facts: Sequence[ImageFacts],
    assigned: list[Split | None],
    name: Split,
    fraction: float,
    seed: int,
) -> int:
    """Move a share of each class's training images to the split `name`, and say how many that were."""
    carriers: dict[str, set[tuple[str, Split | None]]] = defaultdict(set)  # of a content: its labels and splits
    for fact, label, own in zip(facts, table.labels, assigned, strict=True):
        carriers[fact.sha256].add((label, own))
    pools: dict[str, list[int]] = defaultdict(list)
    for place, (label, own) in enumerate(zip(table.labels, assigned, strict=True)):
        if own == "train":
            pools[label].append(place)
    moved = 0
    for places in pools.values():
        wanted = max(1, int(len(places) * fraction + 0.5))
        groups: dict[str, list[int]] = defaultdict(list)
        for place in places:
            if len(carriers[facts[place].sha256]) == 1:
                groups[facts[place].sha256].append(place)
        taken = 0
        for content in sorted(groups, key=lambda content: _rank(seed, name, content)):
            if taken + len(groups[content]) <= wanted and taken + len(groups[content]) < len(places):
                taken += len(groups[content])
                for place in groups[content]:
                    assigned[place] = name
        moved += taken
    return moved


def _rank(seed: int, name: Split, content: str) -> bytes:
    return hashlib.sha256(f"{seed} {name} {content}".encode()).digest()


def _check_every_class(table: ImageTable, assigned: Sequence[Split | None], made: Sequence[Split]) -> None:
    """Raise DataError when a class that can be read has nothing in train, or in a split that we made."""
    for name in ("train", *made):
        present = {label for label, own in zip(table.labels, assigned, strict=True) if own == name}
        absent = sorted(set(table.labels) - present)
        if absent:
            raise DataError(
                f"{counted(len(absent), 'class', 'classes')} would have no image in {name}, since unreadable images "
                f"and copies of one image don't count: {listed(absent)}. Add images or remove the class."
            )
