"""Ways to compress a model: one file a method, binding ENTRY; `compress` applies them one after another.

A method is a frozen dataclass whose fields are its settings. It takes a model folder, which stays as it is, and the
images that the model was trained on, and gives another folder that names the first as its parent.

Every step has a folder of its own below the one that is written, with the step's settings and figures in
`compression.json`. It gets its name when it is whole; a call that was interrupted is gone on with by the same call.
The whole table is in `compress.json`, of which `reports/compression.py` makes a page.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

from sightline.compressing.images import Images, find_images, recipe_of
from sightline.compressing.judging import Judge, Row
from sightline.compressing.steps import OtherWorkError, Step, tidy
from sightline.compressing.table import PAGE, RESULT, is_table, name_of, write_table
from sightline.data.outside import check_outside
from sightline.engines import Folder
from sightline.errors import ModelError, SightlineError, given
from sightline.evaluation import tell_of_seen_images
from sightline.files import claimed
from sightline.model_folder import ModelFolder
from sightline.recipe import Recipe

log = logging.getLogger("sightline")


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
        tell_of_seen_images(folder, images.table, images.places("test"))
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
                tidy(place, made_before=made_before)
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
    step = Step(
        folder=place / step_name(number, method),
        parent=parent,
        settings=_settings(parent, method, images),
        apply=lambda work: method.apply(parent, images, work),
        is_another=isinstance(method, MakesAnother) and method.makes_another,
    )
    return step.made(judge)


def _settings(parent: ModelFolder, method: Method, images: Images) -> dict[str, Any]:
    """What a step is done with: another result for any other value."""
    own: dict[str, Any] = asdict(cast(Any, method))
    sources = method.sources() if isinstance(method, ReadsMore) else {}
    made_of = {"parent": parent.spec.fingerprint, "images": images.fingerprint, **sources}
    return json.loads(json.dumps({**made_of, "method": own}))
