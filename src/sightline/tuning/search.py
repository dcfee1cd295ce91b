"""Searching settings: Optuna proposes them, each trial is a training in a process of its own, the journal is SQLite.

A search is a folder: `trials.db` is Optuna's storage, `runs/trial-0007` a model folder for each trial. Several commands
may work on one folder: each asks for its trials one at a time, under a lock, so that none is run twice. A trial whose
process was killed goes on where its last checkpoint is, whoever finds it.
"""

import logging
import time
from dataclasses import replace
from pathlib import Path

from sightline.data.outside import check_outside
from sightline.data.phrases import counted
from sightline.data.prepare import prepare
from sightline.errors import RecipeError, SightlineError
from sightline.files import write_json, write_text
from sightline.recipe_text import override, to_yaml
from sightline.studies import Factor, Level, Study
from sightline.tuning.board import Board
from sightline.tuning.checks import check_place
from sightline.tuning.jobs import Job
from sightline.tuning.pool import Pool, sigterm_stops
from sightline.tuning.results import StudyResult
from sightline.tuning.searches import Search, SearchResult, TrialFigures
from sightline.tuning.space import check_space
from sightline.tuning.trials import Trials

log = logging.getLogger("sightline")

_POLL_SECONDS = 1.0
"""How often a running trial's figures are looked at."""


def tune(search: Search, data: str | Path, *, out: str | Path, side_by_side: int = 1, confirm: int = 3) -> SearchResult:
    """Search on the training and validation images of `data`, and return what was found; the test split is not seen.

    `out` is the search's folder; the same call goes on with one that was stopped, one with more trials extends it,
    and several at once share it. The best settings are then trained `confirm` times more beside the recipe as it was,
    with fresh seeds, because the best of many trials flatters; 0 leaves that out. `best.yaml` is the recipe.

    A trial that fails (memory, a loss that is no number) is recorded, and the search goes on.
    Raises RecipeError for a space that can't be trained, SightlineError when the folder is a model's or holds another
    search, and KeyboardInterrupt when the user stopped it; the runs' checkpoints are written before.
    """
    if side_by_side < 1:
        raise RecipeError(f"--workers must be at least 1, got {side_by_side}.")
    if confirm < 0:
        raise RecipeError(f"--confirm must be 0 or more, got {confirm}.")
    folder = Path(out)
    if "?" in str(folder.absolute()):  # where an SQLite address ends: the journal would lie elsewhere
        raise SightlineError(f"A search can't be kept in {str(folder)!r}: leave the question mark out of its name.")
    check_place(folder)
    check_outside(folder, data)
    check_space(search.space, search.recipe)
    known_by = {
        "recipe": to_yaml(search.recipe),
        "space": [dimension.text + " in order" * dimension.ordered for dimension in search.space],
        "images": prepare(data, search.recipe.data, search.recipe.seed).fingerprint,
        "second aim": search.against,
        "engine": search.engine if search.against == "latency" else None,
    }
    try:
        (folder / "runs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SightlineError(f"Could not write {str(folder)!r}: {error.strerror or error}.") from error
    trials = Trials(search, folder, str(data), known_by=known_by)
    search = trials.search
    with sigterm_stops(), Pool(data, side_by_side=side_by_side) as pool:
        _run(search, trials, pool)
    result = trials.result()
    write_json(folder / "tune.json", result.to_json())
    if result.best is not None:
        write_text(folder / "best.yaml", to_yaml(override(search.recipe, result.best.settings)))
        if confirm and _can_be_confirmed(search, result):
            result = replace(result, confirmed=_confirmed(search, result.best, folder, data, side_by_side, confirm))
            write_json(folder / "tune.json", result.to_json())
    return result


def _can_be_confirmed(search: Search, result: SearchResult) -> bool:
    """Whether there is another recipe to set beside the given one, and no better one may come; says why not."""
    if result.recipe_is_best:
        log.info("No trial beat the recipe's own values, so there is nothing to train beside them with fresh seeds.")
        return False
    running = sum(trial.state == "running" for trial in result.trials)
    if running and search.storage is None:
        log.info("Another process is still at some trials; the same call confirms the best when they have ended.")
        return False
    if running:  # nobody can tell a machine that is at work from one that is gone
        log.info(f"Of {counted(running, 'trial')} that other machines began nothing has come yet: confirmed without.")
    return True


def _run(search: Search, trials: Trials, pool: Pool) -> None:
    """Keep the pool full until there is nothing left to begin, and all that was begun has ended."""
    began = time.monotonic()
    with Board() as board:
        _fill(search, trials, pool, board, began)


def _fill(search: Search, trials: Trials, pool: Pool, board: Board, began: float) -> None:
    """Begin trials and end them; a latency is measured while none trains, so that it is the network's alone."""
    ended: list[Job] = []
    while True:
        in_time = search.hours is None or time.monotonic() - began < search.hours * 3600
        while pool.has_room and not ended and (job := trials.next(may_begin=in_time)) is not None:
            pool.start(job)
        if not pool.running:
            return
        ended += pool.ended(_POLL_SECONDS)
        for job in pool.running:
            if trials.report(job):
                pool.stop(job)
        if search.against != "latency" or not pool.running:
            for job in ended:
                trials.end(job)
                board.ended()
            ended = []
        board.show(trials.standings(), begun=trials.num_begun, trials=search.trials, best=trials.best_value)


def _confirmed(
    search: Search, best: TrialFigures, folder: Path, data: str | Path, side_by_side: int, repeats: int
) -> StudyResult:
    """The best settings beside the recipe as it was, with seeds that no trial saw."""
    from sightline.tuning import study

    levels = (Level(label="the recipe", settings=()), Level(label=f"trial {best.number}", settings=best.settings))
    fresh = Study(
        question="Does the best trial hold up with fresh seeds?",
        recipe=replace(search.recipe, seed=search.recipe.seed + 1),
        factors=(Factor(name="settings", levels=levels),),
        repeats=repeats,
    )
    return study(fresh, data, out=folder / "confirm", side_by_side=side_by_side)
