"""How right each engine's answers are, on images with known labels."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sightline.benchmarking.figures import Accuracy
from sightline.data.loader import Pixels
from sightline.engines import Folder
from sightline.errors import ModelError
from sightline.evaluation import images_of
from sightline.evaluation.intervals import Interval
from sightline.evaluation.metrics import evaluate_logits
from sightline.evaluation.multilabel import evaluate_labels
from sightline.evaluation.seen import digests_of, num_seen
from sightline.measuring.process import Worker
from sightline.model_folder import ModelFolder

_CHUNK = 64


@dataclass(frozen=True)
class _Prepared:
    """Images as a model sees them."""

    pixels: Path
    """A .npy file of (N, 3, image_size, image_size)."""
    truth: NDArray[np.int64]
    """(N,) class numbers; with several labels an image (N, K), 0 or 1."""
    digests: list[str]
    """Of their bytes (`ImageFacts.digest`)."""
    said: str
    """Which they are, in words."""


class Labelled:
    """Images with known labels, decoded once for each preprocessing, in a folder for the time being.

    They are the test split of `location`, or all of it where it has no splits.
    """

    def __init__(self, location: str, num_images: int, place: Path) -> None:
        self._location = location
        self._num_images = num_images
        self._place = place
        self._stored: dict[object, _Prepared] = {}

    def measure(self, folder: Folder, worker: Worker) -> Accuracy:
        """The accuracy of a worker's answers; with several labels an image, the share of exactly right ones.

        Raises DataError when the images can't be read, have no labels or a class that the model doesn't know,
        ModelError when the model's list of its training images is damaged.
        """
        prepared = self._prepared(folder)
        logits_file = self._place / "logits.npy"
        worker.answer(prepared.pixels, logits_file)
        spec, truth, logits = folder.spec, prepared.truth, np.load(logits_file)
        temperature = spec.calibration.temperature
        if spec.thresholds is None:
            interval = evaluate_logits(logits, truth, spec.classes, temperature=temperature).accuracy
        else:
            thresholds = spec.thresholds.values
            found = evaluate_labels(logits, truth, spec.classes, thresholds=thresholds, temperature=temperature)
            interval = found.exact_match
        return _accuracy(interval, prepared.said, _num_seen(folder, prepared.digests))

    def pixels(self, folder: Folder) -> Path:
        """The file of the images as this model sees them, (N, 3, image_size, image_size). Raises DataError."""
        return self._prepared(folder).pixels

    def _prepared(self, folder: Folder) -> _Prepared:
        spec = folder.spec
        separator = spec.provenance.data.get("label_separator") if spec.multi_label else None
        key = (spec.preprocess, spec.classes, separator)
        if key in self._stored:
            return self._stored[key]
        table, places = images_of(folder, self._location)
        chosen = np.linspace(0, len(places) - 1, min(self._num_images, len(places))).round().astype(np.int64)
        indices, side = places[chosen], spec.preprocess.image_size
        path = self._place / f"pixels-{len(self._stored)}.npy"
        stored = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(len(indices), 3, side, side))
        source = Pixels(table, spec.preprocess, canvas=False)
        for start in range(0, len(indices), _CHUNK):
            stored[start : start + _CHUNK] = source.batch(indices[start : start + _CHUNK]).numpy()
        stored.flush()
        place = repr(self._location) if None in table.splits else f"the test split of {self._location!r}"
        self._stored[key] = _Prepared(
            pixels=path,
            truth=table.numbered(spec.classes)[indices],
            digests=digests_of(table, indices.tolist()),
            said=f"{len(indices):,} images of {place}",
        )
        return self._stored[key]


def _num_seen(folder: Folder, digests: list[str]) -> int:
    """How many of the images with these digests the model was trained on, as far as it is at hand."""
    try:
        home = folder if isinstance(folder, ModelFolder) else folder.model_folder()
    except ModelError:
        return 0
    return num_seen(home.path, digests)


def _accuracy(interval: Interval, said: str, seen: int) -> Accuracy:
    return Accuracy(value=interval.value, low=interval.low, high=interval.high, said=said, num_seen=seen)
