"""Images without labels: what `predict` is given, file by file."""

import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sightline.data.folder import FolderSource, list_folder, reason
from sightline.data.layout import Listing, is_image
from sightline.data.scan import TARS
from sightline.data.table import Source
from sightline.data.tar import open_tar
from sightline.data.zip import open_zip
from sightline.errors import DataError, UnreadableImageError


@dataclass(frozen=True)
class ImageList:
    """Images by name, each with the place that it is read from."""

    items: tuple[tuple[str, Source, str], ...]
    """What to call it, where it is, and its path there."""

    def __len__(self) -> int:
        return len(self.items)

    def read(self) -> Iterator[tuple[str, bytes | UnreadableImageError]]:
        """Each image's name with its bytes, or with why it can't be read."""
        for name, source, path in self.items:
            try:
                yield name, source.read(path)
            except UnreadableImageError as error:
                yield name, error


def list_images(locations: Sequence[str]) -> ImageList:
    """The images that are meant: single files whatever their name, and all images in folders and archives.

    A file that doesn't exist is listed too, and found unreadable when it is read: one wrong name doesn't stop
    the others. Raises DataError when a folder or archive can't be read, one of the names is blank, or nothing is left.
    """
    blank = next((location for location in locations if not location.strip()), None)
    if blank is not None:  # Path("") would be the working directory
        raise DataError(f"{blank!r} names no images. Name files, folders or archives of them.")
    items = [item for location in locations for item in _list(location)]
    if not items:
        raise DataError(f"There are no images in {', '.join(map(repr, locations))}.")
    return ImageList(tuple(items))


def _list(location: str) -> Iterator[tuple[str, Source, str]]:
    path = Path(location)
    name = path.name.lower()
    try:
        is_folder = stat.S_ISDIR(path.stat().st_mode)
        if is_folder:
            yield from _images(location, FolderSource(location, location), list_folder(path))
            return
    except OSError as error:
        if path.is_dir():
            raise DataError(f"{location!r} can't be read: {reason(error)}.") from error
    if name.endswith(".zip"):
        yield from _images(location, *open_zip(path, location))
    elif name.endswith(TARS):
        yield from _images(location, *open_tar(path, location))
    else:
        yield location, FolderSource(location, "."), location


def _images(location: str, source: Source, listing: Listing) -> Iterator[tuple[str, Source, str]]:
    for path in sorted(listing.files):
        if is_image(path):
            yield f"{location.rstrip('/')}/{path}", source, path
