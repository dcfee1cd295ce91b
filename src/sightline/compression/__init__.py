"""Ways to compress a model: one file a method, binding ENTRY; `compress` applies them one after another.

A method is a frozen dataclass whose fields are its settings. It takes a model folder, which stays as it is, and the
images that the model was trained on, and gives another folder that names the first as its parent.

Every step has a folder of its own below the one that is written, with the step's settings and figures in
`compression.json`. It gets its name when it is whole; a call that was interrupted is gone on with by the same call.
The whole table is in `compress.json`, of which `reports/compression.py` makes a page.
"""

import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

from sightline.command_line import command_line
from sightline.compressing.images import Images, find_images, recipe_of
from sightline.compressing.judging import Judge, Row
from sightline.compressing.table import PAGE, RESULT, is_table, name_of, write_table
from sightline.data.outside import check_outside
from sightline.engines import Folder
from sightline.errors import ModelError, SightlineError, given
from sightline.evaluation import tell_of_seen_images
from sightline.exported_folder import ExportedFolder, open_folder
from sightline.files import claimed, whole_folder, write_json
from sightline.model_folder import ModelFolder
from sightline.recipe import Recipe

log = logging.getLogger("sightline")

DESCRIPTION = "compression.json"
"""In each step's folder: its settings, and its row of the table."""


class OtherWorkError(ModelError):
    """A folder holds something else than what is asked for."""


@runtime_checkable
class Method(Protocol):
    """The contract."""

    def apply(self, folder: ModelFolder, images: Images, work: Path) -> Folder:
        """The compressed model, in a folder below `work`, which may hold what an interrupted call left.

        Raises SightlineError for a target that can't be reached; then no folder that could be taken for a result is
        left.
        """
        ...


@runtime_checkable
class ReadsMore(Protocol):
    """A method whose settings name files."""

    def sources(self) -> dict[str, str]:
        """A fingerprint of what lies there: a step made of something else is another step."""
        ...


@runtime_checkable
class Checked(Protocol):
    """A method that needs more than is always there."""

    def check(self, folder: ModelFolder) -> None:
        """Raise SightlineError where something is missing: before an earlier step has trained for hours.

        `folder` is the model that the first step begins with.
        """
        ...


@runtime_checkable
class MakesAnother(Protocol):
    """A method that may train another network in place of changing the model's, by a recipe of its own."""

    @property
    def makes_another(self) -> bool:
        """Whether it does."""
        ...


@runtime_checkable
class Trains(Protocol):
    """A method that trains."""

    @property
    def settings(self) -> tuple[str, ...]:
        """The user's, of the training."""
        ...

    def recipe(self, own: Recipe, folder: ModelFolder) -> Recipe | None:
        """What a folder is trained by, made of the recipe of the model that is compressed; None for no training.

        Raises RecipeError for settings that can't be.
        """
        ...


def compress(
    model: str | Path | ModelFolder,
    methods: Sequence[Method],
    *,
    data: str | Path | None = None,
    out: str | Path | None = None,
    device: str = "auto",
) -> list[Row]:
    """Apply the methods one after another; a row for the model, and one for each step, with the step's folder.

    `data` are the images to tune and calibrate on; the model's own if left out. `out` is the folder that the steps'
    folders are written to; MODEL-compressed if left out. `device` is where accuracy is measured.

    Raises ModelError for a model that was exported already, a target that can't be reached, or an `out` that holds
    something else; DataError when images are missing or have changed. What is whole by then stays.
    """
    folder = model if isinstance(model, ModelFolder) else ModelFolder.read(model)
    place = place_of(folder.path, out)
    _check_methods(methods, folder)
    _check_outside(place, folder, data)
    _check_free(place, methods)
    judge = Judge(_images(folder, data, methods), device)
    _chain(folder, methods, place, judge)
    rows = judge.rows()
    ways = {step_name(number, method): [method] for number, method in enumerate(methods, 1)}
    write_table(place, "chain", folder, judge.images, rows, ways, {})
    return rows


def sweep(
    model: str | Path | ModelFolder,
    ways: Mapping[str, Sequence[Method]],
    *,
    data: str | Path | None = None,
    out: str | Path | None = None,
    device: str = "auto",
) -> list[Row]:
    """Compress one model in several ways, and judge what they gave side by side: a row for the model, one for each way.

    Each way's steps lie below its name in `out`, which is MODEL-sweep if left out; the same call goes on with it. A
    way whose target can't be reached is named and left out; a folder that holds other work ends the sweep. Raises like
    `compress`, and ModelError when none is left.
    """
    folder = model if isinstance(model, ModelFolder) else ModelFolder.read(model)
    place = place_of(folder.path, out, sweep=True)
    for methods in ways.values():
        _check_methods(methods, folder)
    _check_outside(place, folder, data)
    _check_ours(place, set(ways))
    every = [method for methods in ways.values() for method in methods]
    judge = Judge(_images(folder, data, every), device)
    judge.begin(folder)
    made_before = place.exists()
    found: dict[str, Folder] = {}
    left_out: dict[str, ModelError] = {}
    try:
        for name, methods in ways.items():
            log.info(f"--- {name}")
            try:
                _check_free(place / name, methods)
                found[name] = _chain(folder, methods, place / name, judge)
            except ModelError as error:
                left_out[name] = error
                if isinstance(error, OtherWorkError) or len(left_out) == len(ways):
                    raise
                log.warning(f"{name} is left out: {error}")
    finally:
        if not made_before and place.exists() and not any(place.iterdir()):
            place.rmdir()
    judge.begin(folder)
    for name, way in found.items():
        judge.add(name, way)
    rows = judge.rows()
    write_table(place, "sweep", folder, judge.images, rows, ways, left_out)
    return rows


def _check_outside(place: Path, folder: ModelFolder, data: str | Path | None) -> None:
    """Raise DataError where the results would lie among the images."""
    for location in (data, folder.spec.provenance.data.get("location")):
        if location is not None:
            check_outside(place, location)


def _images(folder: ModelFolder, data: str | Path | None, methods: Sequence[Method]) -> Images:
    """What to tune, calibrate and judge on; named images may be some that the model was trained on."""
    settings = [text for method in methods if isinstance(method, Trains) for text in method.settings]
    images = find_images(folder, data, settings)
    if data is not None:
        tell_of_seen_images(folder, images.test_paths())
    elif any(isinstance(method, Trains) and method.recipe(images.recipe, folder) is not None for method in methods):
        images.check_undivided()
    return images


def _chain(folder: ModelFolder, methods: Sequence[Method], place: Path, judge: Judge) -> Folder:
    """Every step that isn't there yet, and the last one's folder; each adds its row."""
    judge.begin(folder)
    made_before = place.exists()
    now: Folder = folder
    with claimed(place):
        for number, method in enumerate(methods, 1):
            try:
                now = _step(now, method, place, number, judge)
            except (SightlineError, KeyboardInterrupt):
                _tidy(place, made_before=made_before)
                raise
    return now


def place_of(model: Path, out: str | Path | None, *, sweep: bool = False) -> Path:
    """The folder that is written: `out`, or one beside the model's."""
    own = model.resolve()
    return Path(out) if out is not None else own.with_name(f"{own.name}-{'sweep' if sweep else 'compressed'}")


def step_name(number: int, method: Method) -> str:
    """Of a step's folder: "1-prune"."""
    return f"{number}-{name_of(method)}"


def _check_methods(methods: Sequence[Method], folder: ModelFolder) -> None:
    if not isinstance(methods, Sequence):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers needn't check types
        raise ModelError(f"compress() takes a list of methods, got {given(methods)}. Put a single one in a list.")
    wrong = next((each for each in methods if isinstance(each, type) or not hasattr(each, "apply")), None)
    if wrong is not None:
        raise ModelError(f"compress() takes methods such as Prune(share=0.5), got {given(wrong)}.")
    if not methods:
        raise SightlineError("Nothing to do: name at least one of --prune, --sparsify, --distill and --quantize.")
    if any(name_of(method) == "quantize" for method in methods[:-1]):
        raise ModelError("A quantised model can't be compressed further. Name --quantize last.")
    for method in methods:
        if isinstance(method, Checked):
            method.check(folder)
        if isinstance(method, Trains) and method.settings:
            method.recipe(recipe_of(folder), folder)


def _check_free(place: Path, methods: Sequence[Method]) -> None:
    """Raise ModelError where a folder holds something else than this call's own steps."""
    _check_ours(place, {step_name(number, method) for number, method in enumerate(methods, 1)})


def _check_ours(place: Path, mine: set[str]) -> None:
    if not place.exists():
        return
    if is_table(place / RESULT):
        mine = mine | {RESULT, PAGE}
    if not place.is_dir() or any(path.name not in mine and not path.name.startswith(".") for path in place.iterdir()):
        raise OtherWorkError(f"{str(place)!r} exists and holds something else. Name another folder by --out.")


def _step(parent: Folder, method: Method, place: Path, number: int, judge: Judge) -> Folder:
    assert isinstance(parent, ModelFolder)  # nothing but the last method exports
    images = judge.images
    name = step_name(number, method)
    final, work = place / name, place / f".{name}.work"
    settings = _settings(parent, method, images)
    if final.exists():
        if not _is_same(json.loads((final / DESCRIPTION).read_text(encoding="utf-8"))["settings"], settings):
            raise OtherWorkError(
                f"{str(final)!r} was made with other settings or images. Name another folder by --out."
            )
        log.info(f"{name} was done before and is kept.")
        judge.add(name, open_folder(final))
        return open_folder(final)
    begun = work / "settings.json"
    if not begun.exists() or not _is_same(json.loads(begun.read_text(encoding="utf-8")), settings):
        shutil.rmtree(work, ignore_errors=True)
        write_json(begun, settings)
    log.info(f"{name}:")
    found = method.apply(parent, images, work)
    another = isinstance(method, MakesAnother) and method.makes_another
    _finish(found, parent, settings, final, judge, own=images.own, another=another)
    shutil.rmtree(work)
    return open_folder(final)


def _settings(parent: ModelFolder, method: Method, images: Images) -> dict[str, Any]:
    """What a step is done with: another result for any other value."""
    own: dict[str, Any] = asdict(cast(Any, method))
    sources = method.sources() if isinstance(method, ReadsMore) else {}
    made_of = {"parent": parent.spec.fingerprint, "images": images.fingerprint, **sources}
    return json.loads(json.dumps({**made_of, "method": own}))


def _is_same(kept: dict[str, Any], settings: dict[str, Any]) -> bool:
    """Whether a step was done with these settings: of a file what lies there counts, and not how its path is spelled.

    What lies there stands beside the method's own settings, under the name of the one that says where.
    """

    def told(each: dict[str, Any]) -> dict[str, Any]:
        own = {name: value for name, value in each["method"].items() if name not in each}
        return {**each, "method": own}

    return told(kept) == told(settings)


def _finish(
    found: Folder, parent: ModelFolder, settings: dict[str, Any], final: Path, judge: Judge, *, own: bool, another: bool
) -> None:
    """Write the step's folder, with its figures on the images that the model was judged on.

    Those are the folder's own test split where the model's images were used (`own`), or where the step trained. The
    recipe is the parent's, unless it is of `another` network.
    """
    trained = (found.path / "splits.json").exists()
    with whole_folder(final) as aside:
        if isinstance(found, ExportedFolder):
            written = _exported(found, parent, final, aside)
        else:
            written = _model(found, parent, aside)
            _copy("recipe.yaml", found.path if another else parent.path, aside)
            _copy("splits.json", found.path if trained else parent.path, aside)
        figures = judge.add(final.name, written, path=final)
        written.with_figures({"test": figures} if own or trained else {})
        write_json(aside / DESCRIPTION, {"settings": settings, "row": judge.newest()})


def _copy(name: str, source: Path, target: Path) -> None:
    if (source / name).exists():
        shutil.copyfile(source / name, target / name)


def _model(found: ModelFolder, parent: ModelFolder, aside: Path) -> ModelFolder:
    shutil.copyfile(found.path / "weights.safetensors", aside / "weights.safetensors")
    provenance = replace(
        found.spec.provenance,
        command=command_line(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        parent=parent.spec.fingerprint,
    )
    return ModelFolder(aside, replace(found.spec, provenance=provenance, figures={}))


def _exported(found: ExportedFolder, parent: ModelFolder, final: Path, aside: Path) -> ExportedFolder:
    for file in found.artefact.files:
        shutil.copyfile(found.path / file, aside / file)
    model = os.path.relpath(parent.path.resolve(), final.resolve())
    return ExportedFolder(aside, found.spec, replace(found.artefact, model=model))


def _tidy(place: Path, *, made_before: bool) -> None:
    """Leave what can be gone on with, and nothing else."""
    for work in place.glob(".*.work"):
        if not any(work.rglob("last.pt")):
            shutil.rmtree(work)
    if not made_before and not any(path.name != ".lock" for path in place.iterdir()):
        shutil.rmtree(place)
