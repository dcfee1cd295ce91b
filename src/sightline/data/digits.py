"""The embedded set: 1,797 handwritten digits of 8x8 pixels that come with scikit-learn; no network needed.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits (UCI, 1998), its test part.
"""

from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from sightline.data.memory import MemorySource
from sightline.data.table import ImageTable

NAME = "digits"


def digits() -> ImageTable:
    """A table of ten classes, "0" to "9", as grey PNG files in memory, without splits."""
    from sklearn.datasets import load_digits

    bundle: Any = load_digits()
    labels = [str(target) for target in bundle.target]
    paths = [f"{label}/{number:04d}.png" for number, label in enumerate(labels)]
    pixels = np.rint(bundle.images * (255 / 16)).astype(np.uint8)  # (1797, 8, 8): ink from 0 to 16
    files = {path: _png(image) for path, image in zip(paths, pixels, strict=True)}
    rows = sorted(zip(paths, labels, strict=True))
    return ImageTable(
        source=MemorySource(NAME, files),
        paths=tuple(path for path, _ in rows),
        labels=tuple(label for _, label in rows),
        splits=(None,) * len(rows),
    )


def _png(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    content = BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()
