"""The runs of a study: what is to be trained where, and that all of it can be."""

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sightline.errors import RecipeError, SightlineError
from sightline.progress import track
from sightline.recipe import Recipe
from sightline.recipe_text import from_yaml
from sightline.studies import Arm, Study
from sightline.tuning.jobs import Job
from sightline.tuning.pool import Pool, sigterm_stops

log = logging.getLogger("sightline")


def plan(study: Study, folder: Path) -> list[Job]:
    """Every run, seed by seed, so that a study that is stopped has every arm equally often.

    Raises RecipeError for an arm that is no valid recipe.
    """
    return [
        Job(
            arm=arm,
            seed=seed,
            recipe=study.recipe_of(arm, seed),
            folder=folder / "runs" / _folder_name(number, arm) / f"seed-{seed}",
        )
        for seed in study.seeds
        for number, arm in enumerate(study.arms)
    ]


def _folder_name(number: int, arm: Arm) -> str:
    words = re.sub(r"[^\w.=-]+", "-", arm.name, flags=re.ASCII).strip("-.")
    return f"{number:02d}-{words[:80]}"


def check_jobs(jobs: Sequence[Job]) -> None:
    """Raise, before anything is trained, what is wrong with an arm on this machine or with the runs that exist."""
    from sightline.training.job import check_job

    problems: list[str] = []
    for job in jobs:
        stored = job.folder / "recipe.yaml"
        if stored.exists() and not _is_same(from_yaml(stored.read_text(encoding="utf-8")), job.recipe):
            raise SightlineError(
                f"{str(job.folder)!r} holds a run with another recipe than this study's. Choose another --out."
            )
        if job.seed != jobs[0].seed:
            continue
        try:
            check_job(job.recipe)
        except SightlineError as error:
            problems.append(f"The arm {job.arm.name!r} can't be trained: {error}")
    if problems:
        raise RecipeError(" ".join(problems))


def _is_same(stored: Recipe, recipe: Recipe) -> bool:
    """Whether a run was begun with this recipe, whose train.fast may have been settled since."""
    return stored == (replace(recipe, train=stored.train) if recipe.train.fast == "auto" else recipe)


def settled(jobs: Sequence[Job]) -> list[Job]:
    """The jobs with train.fast settled for each network, once for all seeds, before anything competes for the cores."""
    from sightline.training.fastest import resolved

    return [replace(job, recipe=resolved(job.recipe)) for job in jobs]


def run_all(jobs: Sequence[Job], data: str | Path, *, side_by_side: int, threads: int | None) -> None:
    """Train what has not ended yet. Raises KeyboardInterrupt when the user stopped it."""
    waiting = [job for job in jobs if not job.done]
    if len(waiting) < len(jobs):
        log.info(f"{len(jobs) - len(waiting)} of {len(jobs)} runs have ended before and are kept.")
    if not waiting:
        return
    with sigterm_stops(), Pool(data, side_by_side=side_by_side, threads=threads) as pool:
        for job in track(pool.train(waiting), total=len(waiting), label="Training", unit="runs"):
            if job.failure is not None:
                log.info(f"{job.arm.name}, seed {job.seed} failed: {job.failure}")
