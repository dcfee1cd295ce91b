"""Training: from a recipe and a folder of images to a model folder. Lightning is the engine."""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

from sightline.data.prepare import Prepared, prepare
from sightline.data.split import Splits
from sightline.errors import ModelError, RecipeError, SightlineError
from sightline.files import write_json, write_text
from sightline.model_folder import ModelFolder
from sightline.recipe import Recipe
from sightline.recipe_text import from_yaml, to_plain, to_yaml


def train(
    recipe: Recipe,
    data: str | Path,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    fast_dev_run: bool = False,
) -> ModelFolder:
    """Train a classifier on `data` and return its model folder, measured on the test split.

    `data` is a folder, an archive, a manifest, or the name of a set. `out` is the model folder to write,
    `runs/<data>` when left out. `resume` goes on with the unfinished run there, to the very weights that
    it would have reached. `fast_dev_run` tries the whole way on two batches of each split and keeps nothing.

    Raises DataError, RecipeError, ModelError, or another SightlineError that says what to mend, and
    KeyboardInterrupt when the user stopped the run; a checkpoint is written before.
    """
    if fast_dev_run:
        short = replace(recipe, epochs=1, optim=replace(recipe.optim, warmup_epochs=0))
        with tempfile.TemporaryDirectory() as folder:
            return _start(short, data, Path(folder), limit=2 * recipe.batch_size)
    folder = run_folder(data) if out is None else Path(out)
    if resume:
        return _resume(recipe, data, folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ModelError(
            f"{str(folder)!r} exists already. Choose another --out, or go on with an unfinished run by --resume."
        )
    return _start(recipe, data, folder)


def run_folder(data: str | Path) -> Path:
    """`runs/<data>`: where a run on this data goes when the user names no folder."""
    name = Path(data).name
    for suffix in (".zip", ".tar", ".tar.gz", ".tgz", ".csv", ".parquet"):
        name = name.removesuffix(suffix)
    return Path("runs") / (name or Path(data).resolve().name or "data")


def _start(recipe: Recipe, data: str | Path, folder: Path, *, limit: int | None = None) -> ModelFolder:
    from sightline.training.job import check_job, run_job

    check_job(recipe)
    prepared = prepare(data, recipe.data, recipe.seed, audit_path=folder / "audit.json")
    if limit is not None:
        prepared = replace(prepared, splits=prepared.splits.first(limit))
    write_text(folder / "recipe.yaml", to_yaml(recipe))
    write_json(folder / "splits.json", prepared.splits.to_json(prepared.table))
    return run_job(recipe, prepared, folder)


def _resume(recipe: Recipe, data: str | Path, folder: Path) -> ModelFolder:
    from sightline.training.checkpoint import load_checkpoint
    from sightline.training.job import check_job, run_job

    if (folder / "model.json").exists():
        raise ModelError(f"The run in {str(folder)!r} has ended; there is nothing to resume.")
    stored = _stored_recipe(folder)
    _check_same(stored, recipe)
    check_job(recipe)
    prepared = prepare(data, recipe.data, recipe.seed, audit_path=folder / "audit.json")
    prepared = replace(prepared, splits=_stored_splits(folder, prepared))
    last = folder / "checkpoints" / "last.pt"
    if not last.exists():  # killed before the first checkpoint: the run begins anew, and ends the same
        return run_job(recipe, prepared, folder)
    checkpoint = load_checkpoint(last)
    if checkpoint.data_fingerprint != prepared.fingerprint:
        raise ModelError(
            f"The images in {str(data)!r} are not those the run in {str(folder)!r} began with: "
            "files were added, removed or changed. Put them back, or train anew."
        )
    return run_job(recipe, prepared, folder, checkpoint)


def _stored_recipe(folder: Path) -> Recipe:
    try:
        return from_yaml((folder / "recipe.yaml").read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"There is nothing to resume in {str(folder)!r}: {error.strerror}.") from error


def _stored_splits(folder: Path, prepared: Prepared) -> Splits:
    try:
        value = json.loads((folder / "splits.json").read_text(encoding="utf-8"))
    except FileNotFoundError:  # killed before it was written: nothing was trained on it
        write_json(folder / "splits.json", prepared.splits.to_json(prepared.table))
        return prepared.splits
    except (OSError, ValueError) as error:
        raise SightlineError(f"{str(folder / 'splits.json')!r} can't be read: {error}.") from error
    return Splits.from_json(value, prepared.table)


def _check_same(stored: Recipe, recipe: Recipe) -> None:
    """Raise RecipeError, by name, when another recipe is asked for than the run began with."""
    kept, asked = to_plain(stored), to_plain(recipe)
    for free in ("num_workers",):  # never changes a result
        asked["data"][free] = kept["data"][free]
    asked["train"]["checkpoint_minutes"] = kept["train"]["checkpoint_minutes"]
    for section, value in kept.items():
        if asked[section] == value:
            continue
        names = [name for name in value if asked[section][name] != value[name]] if isinstance(value, dict) else []
        name = f"{section}.{names[0]}" if names else section
        raise RecipeError(
            f"The run was begun with another {name}. A resumed run keeps its recipe: "
            "leave --recipe and --set out, or train anew."
        )
