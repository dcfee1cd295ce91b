"""Images inside a zip archive, read where they lie.

The directory is read once, by the standard library. A member is then read through its offset with a file opened
for that one read: no handle or lock that threads or forked workers would have to share, and no directory
to parse again in every worker.
"""

import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from sightline.data.archive import archive_listing, check_names, plain_name
from sightline.data.folder import MAX_BYTES, reason
from sightline.data.layout import Listing
from sightline.data.phrases import listed
from sightline.errors import DataError, UnreadableImageError

_HEADER = struct.Struct("<4s22xHH")
"""A member's own header: its mark, and the lengths of the name and of the extra field that follow it.

Source: PKWARE's APPNOTE.TXT 6.3.10, section 4.3.7.
"""
_IN_UTF8 = 0x800
"""The flag of a member whose name is UTF-8; without it the standard library takes the name for code page 437."""
_BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, ValueError, LookupError, EOFError, NotImplementedError)


class Member(NamedTuple):
    """One file in the archive."""

    name: str
    """As the standard library reads it."""
    offset: int
    """Of its header, in bytes from the start of the archive."""
    packed_bytes: int
    num_bytes: int
    method: int
    crc: int


@dataclass(frozen=True, eq=False)
class ZipSource:
    """The files of a zip archive by path."""

    location: str
    file: str
    stamp: str
    """Changes when the archive does."""
    members: Mapping[str, Member] = field(repr=False)

    def read(self, path: str) -> bytes:
        """The file's bytes, its checksum compared. Raises UnreadableImageError with the reason."""
        member = self.members.get(path)
        if member is None:
            raise UnreadableImageError("the file does not exist in the archive")
        if member.num_bytes > MAX_BYTES:
            raise UnreadableImageError(f"{member.num_bytes:,} bytes, more than {MAX_BYTES:,}")
        try:
            content = _unpacked(self.file, member)
        except OSError as error:
            raise UnreadableImageError(reason(error)) from error
        except _BROKEN as error:
            raise UnreadableImageError(f"damaged in the archive ({error})") from error
        if len(content) != member.num_bytes or zlib.crc32(content) != member.crc:
            raise UnreadableImageError("damaged in the archive (its checksum differs)")
        return content

    def stamps(self, paths: Sequence[str]) -> list[str]:
        """The archive's stamp with the member's checksum."""
        return [f"{self.stamp} {self.members[path].crc}" if path in self.members else "" for path in paths]


def open_zip(file: Path, location: str) -> tuple[ZipSource, Listing]:
    """The archive and what is in it.

    Raises DataError when it is no zip, is encrypted, or has names that can't be trusted.
    """
    try:
        status = file.stat()
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except OSError as error:
        raise DataError(f"{str(file)!r} can't be read: {reason(error)}.") from error
    except _BROKEN as error:
        raise DataError(
            f"{str(file)!r} is no zip archive, or a damaged one ({error}). Make or fetch it anew."
        ) from error
    names = list(map(_name, entries))
    folders = [name for name in names if name.endswith("/")]
    check_names(file, [name for name in names if not name.endswith("/")], folders)
    encrypted = [name for name, entry in zip(names, entries, strict=True) if entry.flag_bits & 1]
    if encrypted:
        raise DataError(f"{str(file)!r} is encrypted ({listed(encrypted, 3)}). Make it anew without a password.")
    members = {
        plain_name(name): _member(entry) for name, entry in zip(names, entries, strict=True) if not name.endswith("/")
    }
    stamp = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
    return ZipSource(location, str(file), stamp, members), archive_listing(members, folders)


def _name(entry: zipfile.ZipInfo) -> str:
    """A member's name; in UTF-8 where it is such, for Linux's and macOS's `zip` write that without saying so."""
    if entry.flag_bits & _IN_UTF8:
        return entry.filename
    try:
        return entry.filename.encode("cp437").decode()
    except UnicodeError:
        return entry.filename


def _member(entry: zipfile.ZipInfo) -> Member:
    return Member(
        name=entry.filename,
        offset=entry.header_offset,
        packed_bytes=entry.compress_size,
        num_bytes=entry.file_size,
        method=entry.compress_type,
        crc=entry.CRC,
    )


def _unpacked(file: str, member: Member) -> bytes:
    if member.method not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:  # rare, so simply slow
        with zipfile.ZipFile(file) as archive:
            return archive.read(member.name)
    with open(file, "rb", buffering=0) as archive:  # noqa: PTH123  # twice Path.open's speed, for every image
        archive.seek(member.offset)
        mark, name_bytes, extra_bytes = _HEADER.unpack(archive.read(_HEADER.size))
        if mark != b"PK\x03\x04":
            raise zipfile.BadZipFile("no header where the directory says")
        archive.seek(name_bytes + extra_bytes, 1)
        packed = archive.read(min(member.packed_bytes, MAX_BYTES))
    if member.method == zipfile.ZIP_STORED:
        return packed
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, member.num_bytes + 1)
