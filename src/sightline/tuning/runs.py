"""The runs of a study: what is to be trained where, and that all of it can be."""

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path

from sightline.errors import RecipeError, SightlineError
from sightline.progress import track
from sightline.recipe import Recipe
from sightline.recipe_text import from_yaml
from sightline.studies import Arm, Study
from sightline.tuning.jobs import ELSEWHERE, Job
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
            folder=folder / "runs" / _folder_name(arm) / f"seed-{seed}",
        )
        for seed in study.seeds
        for arm in study.arms
    ]


def _folder_name(arm: Arm) -> str:
    """The arm's name, the same whichever arms stand beside it; a digest tells apart what a file's name can't say."""
    words = re.sub(r"[^\w.=-]+", "-", arm.name, flags=re.ASCII).strip("-.")[:80]
    if words == arm.name:
        return words
    digest = hashlib.sha256(repr(arm.labels).encode()).hexdigest()[:8]
    return f"{words}-{digest}".lstrip("-")


def check_jobs(jobs: Sequence[Job]) -> None:
    """Raise, before anything is trained, what is wrong with an arm on this machine or with the runs that exist."""
    from sightline.training.job import check_job

    problems: list[str] = []
    for job in jobs:
        stored = _stored(job)
        if stored is not None and not _is_same(stored, job.recipe):
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


def _stored(job: Job) -> Recipe | None:
    """The recipe that a run was begun with; None where it was not begun."""
    path = job.folder / "recipe.yaml"
    return from_yaml(path.read_text(encoding="utf-8")) if path.exists() else None


def _is_same(stored: Recipe, recipe: Recipe) -> bool:
    """Whether a run was begun with this recipe, but for what `resume` lets differ: it never changes a result."""
    data = replace(recipe.data, num_workers=stored.data.num_workers, cache=stored.data.cache)
    train = replace(recipe.train, checkpoint_minutes=stored.train.checkpoint_minutes)
    recipe = replace(recipe, data=data, train=train)
    return stored == (_computed_as(recipe, stored) if recipe.train.fast == "auto" else recipe)


def _computed_as(recipe: Recipe, other: Recipe) -> Recipe:
    """The recipe with what train.fast has settled in another one, and nothing else of it."""
    from sightline.training.fastest import Candidate

    names = ("fast", *(field.name for field in fields(Candidate)))
    return replace(recipe, train=replace(recipe.train, **{name: getattr(other.train, name) for name in names}))


def settled(jobs: Sequence[Job]) -> list[Job]:
    """The jobs with train.fast settled, before anything competes for the cores.

    Runs that exist stay as they were begun, and others of the same network follow them, whatever would be fastest
    here today; a network without a run is tried once for all seeds.
    """
    from sightline.training.fastest import resolved

    begun = {job: _stored(job) for job in jobs if job.recipe.train.fast == "auto" and not job.recipe.finetune.probe}
    known: dict[str, Recipe] = {}
    for stored in begun.values():
        if stored is not None:
            known.setdefault(_step_of(stored), stored)
    for job in begun:
        step = _step_of(job.recipe)
        if step not in known:
            known[step] = resolved(job.recipe)
    likes = {job: stored or known[_step_of(job.recipe)] for job, stored in begun.items()}
    return [replace(job, recipe=_computed_as(job.recipe, likes.get(job, job.recipe))) for job in jobs]


def _step_of(recipe: Recipe) -> str:
    """What a training step's time depends on: of equal ones the same way to compute is fastest."""
    from sightline.training.job import architecture

    network = asdict(architecture(recipe, num_classes=10))
    return repr((network, recipe.batch_size, recipe.optim.name, recipe.train.device))


def run_all(jobs: Sequence[Job], data: str | Path, *, side_by_side: int, threads: int | None) -> None:
    """Train what has not ended yet.

    Raises RecipeError where this machine can't compute as the first did, KeyboardInterrupt when the user stopped it.
    """
    from sightline.training.job import check_begun

    waiting = [job for job in jobs if not job.done]
    if len(waiting) < len(jobs):
        log.info(f"{len(jobs) - len(waiting)} of {len(jobs)} runs have ended before and are kept.")
    if not waiting:
        return
    for job in waiting:
        check_begun(job.recipe, ELSEWHERE)
    with sigterm_stops(), Pool(data, side_by_side=side_by_side, threads=threads) as pool:
        for job in track(pool.train(waiting), total=len(waiting), label="Training", unit="runs"):
            if job.failure is not None:
                log.info(f"{job.arm.name}, seed {job.seed} failed: {job.failure}")
