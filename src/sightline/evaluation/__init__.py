"""Evaluation: what a model gets right on which images, with how much certainty."""

import csv
import io
import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from sightline.deps import require_torch
from sightline.errors import DataError, ModelError, check_whole, unknown_name
from sightline.exported_folder import ExportedFolder, open_folder
from sightline.files import write_json, write_text
from sightline.model_folder import ModelFolder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from sightline.data.packed import Packed
    from sightline.data.table import ImageTable, Split
    from sightline.engines import Folder
    from sightline.evaluation.metrics import Evaluation
    from sightline.evaluation.multilabel import MultiLabelEvaluation
    from sightline.views import TestTimeAugmentation

_LABEL_FIGURES = ("mean_average_precision", "micro_f1", "macro_f1", "exact_match", "hamming_loss")

log = logging.getLogger("sightline")

BATCH_SIZE = 128
"""Images in a batch; the answer doesn't depend on it."""


def evaluate(
    model: "str | Path | Folder",
    data: str | Path | None = None,
    *,
    split: "Split | None" = None,
    device: str = "auto",
    num_workers: int = 2,
    tta: "TestTimeAugmentation | None" = None,
) -> "Evaluation | MultiLabelEvaluation":
    """Measure a model or an export, on its stored split or on other data with the same classes.

    `split` is val or test, test if left out: of the images the model was trained with, or of `data` where that has
    splits. Data without splits is taken whole. Figures on the model's own split are written into its folder.

    `tta` averages the logits over several views of each image: "flip" or "five_crop". Such figures are kept
    beside the plain ones, under their own name ("test_tta_flip").

    Raises RecipeError for views the model's images don't allow, ModelError when the model can't be opened,
    DataError when the images can't be read, have moved, changed or hold a class the model doesn't know.
    """
    require_torch("Evaluating")
    from sightline.data.table import SPLITS
    from sightline.views import check_views

    check_whole(0, num_workers=num_workers)
    if split is not None and split not in SPLITS:
        raise DataError(unknown_name("split", split, SPLITS, listing="`sightline evaluate --help`"))
    folder = model if isinstance(model, ModelFolder | ExportedFolder) else open_folder(model)
    check_views(tta, folder.spec.preprocess)
    if data is None:
        return _evaluate_stored(folder, split or "test", device=device, num_workers=num_workers, tta=tta)
    table, indices = images_of(folder, data, split)
    tell_of_seen_images(folder, table, indices)
    return evaluate_images(folder, table, indices, device=device, num_workers=num_workers, tta=tta)[0]


def tell_of_seen_images(folder: "Folder", table: "ImageTable", indices: "NDArray[np.int64]") -> None:
    """Warn of images that the model was trained on."""
    from sightline.evaluation.seen import digests_of, num_seen

    home = folder.path
    if isinstance(folder, ExportedFolder):
        try:
            home = folder.model_folder().path
        except ModelError:  # not at hand, so nobody can say
            return
    if seen := num_seen(home, digests_of(table, indices.tolist())):
        log.warning(
            f"{seen:,} of the {len(indices):,} images are ones that the model was trained on: its figures flatter it."
        )


def images_of(
    folder: "Folder", data: str | Path, split: "Split | None" = None
) -> tuple["ImageTable", "NDArray[np.int64]"]:
    """Other images than the model's own, and the places of those of that split; see `evaluate`. Raises DataError."""
    import numpy as np

    from sightline.data.prepare import readable_table

    table = readable_table(data, label_separator=_separator(folder))
    check_classes(table, folder)
    wanted = None if split is None and None in table.splits else split or "test"
    chosen = [index for index, name in enumerate(table.splits) if name == wanted]
    if not chosen:
        raise DataError(
            f"{str(data)!r} has no {wanted} split of its own. "
            "Name no DATA to take the split that the model was trained with."
        )
    return table, np.array(chosen)


def evaluate_images(
    folder: "Folder",
    table: "ImageTable",
    indices: "NDArray[np.int64]",
    *,
    device: str = "auto",
    num_workers: int = 2,
    tta: "TestTimeAugmentation | None" = None,
    store: "Packed | None" = None,
) -> tuple["Evaluation | MultiLabelEvaluation", "Tensor"]:
    """The Evaluation of the table's images at `indices`, and their logits (N, K); with `tta`, averaged over views.

    `store` is the table's packed cache, where there is one.
    """
    from sightline.data.loader import Batches, Pixels
    from sightline.data.order import in_order
    from sightline.evaluation.answers import answers
    from sightline.evaluation.metrics import evaluate_logits
    from sightline.evaluation.multilabel import evaluate_labels
    from sightline.views import check_views, needs_canvas

    spec = folder.spec
    check_views(tta, spec.preprocess)
    targets = table.numbered(spec.classes)
    pixels = Pixels(table, spec.preprocess, canvas=needs_canvas(tta), store=store)
    batches = Batches(pixels, in_order(indices, BATCH_SIZE), targets, len(spec.classes), num_workers)
    logits = answers(folder, batches, device=device, tta=tta)
    given, truth, paths = logits.numpy(), targets[indices], [table.paths[index] for index in indices]
    temperature = spec.calibration.temperature
    if spec.thresholds is None:
        return evaluate_logits(given, truth, spec.classes, temperature=temperature, paths=paths), logits
    thresholds = spec.thresholds.values
    labels = evaluate_labels(given, truth, spec.classes, thresholds=thresholds, temperature=temperature, paths=paths)
    return labels, logits


def key_figures(evaluation: "Evaluation | MultiLabelEvaluation") -> dict[str, object]:
    """The few figures that model.json keeps: accuracy with its interval, and how good the probabilities are."""
    from sightline.evaluation.metrics import Evaluation

    calibrated = evaluation.calibrated
    if not isinstance(evaluation, Evaluation):
        return {
            "num_images": evaluation.num_images,
            **{name: asdict(getattr(evaluation, name)) for name in _LABEL_FIGURES},
            "log_loss": calibrated.log_loss,
            "calibration_error": calibrated.calibration_error,
        }
    accuracy = evaluation.accuracy
    return {
        "num_images": evaluation.num_images,
        "accuracy": {"value": accuracy.value, "low": accuracy.low, "high": accuracy.high},
        "macro_f1": evaluation.macro.f1,
        "log_loss": calibrated.log_loss,
        "calibration_error": calibrated.calibration_error,
    }


def read_evaluation(folder: "Folder", split: str) -> "Evaluation | MultiLabelEvaluation | None":
    """What was measured on the model's own split; None where nothing was. Raises ModelError for a damaged file."""
    from sightline.evaluation.metrics import Evaluation
    from sightline.evaluation.multilabel import MultiLabelEvaluation

    kind = MultiLabelEvaluation if folder.spec.multi_label else Evaluation
    path = folder.path / "evaluation" / f"{split}.json"
    if not path.exists():
        return None
    try:
        return kind.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ModelError(f"{str(path)!r} can't be read: {error}.") from error


def stored_split(folder: "Folder", split: "Split") -> tuple["ImageTable", "NDArray[np.int64]"]:
    """The images the model was trained with, and the places of those in its own split.

    Raises ModelError when the folder doesn't say, DataError when the images have moved or changed.
    """
    from sightline.data.inspection import inspect
    from sightline.data.scan import scan
    from sightline.data.split import Splits

    home = folder.model_folder() if isinstance(folder, ExportedFolder) else folder
    try:
        stored = json.loads((home.path / "splits.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{str(home.path)!r} has no splits.json that can be read; name the DATA to use.") from error
    location = folder.spec.provenance.data.get("location")
    if not isinstance(location, str):
        raise ModelError(f"{str(home.path)!r} doesn't say which images it was trained on; name the DATA.")
    table = scan(location, label_separator=_separator(folder))
    splits = Splits.from_json(stored, table)
    contents = stored.get("contents")
    kept = contents.get(split) if isinstance(contents, dict) else None
    if splits.contents(table, inspect(table))[split] != kept:
        raise DataError(
            f"Images of the {split} split have changed in {table.source.location!r} since the model was trained. "
            "Put them back, or name the data to evaluate on."
        )
    return table, splits.named()[split]


def _evaluate_stored(
    folder: "Folder", split: "Split", *, device: str, num_workers: int, tta: "TestTimeAugmentation | None"
) -> "Evaluation | MultiLabelEvaluation":
    table, indices = stored_split(folder, split)
    measured = evaluate_images(folder, table, indices, device=device, num_workers=num_workers, tta=tta)
    keep_evaluation(folder, table, indices, *measured, name=split if tta is None else f"{split}_tta_{tta}")
    return measured[0]


def keep_evaluation(
    folder: "Folder",
    table: "ImageTable",
    indices: "NDArray[np.int64]",
    evaluation: "Evaluation | MultiLabelEvaluation",
    logits: "Tensor",
    *,
    name: str,
) -> None:
    """Write what `evaluate_images` found on the model's own split `name` into its folder.

    Raises ModelError where that holds another model by now.
    """
    stored = open_folder(folder.path)  # others may have been measured since `folder` was read
    if stored.spec.fingerprint != folder.spec.fingerprint:
        raise ModelError(f"{str(folder.path)!r} was replaced by another model meanwhile. Evaluate it again.")
    write_json(folder.path / "evaluation" / f"{name}.json", evaluation.to_json())
    rows = _prediction_rows(folder, table, indices, logits)
    write_text(folder.path / "evaluation" / f"{name}_predictions.csv", rows)
    stored.with_figures({**stored.spec.figures, name: key_figures(evaluation)})


def _prediction_rows(folder: "Folder", table: "ImageTable", indices: "NDArray[np.int64]", logits: "Tensor") -> str:
    """CSV: each image with its class, the class it was taken for, and how probable that was; for paired tests."""
    if folder.spec.multi_label:
        return _label_rows(folder, table, indices, logits)
    classes = folder.spec.classes
    confidence, predicted = folder.spec.probabilities(logits).max(1)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "target", "predicted", "probability"])
    for index, number, value in zip(indices.tolist(), predicted.tolist(), confidence.tolist(), strict=True):
        writer.writerow([table.paths[index], table.labels[index], classes[number], f"{value:.6f}"])
    return text.getvalue()


def _label_rows(folder: "Folder", table: "ImageTable", indices: "NDArray[np.int64]", logits: "Tensor") -> str:
    """CSV: each image with its labels, those it was given, and the probability of every class."""
    spec, separator = folder.spec, _separator(folder) or ""
    assert spec.thresholds is not None  # of the task multi_label
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "target", "predicted", *(f"probability of {name}" for name in spec.classes)])
    for index, values in zip(indices.tolist(), spec.probabilities_of(logits.numpy()).tolist(), strict=True):
        answers = zip(spec.classes, values, spec.thresholds.values, strict=True)
        given = separator.join(name for name, value, threshold in answers if value >= threshold)
        writer.writerow([table.paths[index], table.labels[index], given, *(f"{value:.6f}" for value in values)])
    return text.getvalue()


def _separator(folder: "Folder") -> str | None:
    """What parts the labels of an image in the lists that the model knows; None for one label an image."""
    return folder.spec.provenance.data.get("label_separator") if folder.spec.multi_label else None


def check_classes(table: "ImageTable", folder: "Folder") -> None:
    """Raise DataError when the images have a class that the model doesn't know."""
    strange = [name for name in table.classes if name not in folder.spec.classes]
    if not strange:
        return
    sentence = unknown_name("class", strange[0], folder.spec.classes, listing="The model's model.json")
    more = f" {len(strange)} classes are unknown to the model." if len(strange) > 1 else ""
    raise DataError(sentence + more)
