"""Batches of uint8 pixels from an ImageTable, read by worker processes.

The order of images is a pure function of the seed and the epoch, and so is everything later drawn for
them: how many workers read them, and where a run was resumed, changes nothing.
"""

import signal
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from sightline.augmentations import Batch
from sightline.data.sampling import appearances, balanced
from sightline.data.table import ImageTable
from sightline.decode import decode
from sightline.errors import DataError, SightlineError, UnreadableImageError
from sightline.preprocess import Preprocess
from sightline.randomness import permutation

Item = tuple[Tensor, int] | str

APPEARANCE = 1 << 40
"""A sample's number is its image's number, plus this for each time that the image has come before in the epoch:
what is drawn for a repeated image is then another draw each time, and for the first time that of no repeats."""


class Pixels(Dataset[Item]):
    """Decoded images by number.

    One that can't be read gives a sentence in its place: raised in a worker, the worker's traceback would bury it.
    """

    def __init__(self, table: ImageTable, preprocess: Preprocess, *, canvas: bool) -> None:
        self.table = table
        self.window = preprocess.canvas if canvas else preprocess.pixels

    def __getitem__(self, index: int) -> Item:
        """(3, H, W) uint8 and the sample's number."""
        path = self.table.paths[index % APPEARANCE]
        try:
            pixels = self.window(decode(self.table.source.read(path)))
        except UnreadableImageError as error:
            return f"{path!r} was readable when the data was checked and is not any more: {error}."
        return torch.from_numpy(pixels).permute(2, 0, 1), index


def _collate(items: list[Item]) -> tuple[Tensor, Tensor] | str:
    images: list[Tensor] = []
    samples: list[int] = []
    for item in items:
        if isinstance(item, str):
            return item
        images.append(item[0])
        samples.append(item[1])
    return torch.stack(images), torch.tensor(samples)


@dataclass(frozen=True)
class Batches:
    """Batches in a stated order; each pass reads the images anew."""

    pixels: Pixels
    order: "Order"
    """The image numbers of each batch."""
    targets: NDArray[np.int64]
    """(N,) the class number of every image of the table, or (N, K) 0 or 1 where images may have several labels."""
    num_classes: int
    num_workers: int

    @property
    def batch_size(self) -> int:
        """Images in the first batch, which is as large as any."""
        return len(next(iter(self.order)))

    def __len__(self) -> int:
        """Batches in a pass."""
        return len(self.order)

    def __iter__(self) -> Iterator[Batch]:
        """Yield Batch(images (B, 3, H, W) uint8, targets (B, K), samples (B,)). Raises DataError."""
        loader = DataLoader(
            self.pixels,
            batch_sampler=cast(Any, self.order),
            num_workers=min(self.num_workers, len(self.order)),
            collate_fn=_collate,
            worker_init_fn=_ignore_signals,
            pin_memory=torch.cuda.is_available(),
        )
        for loaded in loader:
            if isinstance(loaded, str):
                raise DataError(loaded)
            images, samples = loaded
            targets = torch.from_numpy(self.targets[samples.numpy() % APPEARANCE])
            rows = targets if targets.ndim == 2 else F.one_hot(targets, self.num_classes)
            yield Batch(images, rows.float(), samples)


def _ignore_signals(_worker: int) -> None:
    """Ctrl-C reaches the workers too, and the run needs them until it has written its checkpoint.

    They end with their parent: torch's workers look for it every few seconds.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@contextmanager
def explained_failures() -> Generator[None]:
    """Turn a worker that died, and memory that ran out, into SightlineErrors, wherever in the block torch raises."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise SightlineError("Memory ran out. Lower batch_size, data.image_size or data.resize.") from error
        if not str(error).startswith("DataLoader worker"):
            raise
        raise SightlineError(
            "A process that reads images was killed from outside, most often because memory ran out. "
            "Lower data.num_workers; a run goes on with --resume."
        ) from error


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
