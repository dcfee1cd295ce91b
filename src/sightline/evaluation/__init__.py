"""Evaluation: what a model gets right on which images, with how much certainty."""

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

from sightline.errors import DataError, ModelError, unknown_name
from sightline.files import write_json, write_text
from sightline.model_folder import ModelFolder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from sightline.data.table import ImageTable, Split
    from sightline.evaluation.metrics import Evaluation

BATCH_SIZE = 128
"""Images in a batch; the answer doesn't depend on it."""


def evaluate(
    model: str | Path | ModelFolder,
    data: str | Path | None = None,
    *,
    split: "Split | None" = None,
    device: str = "auto",
    num_workers: int = 2,
) -> "Evaluation":
    """Measure a model on its stored split, or on other data with the same classes.

    `split` is val or test, test if left out: of the images the model was trained with, or of `data` where that has
    splits. Data without splits is taken whole. Figures on the model's own split are written into its folder.

    Raises ModelError when the model can't be opened, DataError when the images can't be read, have moved,
    changed or hold a class the model doesn't know.
    """
    folder = model if isinstance(model, ModelFolder) else ModelFolder.read(model)
    if data is None:
        return _evaluate_stored(folder, split or "test", device=device, num_workers=num_workers)
    import numpy as np

    from sightline.data.prepare import readable_table

    table = readable_table(data)
    _check_classes(table, folder)
    wanted = None if split is None and None in table.splits else split or "test"
    chosen = [index for index, name in enumerate(table.splits) if name == wanted]
    if not chosen:
        raise DataError(f"{str(data)!r} has no {wanted} split of its own.")
    return evaluate_images(folder, table, np.array(chosen), device=device, num_workers=num_workers)[0]


def evaluate_images(
    folder: ModelFolder,
    table: "ImageTable",
    indices: "NDArray[np.int64]",
    *,
    device: str = "auto",
    num_workers: int = 2,
) -> tuple["Evaluation", "Tensor"]:
    """The Evaluation of the table's images at `indices`, and their logits (N, K)."""
    import numpy as np

    from sightline.data.loader import Batches, Pixels, in_order
    from sightline.evaluation.metrics import evaluate_logits
    from sightline.prediction import collect_logits, pick_device

    spec = folder.spec
    number = {name: index for index, name in enumerate(spec.classes)}
    targets = np.array([number.get(label, -1) for label in table.labels], dtype=np.int64)
    pixels = Pixels(table, spec.preprocess, canvas=False)
    batches = Batches(pixels, in_order(indices, BATCH_SIZE), targets, len(spec.classes), num_workers)
    chosen = pick_device(device)
    logits = collect_logits(folder.model().to(chosen), batches, spec.preprocess, device=chosen)
    evaluation = evaluate_logits(
        logits.numpy(),
        targets[indices],
        spec.classes,
        temperature=spec.calibration.temperature,
        paths=[table.paths[index] for index in indices],
    )
    return evaluation, logits


def key_figures(evaluation: "Evaluation") -> dict[str, object]:
    """The few figures that model.json keeps: accuracy with its interval, and how good the probabilities are."""
    accuracy, calibrated = evaluation.accuracy, evaluation.calibrated
    return {
        "num_images": evaluation.num_images,
        "accuracy": {"value": accuracy.value, "low": accuracy.low, "high": accuracy.high},
        "macro_f1": evaluation.macro.f1,
        "log_loss": calibrated.log_loss,
        "calibration_error": calibrated.calibration_error,
    }


def read_evaluation(folder: ModelFolder, split: str) -> "Evaluation | None":
    """What was measured on the model's own split; None where nothing was. Raises ModelError for a damaged file."""
    from sightline.evaluation.metrics import Evaluation

    path = folder.path / "evaluation" / f"{split}.json"
    if not path.exists():
        return None
    try:
        return Evaluation.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ModelError(f"{str(path)!r} can't be read: {error}.") from error


def _evaluate_stored(folder: ModelFolder, split: "Split", *, device: str, num_workers: int) -> "Evaluation":
    from sightline.data.inspection import inspect
    from sightline.data.scan import scan
    from sightline.data.split import Splits

    try:
        stored = json.loads((folder.path / "splits.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{str(folder.path)!r} has no splits.json that can be read; name the DATA to use.") from error
    table = scan(folder.spec.provenance.data["location"])
    splits = Splits.from_json(stored, table)
    if splits.contents(table, inspect(table))[split] != stored.get("contents", {}).get(split):
        raise DataError(
            f"Images of the {split} split have changed in {table.source.location!r} since the model was trained. "
            "Put them back, or name the data to evaluate on."
        )
    indices = splits.named()[split]
    evaluation, logits = evaluate_images(folder, table, indices, device=device, num_workers=num_workers)
    write_json(folder.path / "evaluation" / f"{split}.json", evaluation.to_json())
    rows = _prediction_rows(folder, table, indices, logits)
    write_text(folder.path / "evaluation" / f"{split}_predictions.csv", rows)
    folder.with_figures({**folder.spec.figures, split: key_figures(evaluation)})
    return evaluation


def _prediction_rows(folder: ModelFolder, table: "ImageTable", indices: "NDArray[np.int64]", logits: "Tensor") -> str:
    """CSV: each image with its class, the class it was taken for, and how probable that was; for paired tests."""
    classes, temperature = folder.spec.classes, folder.spec.calibration.temperature
    confidence, predicted = (logits / temperature).softmax(1).max(1)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "target", "predicted", "probability"])
    for index, number, value in zip(indices.tolist(), predicted.tolist(), confidence.tolist(), strict=True):
        writer.writerow([table.paths[index], table.labels[index], classes[number], f"{value:.6f}"])
    return text.getvalue()


def _check_classes(table: "ImageTable", folder: ModelFolder) -> None:
    """Raise DataError when the images have a class that the model doesn't know."""
    strange = [name for name in table.classes if name not in folder.spec.classes]
    if not strange:
        return
    sentence = unknown_name("class", strange[0], folder.spec.classes, listing=f"{str(folder.path / 'model.json')!r}")
    more = f" {len(strange)} classes are unknown to the model." if len(strange) > 1 else ""
    raise DataError(sentence + more)
