"""A folder of tar shards in WebDataset's form: `photos-0000.tar` holds `key.jpg` and, beside it, `key.cls` or a JSON.

The label is the text of `key.cls`, or of "label", "class" or "cls" in `key.json`: a class's name, or its number where
`classes.txt` lies beside the shards, with a name a line. A shard's split is the one that a word of its name or of a
folder it lies in says (`train-0000.tar`, `photos-val-0000.tar`, `data/test/0000.tar`); where none says so, we divide
the images ourselves. Nothing is unpacked.

Source for the form: the WebDataset format specification (Aizman, Maltzahn & Breuel, High Performance I/O For Large
Scale Deep Learning, 2020, section IV).
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from sightline.data.folder import reason
from sightline.data.layout import SPLIT_NAMES, Listing, class_name, is_hidden, is_image
from sightline.data.phrases import counted, listed
from sightline.data.table import ImageTable, Split
from sightline.data.tar import TarSource, open_tar
from sightline.errors import DataError, UnreadableImageError

CLASSES = "classes.txt"
_LABEL_KEYS = ("label", "class", "cls")
_WORD = re.compile(r"[^\W\d_]+")
_SHARD_END = re.compile(r"\.tar/", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class ShardsSource:
    """The files of several tar archives, each by its shard's path and its own."""

    location: str
    shards: Mapping[str, TarSource] = field(repr=False)

    def read(self, path: str) -> bytes:
        """The file's bytes. Raises UnreadableImageError with the reason when it can't be read."""
        shard, name = _divided(path, self.shards)
        if shard not in self.shards:
            raise UnreadableImageError("the shard does not exist")
        return self.shards[shard].read(name)

    def stamps(self, paths: Sequence[str]) -> list[str]:
        """Each file's shard's stamp, with its place there."""
        return [self.shards[shard].stamps([name])[0] for shard, name in (_divided(path, self.shards) for path in paths)]


def is_sharded(listing: Listing) -> bool:
    """Whether a folder holds tar files and no images beside them."""
    return not any(map(is_image, listing.files)) and any(_is_shard(name) for name in listing.files)


def read_shards(root: Path, listing: Listing) -> ImageTable:
    """The table of all shards' images.

    Raises DataError that says which shard can't be read, which images have no label, which shard names two splits, and
    which shards have no split though others have.
    """
    names = sorted(filter(_is_shard, listing.files))
    opened = {name: open_tar(root / name, str(root / name)) for name in names}
    source = ShardsSource(str(root), {name: shard for name, (shard, _) in opened.items()})
    classes = _classes(root)
    rows = [row for name, (shard, files) in opened.items() for row in _rows(name, shard, files, classes)]
    if not rows:
        raise DataError(f"There are no images in the {counted(len(names), 'tar file')} of {str(root)!r}.")
    unlabelled = [path for path, label in rows if label is None]
    if unlabelled:
        have = "has" if len(unlabelled) == 1 else "have"
        raise DataError(
            f"{counted(len(unlabelled), 'image')} of {str(root)!r} {have} no label ({listed(unlabelled, 3)}). "
            "Put a key.cls with the class's name, or a key.json with a label, beside key.jpg."
        )
    rows.sort()
    splits = _splits(root, names)
    return ImageTable(
        source=source,
        paths=tuple(path for path, _ in rows),
        labels=tuple(class_name(label or "") for _, label in rows),
        splits=tuple(splits[_divided(path, opened)[0]] for path, _ in rows),
        ignored=tuple(sorted({*listing.files, *listing.passed_over} - set(names) - {CLASSES})),
    )


def _rows(shard: str, source: TarSource, files: Listing, classes: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Each image of a shard, by its path in the table, and its label."""
    present = set(files.files)
    for name in files.files:
        if is_image(name):
            yield f"{shard}/{name}", _label(source, _key(name), present, classes)


def _key(name: str) -> str:
    """What the files of one sample have in common: everything up to the first dot of the last part."""
    folder, slash, file = name.rpartition("/")
    return f"{folder}{slash}{file.split('.')[0]}"


def _label(source: TarSource, key: str, present: set[str], classes: Sequence[str]) -> str | None:
    """The name of a sample's class; None where nothing says it."""
    try:
        if f"{key}.cls" in present:
            text = source.read(f"{key}.cls").decode().strip()
        elif f"{key}.json" in present:
            text = _from_json(json.loads(source.read(f"{key}.json")))
        else:
            return None
    except (UnreadableImageError, ValueError):  # UnicodeDecodeError and JSONDecodeError are such
        return None
    if classes and text.isascii() and text.isdigit():
        return classes[int(text)] if int(text) < len(classes) else None
    return text or None


def _from_json(content: object) -> str:
    if not isinstance(content, dict):
        return ""
    values = cast(dict[str, Any], content)
    found = next((values[key] for key in _LABEL_KEYS if key in values), "")
    return str(found).strip() if isinstance(found, str | int) else ""


def _classes(root: Path) -> tuple[str, ...]:
    """The names in classes.txt, by number; none where it isn't there."""
    file = root / CLASSES
    try:
        names = tuple(line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip())
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise DataError(f"{str(file)!r} can't be read: {reason(error)}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{str(file)!r} is no text in UTF-8.") from error
    if len(set(names)) < len(names):
        raise DataError(f"{str(file)!r} names a class twice.")
    return names


def _splits(root: Path, shards: Sequence[str]) -> dict[str, Split | None]:
    """Each shard's split; None for all where none has one."""
    found: dict[str, Split | None] = {shard: _split(root, shard) for shard in shards}
    without = [shard for shard, split in found.items() if split is None]
    if without and len(without) < len(found):
        raise DataError(
            f"{str(root)!r} has shards of no split ({listed(without, 3)}) beside some that name theirs. Either every "
            "shard's name or folder has the word train, val or test, or none does."
        )
    return found


def _split(root: Path, shard: str) -> Split | None:
    """The split that the words of a shard's path below `root` say."""
    words = _WORD.findall(shard.casefold())
    said: set[Split] = {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}
    if len(said) > 1:
        raise DataError(
            f"The shard {shard!r} of {str(root)!r} names several splits: {listed(sorted(said))}. Rename it, or the "
            "folder it lies in."
        )
    return next(iter(said), None)


def _is_shard(name: str) -> bool:
    return name.lower().endswith(".tar") and not is_hidden(name)


def _divided(path: str, shards: Collection[str]) -> tuple[str, str]:
    """A table's path as shard and name within it; a folder may be called like a shard. Without a shard, all name."""
    ends = (found.end() for found in _SHARD_END.finditer(path))
    return next(((path[: end - 1], path[end:]) for end in ends if path[: end - 1] in shards), ("", path))
