"""Small image files for the tests of the data room."""

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from sightline.data.facts import ImageFacts
from sightline.data.memory import MemorySource
from sightline.data.table import ImageTable, Split


def picture(seed: int, size: tuple[int, int] = (40, 40)) -> Image.Image:
    """An RGB image of a few soft shapes that is like no other seed's."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, form: str = "PNG") -> bytes:
    content = io.BytesIO()
    image.save(content, form)
    return content.getvalue()


def write(folder: Path, names: Sequence[str]) -> Path:
    """Tiny images, each with its own content, at these paths."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(picture(number, (8, 8))))
    return folder


def write_zip(file: Path, names: Sequence[str], *, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(file, "w", method) as archive:
        for number, name in enumerate(names):
            archive.writestr(name, encoded(picture(number, (8, 8))))
    return file


def memory_table(rows: Sequence[tuple[str, str, bytes]], splits: Sequence[Split | None] | None = None) -> ImageTable:
    """A table of (path, label, content) rows, which must be sorted by path."""
    return ImageTable(
        source=MemorySource("memory", {path: content for path, _, content in rows}),
        paths=tuple(path for path, _, _ in rows),
        labels=tuple(label for _, label, _ in rows),
        splits=tuple(splits) if splits is not None else (None,) * len(rows),
    )


def made_up(
    classes: dict[str, int], splits: Sequence[Split | None] | None = None
) -> tuple[ImageTable, list[ImageFacts]]:
    """A table without pixels: so many images of each class, each with its own content, and their facts."""
    paths = [(f"{label}/{number:05}", label) for label, count in sorted(classes.items()) for number in range(count)]
    table = memory_table([(path, label, b"") for path, label in paths], splits)
    return table, [
        ImageFacts(path, num_bytes=1, sha256=f"content of {path}", width=9, height=9) for path in table.paths
    ]
