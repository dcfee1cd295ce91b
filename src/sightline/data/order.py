"""Which images come when: a pure function of the seed and the epoch, so that a run can begin anywhere in it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sightline.data.sampling import appearances, balanced
from sightline.randomness import permutation

APPEARANCE = 1 << 40
"""A sample's number is its image's number, plus this for each time that the image has come before in the epoch:
what is drawn for a repeated image is then another draw each time, and for the first time that of no repeats."""


class Order(Protocol):
    """The image numbers of each batch: a list, or something as long that makes them as it goes."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[list[int]]: ...


@dataclass(frozen=True)
class TrainingOrder:
    """All the epochs of a run, one after another, from the batch `start` on.

    Each epoch is shuffled anew. Its batches differ by one image at most and none is left out: a last batch
    of a single image would have no statistics for batch norm.
    """

    indices: NDArray[np.int64]
    batch_size: int
    seed: int
    epochs: int
    start: int = 0
    """Batches that a run which is being resumed has done."""
    balance: NDArray[np.int64] | None = None
    """(len(indices),) class numbers, to make every class come equally often; None takes each image once."""
    repeats: int = 1
    """How often a batch holds each of its images, as samples of their own; it divides batch_size."""

    @property
    def batches_per_epoch(self) -> int:
        """Batches in one epoch."""
        return -(-len(self.indices) // (self.batch_size // self.repeats))

    def __len__(self) -> int:
        return self.epochs * self.batches_per_epoch - self.start

    def __iter__(self) -> Iterator[list[int]]:
        first_epoch, skipped = divmod(self.start, self.batches_per_epoch)
        for epoch in range(first_epoch, self.epochs):
            shuffled = self._images(epoch)[permutation(len(self.indices), self.seed, epoch, "order")]
            for part in np.array_split(shuffled, self.batches_per_epoch)[skipped:]:
                yield self._repeated(part).tolist()
            skipped = 0

    def _repeated(self, samples: NDArray[np.int64]) -> NDArray[np.int64]:
        """Each sample `repeats` times, as further appearances of its image."""
        appearance, image = np.divmod(samples, APPEARANCE)
        copies = [image + APPEARANCE * (appearance * self.repeats + copy) for copy in range(self.repeats)]
        return np.concatenate(copies)

    def _images(self, epoch: int) -> NDArray[np.int64]:
        """The samples' numbers of an epoch, as many as there are images."""
        if self.balance is None:
            return self.indices
        places = balanced(self.balance, self.seed, epoch)
        return self.indices[places] + APPEARANCE * appearances(places)


def in_order(indices: NDArray[np.int64], batch_size: int) -> list[list[int]]:
    """The image numbers of each batch, in the order given; the last may be shorter."""
    return [indices[start : start + batch_size].tolist() for start in range(0, len(indices), batch_size)]
