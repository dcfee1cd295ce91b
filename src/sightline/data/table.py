"""ImageTable: which images there are, with their labels and splits, wherever they are kept."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


class Source(Protocol):
    """A place that images are read from: a folder, an archive, memory. Thread-safe, and can be pickled and forked."""

    @property
    def location(self) -> str:
        """What the user named, made absolute where it is a path: `scan(location)` finds the same images again."""
        ...

    def read(self, path: str) -> bytes:
        """The file's bytes. Raises UnreadableImageError with the reason when it can't be read."""
        ...

    def stamps(self, paths: Sequence[str]) -> list[str]:
        """For each path a text that changes when the file does; "" where nothing can be said without reading it."""
        ...


@dataclass(frozen=True, eq=False)
class ImageTable:
    """A row for each image, sorted by path, whether or not it can be read."""

    source: Source
    paths: tuple[str, ...]
    """Within the source, with forward slashes."""
    labels: tuple[str, ...]
    """The class of each image; where it may have several, their names, sorted, `separator` between them; or ""."""
    splits: tuple[Split | None, ...]
    """The split the user put it in; None where the data has none."""
    ignored: tuple[str, ...] = ()
    """Files that are no images by name and were passed over: notes, lists, hidden files."""
    separator: str | None = None
    """Where an image may have several labels, what stands between them in `labels`; None for one label an image."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, sorted; a class's number is its place here."""
        return tuple(sorted(set(chain.from_iterable(self.names))))

    @property
    def targets(self) -> NDArray[np.int64]:
        """(N,) each image's class number; with several labels (N, K) 0 or 1."""
        return self.numbered(self.classes)

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several labels, or none."""
        return self.separator is not None

    @cached_property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """The classes of each image."""
        if self.separator is None:
            return tuple((label,) for label in self.labels)
        return tuple(tuple(label.split(self.separator)) if label else () for label in self.labels)

    def numbered(self, classes: Sequence[str]) -> NDArray[np.int64]:
        """(N,) each image's place in `classes`, -1 where it isn't there; with several labels (N, K) 0 or 1."""
        number = {name: index for index, name in enumerate(classes)}
        if not self.multi_label:
            return np.array([number.get(label, -1) for label in self.labels], dtype=np.int64)
        rows = np.zeros((len(self), len(classes)), dtype=np.int64)
        for row, names in zip(rows, self.names, strict=True):
            row[[number[name] for name in names if name in number]] = 1
        return rows

    @property
    def counts(self) -> Counter[str]:
        """Images in each class; one with several labels counts for each."""
        return Counter(chain.from_iterable(self.names))

    def __len__(self) -> int:
        return len(self.paths)
