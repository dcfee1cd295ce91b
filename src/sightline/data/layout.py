"""From the names of files to classes and splits: the folder an image lies in is its label.

Understood, with images at any depth below a class's folder:

    cat/1.jpg               a folder for each class
    train/cat/1.jpg         the same inside train/, val/ (valid/, validation/) and test/, in any letter case
"""

import posixpath
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from sightline.data.phrases import counted, listed
from sightline.data.table import ImageTable, Source, Split
from sightline.decode import SUFFIXES
from sightline.errors import DataError

SPLIT_NAMES: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""What a user may call a split, in lower case."""

_JUNK = frozenset({"__macosx", "thumbs.db", "desktop.ini"})

HOW_TO = (
    "Put each class's images in a folder of its name (photos/cat/1.jpg, photos/dog/1.jpg) and name the folder above"
)


@dataclass(frozen=True)
class Listing:
    """The names in a folder or an archive, with forward slashes."""

    files: tuple[str, ...]
    passed_over: tuple[str, ...] = ()
    """What is no file to read: empty and hidden folders (ending in a slash), pipes."""


def is_hidden(path: str) -> bool:
    """Whether a file or folder is the system's own and no user's image: dotfiles, __MACOSX, Thumbs.db."""
    name = path.rpartition("/")[2]
    return name.startswith(".") or name.casefold() in _JUNK


def is_image(path: str) -> bool:
    """Whether a file counts as an image by its name, with no hidden folder on the way."""
    if posixpath.splitext(path)[1].lower() not in SUFFIXES:
        return False
    return not any(is_hidden(part) for part in path.split("/"))


def arrange(source: Source, listing: Listing, *, strip: bool = False) -> ImageTable:
    """The table of the images that are listed.

    With `strip`, a single folder around everything is looked through, as archives often have one.

    Raises DataError when there are no images, or when the folders don't say what class each image is.
    """
    images = sorted(name for name in listing.files if is_image(name))
    ignored = sorted({*listing.files, *listing.passed_over} - set(images))
    if not images:
        others = f" ({counted(len(ignored), 'other entry', 'other entries')}: {listed(ignored)})" if ignored else ""
        raise DataError(f"There are no images in {source.location!r}{others}. {HOW_TO}.")
    places = [tuple(name.split("/")) for name in images]
    if strip:
        places = _without_top(places)
    tops = {place[0] for place in places if len(place) > 1}
    split_folders: dict[str, Split] = {
        top: SPLIT_NAMES[top.casefold()] for top in tops if top.casefold() in SPLIT_NAMES
    }
    if not split_folders:
        _check_class_folders(source.location, images, places, depth=1)
        labels = [place[0] for place in places]
        splits: list[Split | None] = [None] * len(places)
    else:
        _check_split_folders(source.location, split_folders, places)
        _check_class_folders(source.location, images, places, depth=2)
        labels = [place[1] for place in places]
        splits = [split_folders[place[0]] for place in places]
    return ImageTable(
        source=source,
        paths=tuple(images),
        labels=tuple(class_name(label) for label in labels),
        splits=tuple(splits),
        ignored=tuple(ignored),
    )


def class_name(text: str) -> str:
    """One spelling for a name: macOS decomposes accents where others don't, and both must be the same class."""
    return unicodedata.normalize("NFC", text)


def _without_top(places: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    tops = {place[0] for place in places}
    if len(tops) > 1 or min(map(len, places)) < 3 or next(iter(tops)).casefold() in SPLIT_NAMES:
        return list(places)
    return [place[1:] for place in places]


def _check_split_folders(location: str, split_folders: dict[str, Split], places: Sequence[tuple[str, ...]]) -> None:
    """Raise DataError when anything but split folders lies beside them, or two folders are the same split."""
    known = sorted(split_folders)
    odd = sorted({place[0] for place in places} - set(known))
    if odd:
        raise DataError(
            f"{location!r} has {listed(odd)} beside {listed(known)}: either every image lies in a split's folder, or "
            f"none does. Move them, or, if {known[0]!r} is a class, name the images in a CSV file (path,label)."
        )
    for split in sorted(set(split_folders.values())):
        names = [name for name in known if split_folders[name] == split]
        if len(names) > 1:
            raise DataError(f"{location!r} has {listed(names)}, which both mean {split!r}. Merge them or rename one.")


def _check_class_folders(location: str, images: list[str], places: Sequence[tuple[str, ...]], *, depth: int) -> None:
    """Raise DataError when an image doesn't lie `depth` folders deep, the last of which is its class."""
    loose = [name for name, place in zip(images, places, strict=True) if len(place) <= depth]
    if not loose:
        return
    if len(loose) == len(images):
        raise DataError(
            f"{location!r} has {counted(len(images), 'image')} but no class folders ({listed(loose, 3)}). {HOW_TO}."
        )
    raise DataError(
        f"{counted(len(loose), 'image')} of {location!r} {'lies' if len(loose) == 1 else 'lie'} in no class folder: "
        f"{listed(loose)}. Move {'it' if len(loose) == 1 else 'them'} into the folder of a class, or away."
    )
