"""Training: from a recipe and a folder of images to a model folder. Lightning is the engine."""

import glob
import itertools
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sightline.data.fewer import few_of_each_split, rarest_labels
from sightline.data.outside import check_outside
from sightline.data.prepare import PUT_BACK, Prepared, prepare
from sightline.data.split import Splits
from sightline.data.table import Split
from sightline.errors import ModelError, RecipeError, SightlineError, path_of
from sightline.files import claimed, is_claimed, write_json, write_text
from sightline.model_folder import ModelFolder
from sightline.recipe import Recipe
from sightline.recipe.train import CHOSEN_BY_AUTO
from sightline.recipe_text import from_yaml, to_plain, to_yaml
from sightline.recipes import find_recipe
from sightline.training.short import shortened

MEASURED: tuple[Split, ...] = ("val", "test")
"""The splits that a finished run is measured on."""


def train(
    recipe: Recipe | str, data: str | Path, *, out: str | Path | None = None, measure: Sequence[Split] = MEASURED
) -> ModelFolder:
    """Train a classifier on `data` and return its model folder, measured on the splits `measure` names.

    `recipe` is a Recipe, a shipped one's name, or a YAML file's. `data` is a folder, an archive, a manifest, or
    the name of a set. `out` is the model folder to write;
    left out, it is `runs/<data>`, or `runs/<data>-2` and so on where that is taken.

    Raises DataError, RecipeError, ModelError, or another SightlineError that says what to mend, and
    KeyboardInterrupt when the user stopped the run; a checkpoint is written before.
    """
    recipe = recipe if isinstance(recipe, Recipe) else find_recipe(recipe)
    folder = _free_folder(data) if out is None else Path(out)
    for images in (data, recipe.distill.unlabelled or data):
        check_outside(folder, images)
    if not _is_free(folder):
        raise ModelError(
            f"{str(folder)!r} exists already. Choose another --out, or go on with an unfinished run by --resume."
        )
    with claimed(folder):
        return _start(recipe, data, folder, measure)


def resume(
    data: str | Path,
    *,
    out: str | Path | None = None,
    recipe: Recipe | None = None,
    measure: Sequence[Split] = MEASURED,
) -> ModelFolder:
    """Go on with an unfinished run, to the very weights that it would have reached without a stop.

    `out` is its folder; left out, the latest unfinished one that `train` made for this data. A `recipe`, where
    given, must be the run's own; `data.num_workers`, `data.cache` and `train.checkpoint_minutes` may differ.

    Raises like `train`, and ModelError when there is nothing to resume or the images have changed since.
    """
    folder = unfinished_run(data) if out is None else Path(out)
    stored = stored_recipe(folder)
    if recipe is not None:
        _check_same(stored, recipe)
        if recipe.train.fast == "auto":  # was settled when the run began
            minutes = recipe.train.checkpoint_minutes
            recipe = replace(recipe, train=replace(stored.train, checkpoint_minutes=minutes))
    with claimed(folder):
        return _resume(recipe or stored, data, folder, measure)


def fast_dev_run(recipe: Recipe, data: str | Path) -> None:
    """Try the whole way on two batches of each split, with an image of each class to train on, and keep nothing.

    Raises like `train`.
    """
    from sightline.training.interruption import NOTHING_KEPT, told_of_a_stop
    from sightline.training.job import check_job

    check_job(recipe)  # of what a short run leaves out, too
    with tempfile.TemporaryDirectory() as folder, told_of_a_stop(NOTHING_KEPT):
        _start(shortened(recipe, 1), data, Path(folder), MEASURED, limit=2 * recipe.batch_size)


def stored_recipe(folder: Path) -> Recipe:
    """The recipe of a run. Raises ModelError where there is none."""
    try:
        return from_yaml((folder / "recipe.yaml").read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(
            f"There is no run in {str(folder)!r} that could be resumed: {error.strerror}. One that was stopped before "
            "it had read its images left nothing; begin it anew."
        ) from error


def unfinished_run(data: str | Path) -> Path:
    """The latest run that `train` named after this data and that has not ended. Raises ModelError."""
    base = _run_folder(data)
    runs = [base, *sorted(base.parent.glob(f"{glob.escape(base.name)}-[0-9]*"))]
    unfinished = [run for run in runs if _is_unfinished(run)]
    if not unfinished:
        raise ModelError(f"There is no unfinished run of this data under {str(base.parent)!r}; name it with --out.")
    return max(unfinished, key=lambda run: (run / "recipe.yaml").stat().st_mtime)


def _free_folder(data: str | Path) -> Path:
    base = _run_folder(data)
    numbered = (base.with_name(f"{base.name}-{number}") for number in itertools.count(2))
    folders = itertools.chain([base], numbered)
    return next(folder for folder in folders if _is_free(folder) and not is_claimed(folder))


def _is_free(folder: Path) -> bool:
    """Whether nothing would be lost: what a run leaves that ended before its first checkpoint doesn't count."""
    if not os.path.exists(folder):  # noqa: PTH110  # Path.exists raises for a name that is too long
        return True
    early = {".lock", "audit.json", "recipe.yaml", "splits.json"}
    return folder.is_dir() and all(path.name in early for path in folder.iterdir())


def _is_unfinished(folder: Path) -> bool:
    try:
        return (folder / "recipe.yaml").exists() and not _has_ended(folder, MEASURED)
    except ModelError:  # damaged
        return False


def _has_ended(folder: Path, measure: Sequence[Split]) -> bool:
    """Whether a run's network is written, with its figures on these splits."""
    return (folder / "model.json").exists() and not _unmeasured(folder, measure)


def _unmeasured(folder: Path, measure: Sequence[Split]) -> list[Split]:
    """The splits among these that a run which was ended early has no figures of."""
    figures = ModelFolder.read(folder).spec.figures
    return [name for name in measure if name not in figures]


def _run_folder(data: str | Path) -> Path:
    """`runs/<data>`: where a run on this data goes when the user names no folder."""
    path = path_of(data, "The data")
    name = path.name or path.resolve().name
    for suffix in (".zip", ".tar.gz", ".tgz", ".tar", ".csv", ".parquet"):
        name = name.removesuffix(suffix)
    return Path("runs") / (name or "data")


def _start(
    recipe: Recipe, data: str | Path, folder: Path, measure: Sequence[Split], *, limit: int | None = None
) -> ModelFolder:
    from sightline.training.fastest import resolved
    from sightline.training.job import check_job, run_job
    from sightline.training.start import tell_of_seen_images

    check_job(recipe)
    kept = folder / "audit.json" if limit is None else None
    prepared = prepare(data, recipe.data, recipe.seed, audit_path=kept)
    recipe = resolved(recipe)
    if limit is not None:
        labels = rarest_labels(prepared.table)
        prepared = replace(prepared, splits=few_of_each_split(prepared.splits, labels, limit, recipe.seed))
    prepared = tell_of_seen_images(recipe, prepared)
    write_json(folder / "audit.json", prepared.audit.to_json())
    write_text(folder / "recipe.yaml", to_yaml(recipe))
    _write_splits(folder, prepared)
    return run_job(recipe, prepared, folder, measure=measure)


def _resume(recipe: Recipe, data: str | Path, folder: Path, measure: Sequence[Split]) -> ModelFolder:
    from sightline.training.checkpoint import load_checkpoint
    from sightline.training.job import check_begun, check_images, check_job, measure_job, run_job

    if _has_ended(folder, measure):
        raise ModelError(f"The run in {str(folder)!r} has ended; there is nothing to resume.")
    check_begun(recipe, "The run was begun where it could and keeps its recipe: resume it there, or train anew.")
    check_job(recipe)
    prepared = prepare(data, recipe.data, recipe.seed, advice=PUT_BACK)
    last = folder / "checkpoints" / "last.pt"
    has_trained = last.exists() or (folder / "model.json").exists()
    if not has_trained:  # else these tell of more, such as images without labels
        check_images(_audited(folder) or prepared.fingerprint, prepared.fingerprint, recipe, prepared, folder)
    prepared = replace(prepared, splits=_stored_splits(folder, prepared))
    if (folder / "model.json").exists():
        return measure_job(recipe, prepared, folder, measure=_unmeasured(folder, measure))
    if not last.exists():  # killed before the first checkpoint: the run begins anew, and ends the same
        return run_job(recipe, prepared, folder, measure=measure)
    checkpoint = load_checkpoint(last)
    _check_same(from_yaml(checkpoint.recipe), recipe)
    return run_job(recipe, prepared, folder, checkpoint, measure=measure)


def _write_splits(folder: Path, prepared: Prepared) -> None:
    splits, table = prepared.splits, prepared.table
    contents = splits.contents(table, prepared.facts)
    digests = {prepared.facts[place].digest for place in splits.train.tolist()}
    write_json(folder / "splits.json", {**splits.to_json(table), "contents": contents, "digests": sorted(digests)})


def _audited(folder: Path) -> str | None:
    """The fingerprint of the images that a run began with; None where there is no audit."""
    try:
        return json.loads((folder / "audit.json").read_text(encoding="utf-8"))["fingerprint"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise SightlineError(f"{str(folder / 'audit.json')!r} can't be read: {error}.") from error


def _stored_splits(folder: Path, prepared: Prepared) -> Splits:
    try:
        value = json.loads((folder / "splits.json").read_text(encoding="utf-8"))
    except FileNotFoundError:  # killed before it was written: nothing was trained on it
        _write_splits(folder, prepared)
        return prepared.splits
    except (OSError, ValueError) as error:
        raise SightlineError(f"{str(folder / 'splits.json')!r} can't be read: {error}.") from error
    return Splits.from_json(value, prepared.table)


def _check_same(stored: Recipe, recipe: Recipe) -> None:
    """Raise RecipeError, by name, when another recipe is asked for than the run began with."""
    kept, asked = to_plain(stored), to_plain(recipe)
    for free in ("num_workers", "cache"):  # never changes a result
        asked["data"][free] = kept["data"][free]
    settled = ("fast", *CHOSEN_BY_AUTO) if recipe.train.fast == "auto" else ()
    for free in ("checkpoint_minutes", *settled):
        asked["train"][free] = kept["train"][free]
    other: list[str] = []
    for section, value in kept.items():
        if isinstance(value, dict):
            settings = [(f"{section}.{name}", value[name], asked[section][name]) for name in value]
        else:
            settings = [(section, value, asked[section])]
        other += [_other(*setting) for setting in settings if setting[1] != setting[2]]
    if other:
        raise RecipeError(
            f"The run was begun with {' and '.join(other)}. A resumed run keeps its recipe: "
            "leave --recipe and --set out, or train anew."
        )


def _other(name: str, before: object, now: object) -> str:
    """A setting as a run began with it, beside what was asked for."""
    words = [json.dumps(value) for value in (before, now)]
    return f"{name} {words[0]} (asked for: {words[1]})" if max(map(len, words)) <= 40 else f"another {name}"
