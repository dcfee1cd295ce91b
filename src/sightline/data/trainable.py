"""Whether a table's classes and splits are enough to train on, before any image is read."""

from collections import Counter

from sightline.data.manifest import MANIFESTS
from sightline.data.phrases import counted, listed
from sightline.data.table import SPLITS, ImageTable, Split
from sightline.errors import DataError


def missing_splits(table: ImageTable) -> tuple[Split, ...]:
    """Which of val and test the data has not, so that they have to be held out of its training images."""
    present = {split for split in table.splits if split is not None}
    return tuple(split for split in SPLITS[1:] if split not in present)


def has_splits(table: ImageTable) -> bool:
    """Whether the user divided the images at all."""
    return any(split is not None for split in table.splits)


def obstacles(table: ImageTable) -> tuple[str, ...]:
    """A sentence for each reason why no classifier can be trained on these images; none when one can."""
    location = table.source.location
    if has_splits(table) and "train" not in table.splits:
        own = [name for name in SPLITS if name in table.splits]
        return (f"{location!r} has no training images, only {listed(own)}. Add a folder train/ with the same classes.",)
    found: list[str] = []
    if table.multi_label and not table.classes:
        found.append(f"{location!r} gives no image a label, so there is nothing to learn.")
    if len(table.classes) < 2 and not table.multi_label:
        found.append(
            f"{location!r} has only one class, {listed(table.classes)}; a classifier needs at least two. "
            "Each folder directly inside the one you name is a class: you may have named a folder too high or too low."
        )
    pool = _pool(table)
    unknown = sorted(set(table.classes) - set(pool))
    if unknown:
        found.append(
            f"{_classes(unknown)} of val or test without training images: {listed(unknown)}. Add some to train."
        )
    needed = 1 + len(missing_splits(table))
    small = [name for name, number in sorted(pool.items()) if number < needed]
    if small:
        counts = ", ".join(f"{name!r} ({pool[name]})" for name in small[:5])
        more = f" and {len(small) - 5:,} more" if len(small) > 5 else ""
        where = ", ".join(("train", *missing_splits(table)))
        found.append(
            f"{_classes(small)} with fewer than {needed} images, one each for {where}: {counts}{more}. "
            f"Add images or remove the class.{_hint(table, small)}"
        )
    return tuple(found)


def check_trainable(table: ImageTable) -> None:
    """Raise DataError with every obstacle at once."""
    found = obstacles(table)
    if found:
        raise DataError(" ".join(found))


def _pool(table: ImageTable) -> Counter[str]:
    """The images of each class that train takes, and the splits that are held out of it."""
    own = "train" if has_splits(table) else None
    pairs = zip(table.names, table.splits, strict=True)
    return Counter(name for names, split in pairs if split == own for name in names)


def _hint(table: ImageTable, small: list[str]) -> str:
    """What to do when it looks as if several labels had been taken for one."""
    joined = next((name for name in small if any(mark in name for mark in ";|,")), None)
    is_list = table.source.location.lower().endswith(MANIFESTS)  # nothing else may have several labels
    if table.multi_label or joined is None or not is_list:
        return ""
    mark = next(mark for mark in ";|," if mark in joined)
    return f" If {joined!r} means several labels, pass --set 'data.label_separator=\"{mark}\"'."


def _classes(names: list[str]) -> str:
    return counted(len(names), "class", "classes")
