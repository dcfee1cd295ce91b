"""What would make a study's figures mean nothing: arms that are one recipe, and runs on other images."""

from collections.abc import Sequence
from pathlib import Path

from sightline.data.audit import fingerprint
from sightline.data.inspection import inspect
from sightline.data.scan import scan
from sightline.errors import RecipeError, SightlineError
from sightline.model_folder import ModelFolder
from sightline.tuning.jobs import Job


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
