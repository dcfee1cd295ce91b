"""The packed cache: each image decoded and resized once, its pixels kept in a memory-mapped file.

A file holds the canvas of every image of a table, row by row; a row is filled when it is first asked for, so that
the first epoch takes no longer than it would, and an image nobody asks for takes no room on the disk. Which rows
are filled is written only after their pixels have reached the disk, whole or not at all: a process that is killed, or
a power cut, loses the knowledge of some rows and never the rightness of one. Several processes may fill one
file: they write the same pixels. Where the file was deleted or cut short, another one begins with nothing filled.
"""

import hashlib
import mmap
import os
import shutil
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import numpy as np
import PIL
from numpy.typing import NDArray

from sightline.errors import SightlineError
from sightline.files import cache_folder, whole_file

_VERSION = 2
"""Raised when a later release makes other pixels of the same bytes."""

SHARE_OF_DISK = 0.5
"""Of the disk's free space, and of what the cache holds already: what all packed tables may take, unless
$SIGHTLINE_CACHE_GB says how many gigabytes."""

SAVE_SECONDS = 60.0
"""What a process that is killed may have filled for nothing."""

Pixels = NDArray[np.uint8]


class Packed:
    """Rows of pixels, (N, side, side, 3) uint8, some of them filled. Threads may share it."""

    def __init__(self, folder: Path, count: int, side: int) -> None:
        """Open or begin the file. Raises OSError when the disk doesn't let us."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._shape = (count, side, side, 3)
        with self._alone():
            self._file = self._opened(count * side * side * 3)
            self._filled = self._stored()
        mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        self._rows: Pixels = np.frombuffer(mapped, dtype=np.uint8).reshape(self._shape)
        self._unsaved = 0
        self._saving, self._saved_at = Lock(), time.monotonic()
        os.utime(folder)

    def rows(self, indices: NDArray[np.int64], make: Callable[[int], Pixels]) -> Pixels:
        """(B, side, side, 3): the rows at `indices`; `make(index)` gives the pixels of one that isn't filled."""
        filled = self._filled[indices]  # asked first: another thread may fill them meanwhile
        if filled.all():
            rows = self._rows[indices]
        else:
            rows = np.empty((len(indices), *self._shape[1:]), np.uint8)
            rows[filled] = self._rows[indices[filled]]
        for place in np.flatnonzero(~filled).tolist():
            index = int(indices[place])
            rows[place] = make(index)
            self._fill(index, rows[place])
        if self._unsaved and time.monotonic() - self._saved_at > SAVE_SECONDS:
            self.save()
        return rows

    @contextmanager
    def _alone(self) -> Generator[None]:
        """Other processes wait before they begin a file, or say which of its rows are filled."""
        import fcntl

        with (self.folder / ".list").open("a+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _opened(self, size: int) -> BinaryIO:
        """The file of so many bytes; where it isn't there whole, one that begins, and what was filled is forgotten."""
        path = self.folder / "pixels"
        if not path.exists() or path.stat().st_size != size:
            (self.folder / "filled.npy").unlink(missing_ok=True)
            path.unlink(missing_ok=True)  # not mended: a process that uses it would take lost rows for filled
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b")
        file.truncate(size)  # sparse: rows take room once they are filled
        return file

    def _is_ours(self) -> bool:
        """Whether the file in the folder is still the one that this process fills."""
        return os.path.samestat(os.fstat(self._file.fileno()), (self.folder / "pixels").stat())

    def _fill(self, index: int, pixels: Pixels) -> None:
        # Written to the file, not through the map: a full disk is an error there, and the end of the process here.
        with suppress(OSError):
            if os.pwrite(self._file.fileno(), pixels.data, index * pixels.nbytes) == pixels.nbytes:
                self._filled[index] = True
                self._unsaved += 1

    def save(self) -> None:
        """Remember which rows are filled: first their pixels reach the disk, then the list."""
        if not self._unsaved or not self._saving.acquire(blocking=False):
            return
        try:
            self._save()
        finally:
            self._saving.release()

    def _save(self) -> None:
        self._saved_at = time.monotonic()
        filled, self._unsaved = self._filled.copy(), 0  # rows that other threads fill meanwhile wait for the next time
        with suppress(OSError, SightlineError):  # a full disk costs the cache, never the run
            os.fsync(self._file.fileno())
            with self._alone():
                if not self._is_ours():
                    return
                with whole_file(self.folder / "filled.npy") as aside, aside.open("wb") as file:
                    np.save(file, filled | self._stored())

    def close(self) -> None:
        """Save, and fill no more rows."""
        self.save()
        self._file.close()

    def _stored(self) -> NDArray[np.bool_]:
        try:
            stored: NDArray[np.bool_] = np.load(self.folder / "filled.npy", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return np.zeros(self._shape[0], dtype=np.bool_)
        fits = stored.shape == self._shape[:1] and stored.dtype == np.bool_
        return stored if fits else np.zeros(self._shape[0], dtype=np.bool_)


@contextmanager
def packed(fingerprint: str, geometry: str, count: int, side: int) -> Generator[Packed | None]:
    """The packed pixels of a table for as long as the block runs; None where the disk has no room for them.

    `fingerprint` is the data's, `geometry` what decides the pixels beside it. `count` images of `side` pixels squared.
    Tables that were not used for longest make room; one that a process is using stays.
    """
    text = f"{_VERSION} {PIL.__version__} {fingerprint} {geometry} {count} {side}"
    folder = cache_folder() / "packed" / hashlib.sha256(text.encode()).hexdigest()[:16]
    if not _make_room(folder, count * side * side * 3):
        yield None
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("a+b")
    except OSError:
        yield None
        return
    with lock:
        if not _share(lock):
            yield None
            return
        try:
            store = Packed(folder, count, side)
        except OSError:
            yield None
            return
        try:
            yield store
        finally:
            store.close()


def _make_room(folder: Path, size: int) -> bool:
    """Whether a table of so many bytes may be kept, after those that were not used for longest are gone."""
    place = folder.parent
    try:
        place.mkdir(parents=True, exist_ok=True)
        others = sorted((kept for kept in place.iterdir() if kept != folder), key=lambda kept: kept.stat().st_mtime)
        sizes = {kept: _size(kept) for kept in others}
        own = _size(folder)
        allowed = _allowed(shutil.disk_usage(place).free + own + sum(sizes.values()))
    except OSError:
        return False
    if size > allowed:
        return False
    for kept in others:
        if size + sum(sizes.values()) <= allowed:
            return True
        if _remove(kept):
            del sizes[kept]
    return size + sum(sizes.values()) <= allowed


def _allowed(room: int) -> float:
    """Bytes that packed tables may take in all; `room` is what they could take at most. Raises SightlineError."""
    named = os.environ.get("SIGHTLINE_CACHE_GB", "")
    try:
        return min(room, float(named) * 1e9) if named else SHARE_OF_DISK * room
    except ValueError as error:
        raise SightlineError(f"SIGHTLINE_CACHE_GB should be a number of gigabytes, got {named!r}.") from error


def _size(folder: Path) -> int:
    """Bytes on the disk; of a sparse file only what is there."""
    return sum(file.stat().st_blocks * 512 for file in folder.iterdir()) if folder.is_dir() else 0


def _remove(folder: Path) -> bool:
    """Delete a table that no process uses; False where one does."""
    import fcntl

    try:
        with (folder / ".lock").open("a+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
    except OSError:
        return False
    return True


def _share(lock: BinaryIO) -> bool:
    """Keep a table from being deleted until the file is closed; False where it is being deleted right now."""
    import fcntl

    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return Path(lock.name).exists()
