"""Images as files in a folder: listing them and reading them."""

import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sightline.data.layout import Listing, is_hidden
from sightline.errors import DataError, UnreadableImageError

MAX_BYTES = 2**30
"""Larger files are not read: the largest image that is decoded takes less, even uncompressed at 8 bytes a pixel."""

_REASONS = {
    errno.ENOENT: "the file does not exist",
    errno.ENOTDIR: "the file does not exist",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ELOOP: "a link that leads back to itself",
}

Identity = tuple[int, int]
"""A folder's device and number, whatever name it is reached by."""


@dataclass(frozen=True)
class FolderSource:
    """Files below `root`, each opened when it is read: nothing to share between threads or processes."""

    location: str
    root: str
    """What paths are relative to; an absolute path stands for itself."""

    def read(self, path: str) -> bytes:
        """The file's bytes. Raises UnreadableImageError with the reason when it can't be read."""
        file = Path(self.root, path)
        try:
            status = file.stat()
            if not stat.S_ISREG(status.st_mode):  # opening a named pipe would wait for ever
                raise UnreadableImageError("not a regular file")
            if status.st_size > MAX_BYTES:
                raise UnreadableImageError(f"{status.st_size:,} bytes, more than {MAX_BYTES:,}")
            return file.read_bytes()
        except OSError as error:
            raise UnreadableImageError(reason(error)) from error

    def stamps(self, paths: Sequence[str]) -> list[str]:
        """Size and times of the last change; "" where the file can't be looked at."""
        return [_stamp(os.path.join(self.root, path)) for path in paths]  # noqa: PTH118  # 5 times Path's speed


def list_folder(root: Path) -> Listing:
    """Every file below `root`, symbolic links followed, hidden folders passed over.

    Raises DataError that names every folder that can't be read, every link that leads back to a folder above
    it, and every name that is no valid text.
    """
    walk = _Walk(root)
    while walk.pending:  # a stack of our own: folders nest deeper than Python recurses
        walk.visit(*walk.pending.pop())
    if walk.problems:
        raise DataError(_sentence(walk.problems))
    return Listing(files=tuple(walk.files), passed_over=tuple(walk.passed_over))


class _Walk:
    """What a walk through folders has found so far, and where it has yet to go."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: list[str] = []
        self.passed_over: list[str] = []
        self.problems: list[str] = []
        self.pending: list[tuple[str, tuple[Identity, ...]]] = [("", (_identity(root.stat()),))]
        """Folders, ending in a slash, with the identities of themselves and all those above."""

    def visit(self, folder: str, above: tuple[Identity, ...]) -> None:
        """Sort the entries of one folder."""
        try:
            entries = list(os.scandir(self.root / folder))
        except OSError as error:
            self.problems.append(f"the folder {str(self.root / folder)!r} can't be read ({reason(error)})")
            return
        if not entries and folder:
            self.passed_over.append(folder)
        for entry in entries:
            if not is_text(entry.name):
                self.problems.append(f"the name {folder + entry.name!r} is not valid UTF-8, so no list could hold it")
                continue
            try:
                self._sort(entry, folder + entry.name, above)
            except OSError as error:
                self.problems.append(f"{str(self.root / folder / entry.name)!r} can't be followed ({reason(error)})")

    def _sort(self, entry: os.DirEntry[str], name: str, above: tuple[Identity, ...]) -> None:
        if not entry.is_dir():
            regular = entry.is_file() or entry.is_symlink()  # a link to nothing is listed, and unreadable later
            (self.files if regular else self.passed_over).append(name)
        elif is_hidden(name):
            self.passed_over.append(name + "/")
        elif (identity := _identity(entry.stat())) in above:
            self.problems.append(f"the link {str(self.root / name)!r} leads back to a folder above it")
        else:
            self.pending.append((name + "/", (*above, identity)))


def reason(error: OSError) -> str:
    """Why a file or folder can't be read, in few words."""
    return _REASONS.get(error.errno or 0) or error.strerror or str(error)


def is_text(name: str) -> bool:
    """Whether a name can be written as UTF-8. The system's names are bytes and needn't be text at all."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _sentence(problems: Sequence[str]) -> str:
    more = "" if len(problems) <= 5 else f"; and {len(problems) - 5:,} more"
    text = "; ".join(problems[:5]) + more
    return f"{text[0].upper()}{text[1:]}. Mend or remove {'it' if len(problems) == 1 else 'them'}."


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino


def _stamp(file: str) -> str:
    try:
        status = os.stat(file)  # noqa: PTH116
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"  # copying tools set the first two as they were
