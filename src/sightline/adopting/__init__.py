"""Adopting: a network that was trained elsewhere becomes a folder that every verb takes.

Weights become a model folder: an architecture that is known here or timm's, with every tensor in its place. An ONNX
file becomes an exported folder. Neither says which classes it knows, and few say how images were prepared: the names
are asked for, and what is assumed of the images is said. Figures are measured on images that are given, or absent.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.adopting.class_names import hub_classes, read_classes
from sightline.adopting.preprocessing import StatedPreprocess
from sightline.command_line import command_line
from sightline.data.outside import check_outside
from sightline.deps import require_torch
from sightline.errors import ModelError, path_of
from sightline.exported_folder import Artefact, ExportedFolder, open_folder
from sightline.files import expanded, whole_folder
from sightline.model_folder import Architecture, Calibration, ModelFolder, ModelSpec, Provenance, sha256
from sightline.preprocess import Preprocess

if TYPE_CHECKING:
    from sightline.engines import Folder

log = logging.getLogger("sightline")

MEASURED = "adopted"
"""The name of the figures on the images that were given; the model's own splits are not known."""


def adopt(
    source: str | Path,
    classes: str | Path | Sequence[str] | None = None,
    *,
    model: str | None = None,
    out: str | Path | None = None,
    preprocess: StatedPreprocess | None = None,
    data: str | Path | None = None,
) -> "Folder":
    """Make a model folder of weights, or an exported folder of an ONNX file; `out`, or runs/ with the source's name.

    `source` is an .onnx file, a .safetensors or .pth file whoever wrote it, or a folder in which timm keeps a model
    (model.safetensors and config.json, which may hold the names). `classes` are the names in the order of the
    logits, or a file of them, one a line or JSON. `model` is the architecture of weights, as in `create_model`.
    `preprocess` states how images are prepared; the rest is assumed from what is known of the architecture, and said.

    With `data` the accuracy on it is measured and kept: on its test split, else on all of it.

    Raises ModelError for what can't be read, isn't safe to read, has another number of classes, or belongs to another
    architecture; RecipeError for a preprocessing that can't be; DataError; MissingPackageError. Nothing is left then.
    """
    require_torch("Adopting a model")
    source = expanded(path_of(source, "What is adopted"))
    path = Path(out) if out is not None else Path("runs") / _name_of(source)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise ModelError(f"{str(path)!r} exists already. Name another folder by --out, or remove it.")
    if not source.exists():
        raise ModelError(f"There is nothing at {str(source)!r}. Name an .onnx, .safetensors or .pth file.")
    if data is not None:
        check_outside(path, data)
    stated = preprocess or StatedPreprocess()
    with whole_folder(path) as aside:
        if source.suffix.lower() == ".onnx":
            if model is not None:
                raise ModelError("An ONNX file holds its network: leave the architecture (--model) out.")
            folder = _from_onnx(source, read_classes(classes), stated, aside)
        else:
            folder = _from_weights(source, classes, model, stated, aside)
        open_folder(aside)  # a description that can't be read again never gets its name
        if data is not None:
            _measure(folder, data)
    return open_folder(path)


def _name_of(source: Path) -> str:
    return source.resolve().name if source.is_dir() else source.stem  # "." has no name


def _from_weights(
    source: Path, classes: str | Path | Sequence[str] | None, model: str | None, stated: StatedPreprocess, path: Path
) -> ModelFolder:
    from sightline.adopting.checkpoint import fitted_weights
    from sightline.adopting.timm_folder import read_timm_folder

    hub = read_timm_folder(source)
    file = source if hub is None else hub.weights
    name = model or (None if hub is None else hub.model)
    if name is None:
        raise ModelError(
            f"{str(source)!r} doesn't say which network its weights are of. Name it by --model; `sightline models` "
            "lists them, and timm/NAME is one of timm's."
        )
    if classes is None and hub is not None and hub.label_names is not None:
        names, doubled = hub_classes(hub.label_names, where=f" in {str(source / 'config.json')!r}")
        if doubled:
            log.info(doubled)
    else:
        names = read_classes(classes)
    if hub is None:
        prepared, said = stated.settle(name)
    else:
        prepared, said = stated.settle(name, known=hub.preprocess, unlike=hub.unlike)
    log.info(said)
    architecture = Architecture(name=name, num_classes=len(names), image_size=prepared.image_size)
    weights, notes = fitted_weights(file, architecture)
    for note in notes:
        log.info(note)
    spec = _spec(architecture, names, prepared, said, parent=f"{file.name}, sha256 {sha256(file)}")
    return ModelFolder.write(path, spec, weights)


def _from_onnx(source: Path, classes: tuple[str, ...], stated: StatedPreprocess, path: Path) -> ExportedFolder:
    from sightline.adopting.onnx_file import FoundOnnx
    from sightline.exporting.graph import describe
    from sightline.formats.onnx import FILE

    found = FoundOnnx.read(source, num_classes=len(classes))
    prepared, said = stated.settle(None, image_size=found.image_size)
    log.info(said)
    found.check(prepared)
    digest = sha256(source)
    architecture = Architecture(name=f"onnx:{source.stem}", num_classes=len(classes), image_size=prepared.image_size)
    spec = _spec(architecture, classes, prepared, said, parent=f"{source.name}, sha256 {digest}")
    spec = replace(spec, weights_sha256=digest)
    details = found.write(path / FILE, describe(spec, pixels=False, precision="float32"))
    found.check_written(path / FILE, prepared)
    artefact = Artefact(
        format="onnx",
        precision="float32",
        pixels=False,
        files={FILE: sha256(path / FILE)},
        details=details,
        parent="",
        command=spec.provenance.command,
        created=spec.provenance.created,
        versions=spec.provenance.versions | {name: version(name) for name in ("onnx", "onnxruntime")},
        parity={},
    )
    folder = ExportedFolder(path, spec, artefact)
    folder.write()
    return folder


def _spec(
    architecture: Architecture, classes: tuple[str, ...], preprocess: Preprocess, said: str, *, parent: str
) -> ModelSpec:
    provenance = Provenance(
        command=command_line(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        data={"preprocessing": said},
        versions={name: version(name) for name in ("sightline", "torch")},
        parent=parent,
    )
    return ModelSpec(
        architecture=architecture,
        classes=classes,
        preprocess=preprocess,
        calibration=Calibration(),
        provenance=provenance,
    )


def _measure(folder: "Folder", data: str | Path) -> None:
    """Keep the figures on the images in the folder, and where they were."""
    from sightline.evaluation import evaluate_images, images_of, keep_evaluation

    table, indices = images_of(folder, data)
    keep_evaluation(folder, table, indices, *evaluate_images(folder, table, indices), name=MEASURED)
    measured = open_folder(folder.path)
    figures: dict[str, Any] = measured.spec.figures[MEASURED]
    measured.with_figures({MEASURED: {"data": str(data), **figures}})
