"""What is wrong with a study before it begins: a model's own folder, arms that are one recipe, runs on other images."""

import logging
from collections.abc import Sequence
from pathlib import Path

from sightline.data.audit import fingerprint
from sightline.data.inspection import inspect
from sightline.data.scan import scan
from sightline.errors import RecipeError, SightlineError
from sightline.model_folder import ModelFolder
from sightline.tuning.jobs import Job

log = logging.getLogger("sightline")


def check_place(folder: Path) -> None:
    """Raise SightlineError where a run's own folder would take a study's or a search's files among its own."""
    if any((folder / name).exists() for name in ("model.json", "recipe.yaml")):
        raise SightlineError(f"{str(folder)!r} is the folder of a model or a run. Choose another --out.")


def check_arms(jobs: Sequence[Job]) -> None:
    """Raise RecipeError for an arm that sets the seed, which would be ignored, and for two arms that are the same."""
    first = [job for job in jobs if job.seed == jobs[0].seed]
    for place, job in enumerate(first):
        if any(setting.partition("=")[0].strip() == "seed" for setting in job.arm.settings):
            raise RecipeError(
                f"The arm {job.arm.name!r} sets seed, and every arm is trained with the study's own seeds. "
                "Pass --repeats for more of them, or --set seed=... for the first."
            )
        twin = next((other for other in first[:place] if other.recipe == job.recipe), None)
        if twin is not None:
            raise RecipeError(
                f"The arms {twin.arm.name!r} and {job.arm.name!r} are the same recipe, so that nothing could be told "
                "of them. Leave one out, or vary another setting."
            )


def check_data(jobs: Sequence[Job], data: str | Path) -> None:
    """Raise SightlineError when runs that have ended were trained on other images than `data` holds now."""
    ended = [job for job in jobs if (job.folder / "model.json").exists()]
    prints: dict[str | None, str] = {}
    for job in ended:
        separator = job.recipe.data.label_separator
        if separator not in prints:
            table = scan(data, label_separator=separator)
            prints[separator] = fingerprint(table, inspect(table))
        if ModelFolder.read(job.folder).spec.provenance.data["fingerprint"] != prints[separator]:
            raise SightlineError(
                f"{str(job.folder)!r} holds a run on other images than {str(data)!r} has now, which can't be "
                "compared. Choose another --out."
            )


def tell_of_splits(jobs: Sequence[Job], data: str | Path) -> None:
    """Say where what is chosen has seen images that a model trained later would be tested on."""
    seeds = {job.seed for job in jobs}
    if len(seeds) > 1 and "test" not in scan(data, label_separator=jobs[0].recipe.data.label_separator).splits:
        log.info(
            f"The data has no test split of its own: each of the {len(seeds)} seeds divides the images anew, so that "
            "what is chosen here has seen most of those that a later training tests on. To keep some apart, put them "
            "into test/."
        )
