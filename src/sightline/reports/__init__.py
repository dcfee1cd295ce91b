"""Reports: a model folder as one self-contained page."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sightline.errors import ModelError, SightlineError, UnreadableImageError
from sightline.exported_folder import ExportedFolder, check_folder

if TYPE_CHECKING:
    from PIL.Image import Image

    from sightline.data.table import Source, Split
    from sightline.engines import Folder
    from sightline.evaluation.metrics import Evaluation
    from sightline.evaluation.multilabel import MultiLabelEvaluation
    from sightline.reports.report import PicturedMistake


def write_report(folder: "Folder") -> Path:
    """Write `report.html` into a model folder from what is stored there, and return its path.

    An export's page has the export's own figures, and tells of the training what its model's folder still tells. The
    pictures of the worst mistakes are read from the images where they were; without them the page stands all the
    same. Raises ModelError when the model was never evaluated or a stored file is damaged.
    """
    from sightline.evaluation import read_evaluation
    from sightline.reports.html import write_report as write
    from sightline.reports.report import ModelLine, Report
    from sightline.summary import count

    check_folder(folder)
    test = read_evaluation(folder, "test")
    if test is None:
        raise ModelError(f"{str(folder.path)!r} was never evaluated; `sightline evaluate {folder.path}` does it.")
    architecture, provenance = folder.spec.architecture, folder.spec.provenance
    counts = count(architecture.build(), architecture.image_size)
    report = Report(
        title=folder.path.resolve().name,
        model=ModelLine(
            architecture=architecture.name,
            num_params=counts.params,
            num_macs=counts.macs,
            image_size=architecture.image_size,
        ),
        test=test,
        val=read_evaluation(folder, "val"),
        mistakes=_pictured(folder, test),
        thresholds_fitted_on=folder.spec.thresholds.fitted_on if folder.spec.thresholds is not None else "",
        environment={
            "command": provenance.command,
            "created": provenance.created,
            "data": provenance.data,
            "versions": provenance.versions,
            "fingerprint": folder.spec.fingerprint,
            **_exported(folder),
        },
        **_of_training(folder),
    )
    path = folder.path / "report.html"
    write(path, report)
    return path


def check_stored(folder: "Folder", *, measured: "Split") -> None:
    """Raise ModelError for a damaged file that `write_report` would read, before the split `measured` is."""
    from sightline.evaluation import read_evaluation

    read_evaluation(folder, "val" if measured == "test" else "test")  # its own figures will be new
    _of_training(folder)


def _of_training(folder: "Folder") -> dict[str, Any]:
    """The parts of a Report that training left. Raises ModelError for a damaged file."""
    trained = _trained(folder)
    return {
        "history": list(_history(trained / "metrics.csv")),
        "gradients": list(_gradients(trained / "gradients.csv")),
        "splits": _stored(trained / "splits.json").get("made", ()),
        "audit": _stored(trained / "audit.json") or None,
        "recipe": _text(trained / "recipe.yaml"),
    }


def _trained(folder: "Folder") -> Path:
    """The folder that holds what the training left."""
    if not isinstance(folder, ExportedFolder):
        return folder.path
    try:
        return folder.model_folder().path
    except ModelError:  # it has gone: then the page is about the export alone
        return folder.path


def _exported(folder: "Folder") -> dict[str, object]:
    if not isinstance(folder, ExportedFolder):
        return {}
    artefact = folder.artefact
    named = {"format": artefact.format, "precision": artefact.precision, "command": artefact.command}
    return {"exported": {**named, "created": artefact.created, "versions": artefact.versions}}


def _pictured(folder: "Folder", evaluation: "Evaluation | MultiLabelEvaluation") -> list["PicturedMistake"]:
    """The worst mistakes, each with its image where that can still be read."""
    from sightline.data.scan import scan
    from sightline.reports.report import PicturedMistake

    try:
        data = folder.spec.provenance.data
        source = scan(str(data.get("location", "")), label_separator=data.get("label_separator")).source
    except SightlineError:
        return [PicturedMistake(mistake=mistake, image=None) for mistake in evaluation.mistakes]
    return [PicturedMistake(mistake=mistake, image=_image(source, mistake.path)) for mistake in evaluation.mistakes]


def _image(source: "Source", path: str | None) -> "Image | None":
    """As small as the page shows it: two dozen whole photographs would be gigabytes."""
    from sightline.decode import decode
    from sightline.reports.thumbnails import shrunk

    try:
        return None if path is None else shrunk(decode(source.read(path)))
    except UnreadableImageError:
        return None


def _history(path: Path) -> Iterator[dict[str, float | None]]:
    try:
        for row in csv.DictReader(_text(path).splitlines()):
            yield {name: float(value) if value else None for name, value in row.items()}
    except (csv.Error, ValueError) as error:
        raise ModelError(f"{str(path)!r} is damaged: {error}.") from error


def _gradients(path: Path) -> Iterator[dict[str, str | float | None]]:
    try:
        for row in csv.DictReader(_text(path).splitlines()):
            stage = row.pop("stage")
            yield {"stage": stage} | {name: float(value) if value else None for name, value in row.items()}
    except (csv.Error, ValueError, KeyError) as error:
        raise ModelError(f"{str(path)!r} is damaged: {error}.") from error


def _stored(path: Path) -> dict[str, Any]:
    """What a JSON file holds by name, nothing where there is no file."""
    if not path.exists():
        return {}
    try:
        content = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{str(path)!r} is damaged: {error}.") from error
    if not isinstance(content, dict):
        raise ModelError(f"{str(path)!r} is damaged: it holds no values by name.")
    return cast(dict[str, Any], content)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{str(path)!r} can't be read: {error}.") from error
