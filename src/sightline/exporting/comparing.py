"""Which images an export is compared on, and what the model and the export answer."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sightline.data.loader import Pixels
from sightline.data.phrases import counted
from sightline.data.prepare import readable_table
from sightline.data.table import ImageTable
from sightline.errors import ModelError
from sightline.evaluation import check_classes, stored_split
from sightline.exporting.parity import Answers, spread
from sightline.formats import Opened
from sightline.model_folder import ModelFolder, ModelSpec
from sightline.prediction import check_finite

BATCH_SIZES = (1, 4, 7)
"""One, several, and a number that no kernel's blocks divide: a batch size baked into a graph shows at once."""


@dataclass(frozen=True)
class Images:
    """Images with known labels."""

    table: ImageTable
    indices: NDArray[np.int64]
    said: str
    """Which they are, in words."""


def choose_images(folder: ModelFolder, data: str | Path | None, num_images: int) -> Images:
    """Up to `num_images`, spread evenly over the model's validation split, or over `data`. Raises DataError."""
    if data is None:
        table, indices = stored_split(folder, "val")
        place = "the validation split"
    else:
        separator = folder.spec.provenance.data.get("label_separator") if folder.spec.multi_label else None
        table = readable_table(data, label_separator=separator)
        check_classes(table, folder)
        own = [number for number, split in enumerate(table.splits) if split == "val"]
        indices = np.array(own or range(len(table.paths)), dtype=np.int64)
        place = f"the validation split of {str(data)!r}" if own else repr(str(data))
    places = np.linspace(0, len(indices) - 1, min(num_images, len(indices))).round().astype(np.int64)
    fewer = ", all there are" if len(places) < num_images else f" of the {len(indices):,}"
    return Images(table, indices[places], f"{counted(len(places), 'image')}{fewer} in {place}")


def answers(folder: ModelFolder, opened: Opened, images: Images) -> Answers:
    """What the model and the export say of each image, the export in batches of every size in BATCH_SIZES.

    Raises ModelError when the model gives every image and class the same logit: then nothing would be compared.
    """
    spec, network = folder.spec, folder.model()
    pixels = Pixels(images.table, spec.preprocess, canvas=False)
    reference: list[NDArray[np.float32]] = []
    exported: list[NDArray[np.float32]] = []
    sizes: list[int] = []
    off: list[float] = []
    for numbers in _batches(images.indices):
        batch = pixels.batch(numbers)
        with torch.inference_mode():
            reference.append(network(spec.preprocess.normalize(batch)).numpy())
        outputs = opened(batch.numpy())
        exported.append(_checked(outputs.logits, reference[-1].shape))
        sizes += [len(numbers)] * len(numbers)
        if outputs.probabilities is not None:
            off.append(float(np.abs(outputs.probabilities - spec.probabilities_of(outputs.logits)).max()))
    logits = np.concatenate(reference)
    check_finite(logits)
    if spread(logits.astype(np.float64)) < 1e-6:
        raise ModelError("The model gives every class the same logit, so that a comparison would show nothing.")
    shown = np.resize(images.indices, len(logits))
    return Answers(
        reference=logits,
        exported=np.concatenate(exported),
        batch_sizes=np.array(sizes),
        reference_yes=_answers(spec, logits),
        exported_yes=_answers(spec, np.concatenate(exported)),
        truth=_truth(images.table, spec)[shown],
        num_images=len(images.indices),
        probability_difference=max(off) if off else None,
    )


def _batches(indices: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """All images in batches of each size in turn; the first ones again where there are too few for every size."""
    rows = np.resize(indices, max(len(indices), sum(BATCH_SIZES)))
    start = 0
    for size in cycle(BATCH_SIZES):
        if start >= len(rows):
            return
        yield rows[start : start + size]
        start += size


def _checked(logits: NDArray[np.float32], expected: tuple[int, ...]) -> NDArray[np.float32]:
    if logits.shape != expected:
        raise ModelError(f"The export gives logits of shape {logits.shape}, where the model gives {expected}.")
    return logits


def _answers(spec: ModelSpec, logits: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(N, K): the likeliest class, or every class at or above its threshold."""
    if spec.thresholds is not None:
        return spec.probabilities_of(logits) >= np.array(spec.thresholds.values)
    return np.arange(logits.shape[1]) == logits.argmax(axis=1)[:, None]


def _truth(table: ImageTable, spec: ModelSpec) -> NDArray[np.bool_]:
    targets = table.numbered(spec.classes)
    return targets > 0 if targets.ndim == 2 else np.arange(len(spec.classes)) == targets[:, None]
