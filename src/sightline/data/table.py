"""ImageTable: which images there are, with their labels and splits, wherever they are kept."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
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
    """The class of each image."""
    splits: tuple[Split | None, ...]
    """The split the user put it in; None where the data has none."""
    ignored: tuple[str, ...] = ()
    """Files that are no images by name and were passed over: notes, lists, hidden files."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, sorted; a class's number is its place here."""
        return tuple(sorted(set(self.labels)))

    @property
    def targets(self) -> NDArray[np.int64]:
        """(N,) each image's class number."""
        number = {name: index for index, name in enumerate(self.classes)}
        return np.array([number[label] for label in self.labels], dtype=np.int64)

    @property
    def counts(self) -> Counter[str]:
        """Images in each class."""
        return Counter(self.labels)

    def __len__(self) -> int:
        return len(self.paths)
