"""Finding out what helps: studies of one or two settings, everything else held.

A study is a folder: one model folder for each run under `runs/`, and `study.json` with every figure. Runs are
trained by `sightline.training`, each in a process of its own, so that each has its own peak of memory.
"""

from pathlib import Path

from sightline.data.outside import check_outside
from sightline.errors import RecipeError
from sightline.files import claimed, write_json
from sightline.studies import Study
from sightline.tuning.checks import check_arms, check_data, check_place, tell_of_splits
from sightline.tuning.results import StudyResult, collect
from sightline.tuning.runs import check_jobs, plan, run_all, settled


def study(
    plan_of: Study, data: str | Path, *, out: str | Path, side_by_side: int = 1, threads: int | None = None
) -> StudyResult:
    """Train every arm of a study on `data` with every seed, and return what was found.

    `out` is the study's folder: runs that it holds already are kept, unfinished ones go on where they stopped, so the
    same call resumes a study, and one with more repeats, or with more values in any place, extends it. What
    train.fast settled for them holds for the study. `side_by_side` runs train at once, each with `threads` threads;
    left out, they share the machine's cores evenly.

    A run that fails (a loss that is no number, memory) is recorded and doesn't stop the others.
    Raises RecipeError before anything starts when an arm is no valid recipe or the same as another, SightlineError
    when the folder is a model's, or holds another study's runs or runs on other images, and KeyboardInterrupt when the
    user stopped it; the runs' checkpoints are written before.
    """
    if side_by_side < 1:
        raise RecipeError(f"--side-by-side must be at least 1, got {side_by_side}.")
    folder = Path(out)
    check_place(folder)
    check_outside(folder, data)
    jobs = plan(plan_of, folder)
    check_arms(jobs)
    check_jobs(jobs)
    check_data(jobs, data)
    tell_of_splits(jobs, data)
    jobs = settled(jobs)
    with claimed(folder):
        run_all(jobs, data, side_by_side=side_by_side, threads=threads)
        result = collect(plan_of, folder, str(data), side_by_side)
        write_json(folder / "study.json", result.to_json())
    return result
