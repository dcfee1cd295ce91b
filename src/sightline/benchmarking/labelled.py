"""How right each engine's answers are, on images with known labels."""

from pathlib import Path

import numpy as np

from sightline.benchmarking.figures import Accuracy
from sightline.data.loader import Pixels
from sightline.data.prepare import readable_table
from sightline.engines import Folder
from sightline.errors import DataError
from sightline.evaluation import check_classes
from sightline.evaluation.intervals import Interval
from sightline.evaluation.metrics import evaluate_logits
from sightline.evaluation.multilabel import evaluate_labels
from sightline.measuring.process import Worker
from sightline.model_folder import ModelFolder

_CHUNK = 64


class Labelled:
    """Images with known labels, decoded once for each preprocessing, in a folder for the time being."""

    def __init__(self, location: str, num_images: int, place: Path) -> None:
        self._location = location
        self._num_images = num_images
        self._place = place
        self._stored: dict[object, tuple[Path, np.ndarray]] = {}

    def measure(self, folder: Folder, worker: Worker) -> Accuracy:
        """The accuracy of a worker's answers; with several labels an image, the share of exactly right ones.

        Raises DataError when the images can't be read, have no labels or a class that the model doesn't know.
        """
        pixels, truth = self._prepared(folder)
        logits_file = self._place / "logits.npy"
        worker.answer(pixels, logits_file)
        spec, logits = folder.spec, np.load(logits_file)
        temperature = spec.calibration.temperature
        if spec.thresholds is None:
            interval = evaluate_logits(logits, truth, spec.classes, temperature=temperature).accuracy
        else:
            thresholds = spec.thresholds.values
            found = evaluate_labels(logits, truth, spec.classes, thresholds=thresholds, temperature=temperature)
            interval = found.exact_match
        return _accuracy(interval, f"{len(truth):,} images of {self._location!r}")

    def pixels(self, folder: Folder) -> Path:
        """The file of the images as this model sees them, (N, 3, image_size, image_size). Raises DataError."""
        return self._prepared(folder)[0]

    def _prepared(self, folder: Folder) -> tuple[Path, np.ndarray]:
        """The file of the pixels (N, 3, image_size, image_size), and the labels."""
        spec = folder.spec
        separator = spec.provenance.data.get("label_separator") if spec.multi_label else None
        key = (spec.preprocess, spec.classes, separator)
        if key in self._stored:
            return self._stored[key]
        table = readable_table(self._location, label_separator=separator)
        check_classes(table, ModelFolder(folder.path, spec))
        places = [number for number, split in enumerate(table.splits) if split == "test"] or range(len(table.paths))
        chosen = np.linspace(0, len(places) - 1, min(self._num_images, len(places))).round().astype(np.int64)
        if not len(chosen):
            raise DataError(f"There are no images in {self._location!r}.")
        indices, side = np.array(places, dtype=np.int64)[chosen], spec.preprocess.image_size
        path = self._place / f"pixels-{len(self._stored)}.npy"
        stored = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(len(indices), 3, side, side))
        source = Pixels(table, spec.preprocess, canvas=False)
        for start in range(0, len(indices), _CHUNK):
            stored[start : start + _CHUNK] = source.batch(indices[start : start + _CHUNK]).numpy()
        stored.flush()
        self._stored[key] = (path, table.numbered(spec.classes)[indices])
        return self._stored[key]


def _accuracy(interval: Interval, said: str) -> Accuracy:
    return Accuracy(value=interval.value, low=interval.low, high=interval.high, said=said)
