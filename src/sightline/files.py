"""Files that appear whole or not at all: written aside, flushed to the disk, renamed."""

import json
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from sightline.errors import SightlineError

ABANDONED = 24 * 3600
"""Seconds after which nobody is still writing to a half-written file."""

_ours: set[Path] = set()
"""Folders that this process has claimed: the system's lock keeps out others alone, and is lost when any file of it is
closed."""


def expanded(path: str | Path) -> Path:
    """The path with the home folder in place of "~" or "~name"; as it is where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


@contextmanager
def whole_file(path: Path) -> Generator[Path]:
    """Yield a path beside `path` to write to; it takes the name `path` when the block ends well.

    Raises SightlineError when the disk is full, the folder can't be written to, or the name is too long.
    A block that fails leaves neither file behind, and an older `path` untouched.
    """
    aside = path.parent / f".{secrets.token_hex(8)}.part"  # not path.name: it may fill the longest name already
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _tidy(path.parent)
        aside.touch()
        mode = aside.stat().st_mode  # a new file's, as the user's umask has it: safetensors' are the user's alone
        yield aside
        aside.chmod(mode)
        _flush(aside)
        aside.replace(path)
        _flush(path.parent)
    except OSError as error:
        if error.errno is None:  # not the disk's: decoders raise OSError of their own about what they read
            raise
        raise SightlineError(f"Could not write {str(path)!r}: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Generator[Path]:
    """Yield an empty folder beside `path` to fill; it takes the name `path` when the block ends well.

    An older `path` is replaced; a block that fails leaves it untouched, and nothing else behind. Of a symbolic link
    what it points to is replaced.
    Raises SightlineError when the disk is full or the folder can't be written to.
    """
    named, path = path, Path(os.path.realpath(path))  # the disk's folder: only within it can a folder be renamed
    aside, older = (path.parent / f".{secrets.token_hex(8)}.{kind}" for kind in ("part", "old"))
    try:
        aside.mkdir(parents=True)
        _tidy(path.parent)
        yield aside
        for file in aside.iterdir():
            _flush(file)
        _flush(aside)
        if path.exists():
            os.utime(path)  # set aside it counts as new: a kill may leave it the only copy for now
            path.rename(older)
        aside.rename(path)
        _flush(path.parent)
    except OSError as error:
        if error.errno is None:
            raise
        raise SightlineError(f"Could not write {str(named)!r}: {error.strerror or error}.") from error
    finally:
        if older.exists() and not path.exists():
            older.rename(path)
        for left in (aside, older):
            shutil.rmtree(left, ignore_errors=True)


@contextmanager
def claimed(folder: Path) -> Generator[None]:
    """Keep others who ask the same out of a folder until the block, or this process, has ended.

    A folder that was made for it goes again where the block has put nothing into it.
    Raises SightlineError when it is claimed already, by this process or another.
    """
    import fcntl  # on the systems that have it, which are those PyTorch trains on with worker processes

    place = Path(os.path.realpath(folder))
    if place in _ours:
        raise SightlineError(f"This process is writing to {str(folder)!r} already. Choose another folder.")
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise SightlineError(f"Could not write {str(folder)!r}: {error.strerror or error}.") from error
    with lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not flock: forked workers would hold it after a kill
        except OSError as error:
            raise SightlineError(f"Another process is writing to {str(folder)!r}. Choose another folder.") from error
        _ours.add(place)
        try:
            yield
        finally:
            _ours.remove(place)
            _remove_unused(folder, made)


def _remove_unused(folder: Path, made: Sequence[Path]) -> None:
    """Remove a claimed folder that holds nothing but its lock, and what was made around it."""
    with suppress(OSError):
        if made and [path.name for path in folder.iterdir()] == [".lock"]:
            (folder / ".lock").unlink()
            for each in made:
                each.rmdir()


def is_claimed(folder: Path) -> bool:
    """Whether this process or another has claimed the folder."""
    import fcntl

    if Path(os.path.realpath(folder)) in _ours:
        return True
    try:
        lock = (folder / ".lock").open("r+")
    except OSError:
        return False
    with lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        return False


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with whole_file(path) as aside:
        aside.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file whole or not at all. Bytes of a file's name that are not UTF-8 are escaped as in JSON."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_json(path: Path, value: object) -> None:
    """Write plain values as indented JSON, whole or not at all. NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def reserve(path: Path) -> None:
    """Have the disk hold a file of holes as it is, so that writing to it through memory can't kill the process.

    Raises OSError where there is no room.
    """
    if sys.platform == "linux":
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def cache_folder() -> Path:
    """Where derived data may be kept: $SIGHTLINE_CACHE, else sightline/ in the user's cache directory."""
    named = os.environ.get("SIGHTLINE_CACHE")
    if named:
        return Path(named)
    home = os.environ.get("XDG_CACHE_HOME")
    if home:
        return Path(home) / "sightline"
    try:
        return Path.home() / ".cache" / "sightline"
    except RuntimeError:  # a container's user may have neither $HOME nor an entry in the list of users
        return Path(tempfile.gettempdir()) / f"sightline-{os.getuid()}"


def keep_latest(entries: Iterable[Path], count: int) -> None:
    """Delete all but the `count` files and folders of a cache that were touched last; what can't be deleted stays."""
    dated: list[tuple[float, Path]] = []
    for entry in entries:
        with suppress(OSError):  # another process tidies up too
            dated.append((entry.stat().st_mtime, entry))
    for _, entry in sorted(dated, reverse=True)[count:]:
        with suppress(OSError):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _tidy(folder: Path) -> None:
    """Delete what killed processes left half-written, or set aside, a day ago or longer."""
    for kind in ("part", "old"):
        for left in folder.glob(f".{'[0-9a-f]' * 16}.{kind}"):
            with suppress(OSError):
                if time.time() - left.lstat().st_mtime > ABANDONED:
                    shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
