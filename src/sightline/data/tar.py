"""Images inside a tar archive, read where they lie.

A compressed tar can only be read from its start, each time. Such an archive is decompressed once, still as one
tar file, into the cache folder.
"""

import bz2
import gzip
import hashlib
import lzma
import posixpath
import shutil
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sightline.data.archive import archive_listing, check_names, plain_name
from sightline.data.folder import MAX_BYTES, reason
from sightline.data.layout import Listing
from sightline.errors import DataError, UnreadableImageError
from sightline.files import cache_folder, keep_latest, whole_file

KEPT = 2
"""Decompressed copies of an archive that stay in the cache: before it changed a run may have begun."""

_OPENERS = {".gz": gzip.open, ".tgz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_BROKEN = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ValueError)


@dataclass(frozen=True, eq=False)
class TarSource:
    """The files of a tar archive by path."""

    location: str
    file: str
    stamp: str
    """Changes when the archive does."""
    members: Mapping[str, tuple[int, int]] = field(repr=False)
    """Where each file begins, and how long it is, in bytes."""

    def read(self, path: str) -> bytes:
        """The file's bytes. Raises UnreadableImageError with the reason when it can't be read."""
        if path not in self.members:
            raise UnreadableImageError("the file does not exist in the archive, or is a link that leads out of it")
        offset, num_bytes = self.members[path]
        if num_bytes > MAX_BYTES:
            raise UnreadableImageError(f"{num_bytes:,} bytes, more than {MAX_BYTES:,}")
        try:
            with open(self.file, "rb", buffering=0) as archive:  # noqa: PTH123  # twice Path.open's speed
                archive.seek(offset)
                content = archive.read(num_bytes)
        except OSError as error:
            raise UnreadableImageError(reason(error)) from error
        if len(content) < num_bytes:
            raise UnreadableImageError("the archive ends within the file")
        return content

    def stamps(self, paths: Sequence[str]) -> list[str]:
        """The archive's stamp with the member's place."""
        return [f"{self.stamp} {self.members[path]}" if path in self.members else "" for path in paths]


def open_tar(file: Path, location: str) -> tuple[TarSource, Listing]:
    """The archive and what is in it. Raises DataError when it is no tar, or has names that can't be trusted."""
    try:
        status = file.stat()
        stamp = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
        plain = _decompressed(file, stamp) if file.suffix.lower() in _OPENERS else file
        with tarfile.open(plain, "r:") as archive:
            entries = archive.getmembers()
            if plain.stat().st_size < archive.offset + tarfile.BLOCKSIZE:  # an archive ends in blocks of zeros
                raise tarfile.ReadError("it is cut off")
    except OSError as error:
        raise DataError(f"{str(file)!r} can't be read: {reason(error)}.") from error
    except _BROKEN as error:
        raise DataError(
            f"{str(file)!r} is no tar archive, or a damaged one ({error}). Make or fetch it anew."
        ) from error
    folders = [entry.name for entry in entries if entry.isdir()]
    check_names(file, [entry.name for entry in entries if not entry.isdir()], folders)
    files = [entry for entry in entries if entry.isreg() or entry.islnk() or entry.issym()]
    members = {plain_name(entry.name): (entry.offset_data, entry.size) for entry in files if entry.type in _STORED}
    for link in files:
        target = members.get(_target(link)) if link.islnk() or link.issym() else None
        if target is not None:
            members[plain_name(link.name)] = target
    return TarSource(location, str(plain), stamp, members), archive_listing(
        (plain_name(entry.name) for entry in files), folders
    )


_STORED = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
"""Members whose bytes lie in the archive as they are. Sparse ones don't; they count as unreadable."""


def _target(link: tarfile.TarInfo) -> str:
    """The path that a link in the archive stands for."""
    if link.islnk():
        return plain_name(link.linkname)
    return posixpath.normpath(posixpath.join(posixpath.dirname(plain_name(link.name)), link.linkname))


def _decompressed(file: Path, stamp: str) -> Path:
    """The archive as plain tar, in the cache folder; made when it is not there yet."""
    archive, key = (_digest(text) for text in (str(file.absolute()), f"{file.absolute()} {stamp}"))
    plain = cache_folder() / "archives" / f"{archive}-{key}.tar"
    if plain.exists():
        return plain
    with _OPENERS[file.suffix.lower()](file, "rb") as packed, whole_file(plain) as aside, aside.open("wb") as out:
        shutil.copyfileobj(packed, out, 2**20)
    keep_latest(plain.parent.glob(f"{archive}-*.tar"), KEPT)
    return plain


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]
