"""What zip and tar have in common: names that may be trusted, and each name once."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from sightline.data.folder import is_text
from sightline.data.layout import Listing
from sightline.data.phrases import listed
from sightline.errors import DataError

_DRIVE = re.compile(r"[A-Za-z]:")


def plain_name(name: str) -> str:
    """A member's name with forward slashes and without "./": its path in the table."""
    return "/".join(part for part in name.replace("\\", "/").split("/") if part not in {"", "."})


def check_names(archive: Path, files: Sequence[str], folders: Sequence[str] = ()) -> None:
    """Raise DataError that lists the names which lead out of the archive, are no text, or occur twice.

    Nothing is ever unpacked, so such a name could do no harm here. It is refused because whoever made the
    archive is mistaken or hostile, and because the next program might unpack it.
    """
    outside = [name for name in (*files, *folders) if _leads_outside(name)]
    if outside:
        raise DataError(f"{str(archive)!r} has names that lead out of it: {listed(outside)}. Make the archive anew.")
    odd = [name for name in (*files, *folders) if not is_text(name)]
    if odd:
        raise DataError(f"{str(archive)!r} has names that are not valid UTF-8: {listed(odd)}. Rename them.")
    twice = [name for name, count in Counter(map(plain_name, files)).items() if count > 1]
    if twice:
        raise DataError(
            f"{str(archive)!r} has several files of one name: {listed(twice)}. Make the archive anew with each once."
        )


def archive_listing(files: Iterable[str], folders: Iterable[str]) -> Listing:
    """The listing of an archive, from plain names; of its folders only those that are empty are told."""
    files = tuple(files)
    filled: set[str] = set()
    for name in files:
        folder = name.rpartition("/")[0]
        while folder and folder not in filled:
            filled.add(folder)
            folder = folder.rpartition("/")[0]
    empty = {plain_name(name) for name in folders} - filled - {""}
    return Listing(files=files, passed_over=tuple(f"{name}/" for name in sorted(empty)))


def _leads_outside(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    return parts[0] == "" or ".." in parts or _DRIVE.match(name) is not None
