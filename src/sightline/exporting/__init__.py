"""Exporting: a model in another form, which proves that it still gives the model's answers.

`export` writes the format's files aside, opens them as a user would, compares their answers with the model's on
images it was validated on, and gives the folder its name only when they are within the format's tolerance.
"""

import logging
import os
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.command_line import command_line
from sightline.data.outside import check_outside
from sightline.deps import require, require_torch
from sightline.devices import emulates_bf16
from sightline.errors import ModelError
from sightline.exported_folder import Artefact, ExportedFolder, open_folder
from sightline.files import whole_folder
from sightline.formats import Format, find_format, open_exported
from sightline.model_folder import ModelFolder, sha256

if TYPE_CHECKING:
    from sightline.exporting.comparing import Images
    from sightline.exporting.parity import Parity

log = logging.getLogger("sightline")

NUM_IMAGES = 256
"""Images that an export is compared on, unless asked otherwise or where there are fewer."""


def export(
    model: str | Path | ModelFolder,
    form: str,
    *,
    out: str | Path | None = None,
    pixels: bool = False,
    precision: str = "float32",
    data: str | Path | None = None,
    num_images: int = NUM_IMAGES,
) -> ExportedFolder:
    """Write the model in the format `form`; the folder is `out`, or the model's with the format's name behind it.

    With `pixels` the graph takes uint8 (B, H, W, 3) and gives calibrated probabilities, then logits; else it takes
    normalised images and gives logits. `precision` is float32, or bf16 where the format has it. The comparison runs
    on up to `num_images` of the model's own validation split, or of `data`: its validation split, else all of it.

    Raises ModelError for a format or precision that can't be had, a network that can't be written, an `out` that is
    something else, and answers outside the tolerance; MissingPackageError; DataError when the images can't be read.
    Nothing is left behind then.
    """
    chosen = _check(form, precision, num_images)
    folder = model if isinstance(model, ModelFolder) else ModelFolder.read(model)
    path = Path(out) if out is not None else _default_path(folder.path, form, pixels=pixels, precision=precision)
    _check_free(path)
    for location in (data, folder.spec.provenance.data.get("location")):
        if location is not None:
            check_outside(path, location)
    images = _images(folder, data, num_images)  # before the conversion, which may take minutes
    with whole_folder(path) as aside:
        exported = _write(folder, form, chosen, aside, pixels=pixels, precision=precision)
        parity = _compare(folder, exported, chosen, images)
        if parity.failures:
            raise ModelError(
                f"The export to {form} in {precision} was discarded, since it doesn't give the model's answers: "
                f"{'; '.join(parity.failures)} ({parity.images})."
            )
        exported = _described(exported, parity, os.path.relpath(folder.path.resolve(), path.resolve()))
        exported.write()
    return ExportedFolder(path, exported.spec, exported.artefact)


def _check(form: str, precision: str, num_images: int) -> Format:
    chosen = find_format(form)
    if precision not in chosen.tolerances:
        raise ModelError(f"The format {form!r} has no precision {precision!r}. It has: {', '.join(chosen.tolerances)}.")
    if num_images < 1:
        raise ModelError(f"An export must be compared on at least 1 image, got {num_images}.")
    require_torch("Exporting")
    for module in chosen.modules:
        require(module, extra=chosen.extra or "", purpose=f"Exporting to {form}")
    import torch

    if precision == "bf16" and emulates_bf16(torch.device("cpu")):
        log.info(
            "This processor has no instructions for bfloat16. A runtime may compute in float32 here, and the "
            "comparison then says nothing of bfloat16: export on a machine like the one that will answer."
        )
    return chosen


def _default_path(model: Path, form: str, *, pixels: bool, precision: str) -> Path:
    model = model.resolve()  # "." has no name
    parts = [model.name, form, *(["pixels"] if pixels else []), *([precision] if precision != "float32" else [])]
    return model.with_name("-".join(parts))


def _check_free(path: Path) -> None:
    """Raise ModelError unless there is nothing, an empty folder, or an older export, which is replaced."""
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    try:
        older = isinstance(open_folder(path), ExportedFolder)
    except ModelError:
        older = False
    if not older:
        raise ModelError(f"{str(path)!r} exists and is no exported model. Name another folder by --out, or remove it.")


def _write(
    folder: ModelFolder, form: str, chosen: Format, path: Path, *, pixels: bool, precision: str
) -> ExportedFolder:
    from sightline.exporting.graph import build_graph

    details = chosen.write(build_graph(folder, pixels=pixels, precision=precision), path)
    artefact = Artefact(
        format=form,
        precision=precision,
        pixels=pixels,
        files={file.name: sha256(file) for file in sorted(path.iterdir())},
        details=details,
        parent=folder.spec.fingerprint,
        command=command_line(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={name: version(name) for name in ("sightline", "torch", *chosen.modules)},
        parity={},
    )
    return ExportedFolder(path, folder.spec, artefact)


def _images(folder: ModelFolder, data: str | Path | None, num_images: int) -> "Images":
    from sightline.exporting.comparing import choose_images

    return choose_images(folder, data, num_images)


def _compare(folder: ModelFolder, exported: ExportedFolder, chosen: Format, images: "Images") -> "Parity":
    from sightline.exporting.comparing import answers
    from sightline.exporting.parity import measure

    tolerance = chosen.tolerances[exported.artefact.precision]
    return measure(answers(folder, open_exported(exported), images), images=images.said, tolerance=tolerance)


def _described(exported: ExportedFolder, parity: "Parity", model: str) -> ExportedFolder:
    figures: dict[str, Any] = asdict(parity)
    return ExportedFolder(exported.path, exported.spec, replace(exported.artefact, parity=figures, model=model))
