"""Batches of uint8 pixels from an ImageTable, read ahead by threads, from the packed cache where there is one.

What comes when is the order's affair, and everything later drawn for an image is a function of its number: how
many threads read, and where a run was resumed, changes nothing.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sightline.ahead import in_order
from sightline.augmentations import Batch
from sightline.data.order import APPEARANCE, Order
from sightline.data.packed import Packed
from sightline.data.table import ImageTable
from sightline.decode import decode
from sightline.errors import DataError, SightlineError, UnreadableImageError
from sightline.preprocess import Preprocess

_AHEAD = 2
"""Batches that each thread reads ahead."""

MEMORY_RAN_OUT = "Memory ran out. Lower batch_size, data.image_size or data.resize."


class MemoryRanOutError(SightlineError):
    """A step that doesn't fit into the memory of the device it was tried on."""


class Pixels:
    """Decoded images by number: the canvas that training crops from, or the window that evaluation sees."""

    def __init__(self, table: ImageTable, preprocess: Preprocess, *, canvas: bool, store: Packed | None = None) -> None:
        self.table = table
        self.store = store
        """Holds canvases; an evaluation window is a canvas's centre, pixel for pixel."""
        whole = canvas or store is not None
        self._decoded = preprocess.canvas if whole else preprocess.pixels
        start = preprocess.margin if whole and not canvas else 0
        self._window = slice(start, start + preprocess.image_size) if whole and not canvas else slice(None)

    def batch(self, indices: NDArray[np.int64]) -> Tensor:
        """(B, 3, H, W) uint8, the channel innermost in memory. Raises DataError for an image that can't be read."""
        if self.store is None:
            rows = np.stack([self._read(index) for index in indices.tolist()])
        else:
            rows = self.store.rows(indices, self._read)
        return torch.from_numpy(rows[:, self._window, self._window]).permute(0, 3, 1, 2)

    def _read(self, index: int) -> NDArray[np.uint8]:
        path = self.table.paths[index]
        try:
            return self._decoded(decode(self.table.source.read(path)))
        except UnreadableImageError as error:
            raise DataError(f"{path!r} was readable when the data was checked and is not any more: {error}.") from error


@dataclass(frozen=True)
class Batches:
    """Batches in a stated order; each pass reads the images anew, or takes them from the packed cache."""

    pixels: Pixels
    order: Order
    """The image numbers of each batch."""
    targets: NDArray[np.int64]
    """(N,) the class number of every image of the table, -1 for none, or (N, K) 0 or 1 where they may have several."""
    num_classes: int
    num_workers: int
    """Threads that read ahead; 0 reads when a batch is asked for."""

    @property
    def batch_size(self) -> int:
        """Images in the first batch, which is as large as any."""
        return len(next(iter(self.order)))

    def __len__(self) -> int:
        """Batches in a pass."""
        return len(self.order)

    def __iter__(self) -> Iterator[Batch]:
        """Yield Batch(images (B, 3, H, W) uint8, targets (B, K), samples (B,)). Raises DataError."""
        if self.num_workers == 0:
            yield from map(self._batch, self.order)
            return
        yield from in_order(
            self._batch, self.order, threads=self.num_workers, ahead=_AHEAD * self.num_workers, name="sightline-read"
        )

    def _batch(self, numbers: list[int]) -> Batch:
        samples = np.array(numbers, dtype=np.int64)
        indices = samples % APPEARANCE
        images = self.pixels.batch(indices)
        targets = torch.from_numpy(self.targets[indices])
        rows = targets if targets.ndim == 2 else targets[:, None] == torch.arange(self.num_classes)  # -1: nowhere
        if _has_cuda():
            images = images.pin_memory()  # so that copying to the device doesn't wait
        return Batch(images, rows.float(), torch.from_numpy(samples))


@cache
def _has_cuda() -> bool:
    """Once: torch opens the driver's library each time it is asked, which takes longer than cropping small images."""
    return torch.cuda.is_available()


@contextmanager
def explained_failures() -> Generator[None]:
    """Turn memory that ran out into a MemoryRanOutError, wherever in the block torch raises."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise MemoryRanOutError(MEMORY_RAN_OUT) from error
        raise
