"""scan(): from what a user names to the table of its images."""

import difflib
import os
import stat
from pathlib import Path

from sightline.data import digits, named
from sightline.data.folder import FolderSource, is_text, list_folder, reason
from sightline.data.layout import arrange, is_image
from sightline.data.manifest import MANIFESTS, read_manifest
from sightline.data.shards import is_sharded, read_shards
from sightline.data.table import ImageTable
from sightline.data.tar import open_tar
from sightline.data.zip import open_zip
from sightline.errors import DataError, path_of

TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
EXPECTED = "a folder of class folders or of tar shards, a .zip or .tar of class folders, a .csv or .parquet list"


def scan(location: str | Path, *, label_separator: str | None = None) -> ImageTable:
    """The table of the images at `location`; no image is opened yet.

    Understood are a folder with a folder for each class, or with train/, val/ and test/ of such; the same in a
    .zip or .tar; a folder of tar shards; a .csv or .parquet list (path,label[,split]); and the names in `set_names()`.
    What exists as a file or folder is taken for that, even when a set has its name. With a `label_separator` a list's
    labels may hold several names; a folder an image lies in is always its only one.

    Raises DataError that says what is wrong with it and how it should look.
    """
    path = path_of(location, "The data")
    if not str(location).strip():
        raise DataError(f"The data has no name. Expected is {EXPECTED}, or the name of a set.")
    if label_separator == "":
        raise DataError("A label separator must have a character, such as ';'; without one an image has one label.")
    if label_separator is not None and not path.name.lower().endswith(MANIFESTS):
        raise DataError(
            f"{str(location)!r} has one label an image, the folder that it lies in; several, parted by "
            f"{label_separator!r}, take a CSV or Parquet list (path,label). Name one, or leave data.label_separator "
            "(`check`: --label-separator) out where you gave it."
        )
    if not is_text(str(path)):
        raise DataError(f"The name {str(path)!r} is not valid UTF-8. Rename the file or folder.")
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return _named(str(location))
    except (OSError, ValueError) as error:
        why = reason(error) if isinstance(error, OSError) else str(error)
        raise DataError(f"{str(path)!r} can't be read: {why}.") from error
    place = Path(os.path.abspath(path))  # noqa: PTH100  # resolve() would follow links, which is not what was typed
    return _folder(place) if stat.S_ISDIR(mode) else _file(place, label_separator)


def set_names() -> tuple[str, ...]:
    """The names that `scan` takes instead of a path."""
    return (digits.NAME, *named.SETS)


def _folder(path: Path) -> ImageTable:
    listing = list_folder(path)
    if is_sharded(listing):
        return read_shards(path, listing)
    return arrange(FolderSource(str(path), str(path)), listing)


def _file(path: Path, label_separator: str | None) -> ImageTable:
    name = path.name.lower()
    if name.endswith(".zip"):
        source, listing = open_zip(path, str(path))
        return arrange(source, listing, strip=True)
    if name.endswith(TARS):
        source, listing = open_tar(path, str(path))
        return arrange(source, listing, strip=True)
    if name.endswith(MANIFESTS):
        return read_manifest(path, str(path), label_separator)
    kind = "a single image" if is_image(name) else "a file of another kind"
    raise DataError(f"{str(path)!r} is {kind}; expected is {EXPECTED}.")


def _named(name: str) -> ImageTable:
    if name == digits.NAME:
        return digits.digits()
    if name in named.SETS:
        return named.named_set(name)
    nearest = difflib.get_close_matches(name, set_names(), n=1)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    raise DataError(
        f"{name!r} does not exist.{hint} Expected is {EXPECTED}, or the name of a set: {', '.join(set_names())}."
    )
