"""audit(): what is wrong or worth knowing about a set of images, from the facts alone."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sightline.data.facts import SMALLEST, ImageFacts
from sightline.data.phrases import counted, listed
from sightline.data.similar import connected, near_groups
from sightline.data.table import SPLITS, ImageTable, Split
from sightline.data.trainable import obstacles

NEAR = 4
"""Images whose 64-bit perceptual hashes differ in at most so many bits are near duplicates.

On the 60,000 images of CIFAR-10 that gives 289 groups; of 96 pairs looked at, 93 show the same picture.
"""

LONGEST = 3.0
"""An image whose sides differ by a larger factor loses most of itself when its centre is cut out."""

LISTED = 200
"""Entries of each list in the JSON; the counts beside them are complete."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An image that can't be used."""

    path: str
    split: Split | None
    reason: str


@dataclass(frozen=True, slots=True)
class Alike:
    """Two or more files that show the same, byte for byte or nearly."""

    paths: tuple[str, ...]
    labels: tuple[str, ...]
    """The different labels among them, sorted."""
    splits: tuple[Split, ...]
    """The different splits among them."""


@dataclass(frozen=True, kw_only=True)
class DataAudit:
    """The findings. Paths are the table's."""

    location: str
    fingerprint: str
    num_images: int
    """All of them, unreadable ones included."""
    counts: dict[str, int]
    """Images of each class, unreadable ones included; one with several labels counts for each."""
    without_label: int | None = None
    """Images without any label; None where each has exactly one."""
    split_counts: dict[str, dict[str, int]]
    """The same for each split."""
    unreadable: tuple[Unreadable, ...]
    duplicates: tuple[Alike, ...]
    """Groups of files with the same bytes."""
    near_duplicates: tuple[Alike, ...]
    """Groups with at least two different files, whose perceptual hashes connect them."""
    not_compared: int
    """Readable images that are too small or too flat to look for near duplicates of."""
    small: tuple[str, ...]
    """Images whose shorter side has fewer than 32 pixels."""
    elongated: tuple[str, ...]
    """Images more than 3 times as long as wide, or as wide as long."""
    animated: tuple[str, ...]
    """Animations, of which the first frame is used."""
    rotated: int
    """Images whose EXIF orientation is not upright; it is applied."""
    modes: dict[str, int]
    formats: dict[str, int]
    sides: tuple[int, int, int]
    """The smallest, the median and the largest shorter side, in pixels."""
    ignored: tuple[str, ...]
    """Files that are no images by name, and empty or hidden folders."""
    obstacles: tuple[str, ...]
    """Why these images can't be trained on, if they can't."""

    @property
    def imbalance(self) -> float:
        """Images of the largest class for one of the smallest."""
        return max(self.counts.values(), default=1) / min(self.counts.values(), default=1)

    @property
    def conflicts(self) -> tuple[Alike, ...]:
        """Files with the same bytes and different labels."""
        return tuple(group for group in self.duplicates if len(group.labels) > 1)

    @property
    def leaks(self) -> tuple[Alike, ...]:
        """Groups of the same or nearly the same images that are in more than one split."""
        return tuple(group for group in (*self.duplicates, *self.near_duplicates) if len(group.splits) > 1)

    @property
    def uncovered(self) -> dict[str, list[str]]:
        """The classes of which a split to choose or to test by has no image, by split."""
        held_out = {split: counts for split, counts in self.split_counts.items() if split != "train"}
        empty = {split: [name for name, count in counts.items() if not count] for split, counts in held_out.items()}
        return {split: names for split, names in empty.items() if names}

    def problems(self) -> tuple[str, ...]:
        """A sentence for each thing that stops a training, or spoils its figures; none when all is well."""
        found = list(self.obstacles)
        found += [
            f"{split} has no image of {counted(len(names), 'class', 'classes')}: {listed(names)}."
            for split, names in self.uncovered.items()
        ]
        if self.unreadable:
            found.append(f"{counted(len(self.unreadable), 'image')} can't be read.")
        if self.conflicts:
            found.append(f"{counted(len(self.conflicts), 'image')} found under several labels, byte for byte.")
        if self.leaks:
            found.append(
                f"{counted(len(self.leaks), 'group')} of the same or nearly the same images in more than one split."
            )
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """Plain values. The longest lists are cut to LISTED entries; `totals` has their full lengths."""
        value = {
            "problems": list(self.problems()),
            "totals": {name: len(getattr(self, name)) for name in _LISTS},
            "imbalance": round(self.imbalance, 4),
            **{name: entries for name, entries in asdict(self).items() if name not in _LISTS and entries is not None},
            **{name: [_plain(entry) for entry in getattr(self, name)[:LISTED]] for name in _LISTS},
        }
        return json.loads(json.dumps(value))  # tuples become lists, as they will be when read again


_LISTS = (
    "unreadable",
    "conflicts",
    "leaks",
    "duplicates",
    "near_duplicates",
    "small",
    "elongated",
    "animated",
    "ignored",
)


def _plain(entry: Unreadable | Alike | str) -> object:
    return entry if isinstance(entry, str) else asdict(entry)


def audit(table: ImageTable, facts: Sequence[ImageFacts], assigned: Sequence[Split | None] | None = None) -> DataAudit:
    """The audit of a table from the facts of its rows.

    `assigned` gives each row's split where that was decided since; left out, the user's own splits count.
    """
    splits = table.splits if assigned is None else assigned
    readable = [fact for fact in facts if fact.error is None]
    sides = sorted(min(fact.width, fact.height) for fact in readable) or [0]
    exact, near = _alike(facts)
    return DataAudit(
        location=table.source.location,
        fingerprint=fingerprint(table, facts),
        num_images=len(table),
        counts=dict(sorted(table.counts.items())),
        without_label=table.labels.count("") if table.multi_label else None,
        split_counts=_split_counts(table, splits),
        unreadable=tuple(
            Unreadable(fact.path, own, fact.error) for fact, own in zip(facts, splits, strict=True) if fact.error
        ),
        duplicates=_groups(table, splits, exact),
        near_duplicates=_groups(table, splits, near),
        not_compared=sum(fact.phash is None for fact in readable),
        small=tuple(fact.path for fact in readable if min(fact.width, fact.height) < SMALLEST),
        elongated=tuple(
            fact.path for fact in readable if max(fact.width, fact.height) > LONGEST * min(fact.width, fact.height)
        ),
        animated=tuple(fact.path for fact in readable if fact.animated),
        rotated=sum(fact.orientation != 1 for fact in readable),
        modes=dict(Counter(fact.mode for fact in readable).most_common()),
        formats=dict(Counter(fact.format for fact in readable).most_common()),
        sides=(sides[0], sides[len(sides) // 2], sides[-1]),
        ignored=table.ignored,
        obstacles=obstacles(table),
    )


def fingerprint(table: ImageTable, facts: Sequence[ImageFacts]) -> str:
    """64 hexadecimal digits that change with any path, label, split or content, and not with the location."""
    digest = hashlib.sha256()
    for row in sorted(
        json.dumps([path, label, split, fact.sha256])
        for path, label, split, fact in zip(table.paths, table.labels, table.splits, facts, strict=True)
    ):
        digest.update(row.encode() + b"\n")
    return digest.hexdigest()


def _alike(facts: Sequence[ImageFacts]) -> tuple[list[list[int]], list[list[int]]]:
    """The places of the files that are the same byte for byte, and of those that are nearly so, in groups."""
    contents: dict[str, list[int]] = defaultdict(list)
    hashes: dict[int, list[int]] = defaultdict(list)
    for place, fact in enumerate(facts):
        if fact.sha256:
            contents[fact.sha256].append(place)
        if fact.phash is not None:
            hashes[fact.phash].append(place)
    exact = [places for places in contents.values() if len(places) > 1]
    groups = near_groups(np.array(list(hashes), dtype=np.uint64), NEAR)
    families = list(hashes.values())
    links = [(families[group][0], places[0]) for group, places in zip(groups.tolist(), families, strict=True)]
    links += [(places[0], other) for places in families for other in places[1:]]
    near = [group for group in connected(len(facts), links) if len({facts[place].sha256 for place in group}) > 1]
    return exact, near


def _groups(table: ImageTable, splits: Sequence[Split | None], groups: Iterable[Sequence[int]]) -> tuple[Alike, ...]:
    return tuple(
        Alike(
            paths=tuple(table.paths[place] for place in group),
            labels=tuple(sorted({table.labels[place] for place in group})),
            splits=tuple(name for name in SPLITS if any(splits[place] == name for place in group)),
        )
        for group in groups
    )


def _split_counts(table: ImageTable, splits: Sequence[Split | None]) -> dict[str, dict[str, int]]:
    pairs = zip(splits, table.names, strict=True)
    counts = Counter((own, name) for own, names in pairs for name in names)
    return {name: {label: counts[name, label] for label in table.classes} for name in SPLITS if name in set(splits)}
