"""The trials of a search in Optuna's storage, and the runs that belong to them."""

import fcntl
import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from math import inf
from pathlib import Path
from typing import Any, Literal, TextIO

from sightline import deps
from sightline.data.phrases import counted
from sightline.errors import RecipeError, SightlineError
from sightline.model_folder import ModelFolder
from sightline.recipe import Recipe
from sightline.recipe_text import override
from sightline.studies import Arm
from sightline.training.job import check_begun
from sightline.tuning.board import Standing
from sightline.tuning.costs import costs, told
from sightline.tuning.identity import begin, check_runs, settled
from sightline.tuning.importance import importance_of
from sightline.tuning.jobs import ELSEWHERE, Job
from sightline.tuning.meant import in_full
from sightline.tuning.proposing import learns_from_all, pruner_of, sampler_of
from sightline.tuning.results import judged, read_curve
from sightline.tuning.searches import Search, SearchResult, State, TrialFigures
from sightline.tuning.space import Dimension
from sightline.tuning.storage import Storage

log = logging.getLogger("sightline")


class Trials:
    """What several processes on one folder share."""

    def __init__(self, search: Search, folder: Path, data: str, *, known_by: dict[str, Any]) -> None:
        """`known_by` is the recipe as the user gave it, the space, the images: a folder's search is known by them."""
        self._optuna: Any = deps.require("optuna", extra="tune", purpose="Searching settings")
        self._optuna.logging.set_verbosity(self._optuna.logging.ERROR)
        self._search, self._folder, self._data = search, folder, data
        self._mine: dict[Job, tuple[Any, TextIO]] = {}
        self._reported: dict[Job, int] = {}
        self._pruned: set[Job] = set()
        self._costs: dict[str, float] = {}
        self.num_begun = 0
        """Trials of the search, as last seen."""
        self.best_value: float | None = None
        """Of the finished trials, as last seen."""
        self._storage = Storage(folder, search.storage)
        with self._storage.asking():
            self._study: Any = self._storage.study(self._optuna, pruner_of(self._optuna, search), self._directions())
            own = {dimension.setting: dimension.own(search.recipe) for dimension in search.space}
            begin(self._study, self._storage, known_by, first=own)
            check_runs(folder, self._storage, [trial.number for trial in self._begun()])
            self._search = replace(search, recipe=settled(self._study, search.recipe))

    @property
    def search(self) -> Search:
        """What is searched, with train.fast settled."""
        return self._search

    def next(self, *, may_begin: bool) -> Job | None:
        """A trial that nobody works on any more, or else a new one; None when there are as many as were asked for.

        A trial whose settings contradict each other is recorded as failed, and passed over.
        """
        with self._storage.asking():
            while (claimed := self._claimed(may_begin=may_begin)) is not None:
                trial, lock, num_reported = claimed
                if (job := self._take(trial, lock)) is not None:
                    self._reported[job] = num_reported
                    return job
        return None

    def _claimed(self, *, may_begin: bool) -> tuple[Any, TextIO, int] | None:
        """The next trial for this process, its lock, and how many epochs Optuna was told of."""
        known = self._begun()
        self.num_begun = len(known)
        values = [trial.values[0] for trial in known if _state(trial) == "complete"]
        self.best_value = max(values, default=None)
        for frozen in known:
            is_ours = frozen.state.name == "RUNNING" and self._began_here(frozen.number)
            if is_ours and (lock := self._claim(frozen.number)) is not None:
                trial = self._optuna.trial.Trial(self._study, frozen._trial_id)
                return trial, lock, len(frozen.intermediate_values)
        if len(known) >= self._search.trials or not may_begin:
            return None
        check_begun(self._search.recipe, ELSEWHERE)
        trial = self._study.ask()
        lock = self._claim(trial.number)
        if lock is None:
            raise SightlineError(f"Trial {trial.number} of {str(self._folder)!r} is locked by another process.")
        self.num_begun += 1
        return trial, lock, 0

    def standings(self) -> list[Standing]:
        """The trials that this process trains."""
        found: list[Standing] = []
        for job, (trial, _) in self._mine.items():
            curve = _curve(job)
            found.append(
                Standing(
                    number=trial.number,
                    settings=job.arm.settings,
                    epoch=len(curve),
                    epochs=job.recipe.epochs,
                    value=_value(curve[-1]) if curve else None,
                )
            )
        return found

    def report(self, job: Job) -> bool:
        """Tell Optuna of the epochs that a running trial has ended; whether it should be ended early."""
        if self._search.against is not None:  # Optuna takes no figures midway of a search with two aims
            return False
        trial, _ = self._mine[job]
        curve = _curve(job)
        is_over = len(curve) >= job.recipe.epochs  # all that is left is measured in a moment
        for row in curve[self._reported.get(job, 0) :]:
            self._reported[job] = self._reported.get(job, 0) + 1
            value = _value(row)
            if value is None or row["epoch"] is None:
                continue
            trial.report(value, int(row["epoch"]))
            # asked at every epoch: Optuna keeps the newest value for each rung that it was not asked at yet
            asks = self._search.prune and job not in self._pruned
            if asks and trial.should_prune() and not is_over:
                self._pruned.add(job)
                return True
        return False

    def end(self, job: Job) -> None:
        """Tell Optuna how a trial ended, and let go of it."""
        trial, lock = self._mine.pop(job)
        curve = _curve(job)
        trial.set_user_attr("epochs", len(curve))
        trial.set_user_attr("seconds", sum(row["seconds"] or 0.0 for row in curve))
        if job.done:
            try:
                words = self._tell(trial, job)
            except SightlineError as error:  # its cost could not be measured
                words = self._fail(trial, str(error))
        elif job in self._pruned:
            self._give_up(trial, "pruned")
            words = f"ended early after {counted(len(curve), 'epoch')}"
        else:
            words = self._fail(trial, job.failure or "its process ended without a word")
        lock.close()
        log.info(f"trial {trial.number:>3}  {words:<12}  {' '.join(job.arm.settings)}")

    def _tell(self, trial: Any, job: Job) -> str:
        """Tell Optuna what a finished trial reached, and return it in words."""
        spec = ModelFolder.read(job.folder).spec
        value = judged(spec.figures["val"])[1]
        if self._search.against is None:
            self._study.tell(trial, value)
            return f"{value:.2%}"
        network = repr((spec.architecture, spec.preprocess.image_size))
        if network not in self._costs:
            num_classes = len(spec.classes)
            [cost] = costs([job.recipe], self._search.against, num_classes=num_classes, engine=self._search.engine)
            self._costs[network] = cost
        self._study.tell(trial, [value, self._costs[network]])
        return f"{value:.2%}, {told(self._costs[network], self._search.against)}"

    def _fail(self, trial: Any, reason: str) -> str:
        trial.set_user_attr("reason", reason)
        self._give_up(trial, "failed")
        return f"failed: {reason}"

    def _give_up(self, trial: Any, ended: Literal["pruned", "failed"]) -> None:
        """Tell Optuna of a trial that has no end."""
        states = self._optuna.trial.TrialState
        if not learns_from_all(self._search):
            self._study.tell(trial, state=states.PRUNED if ended == "pruned" else states.FAIL)
            return
        trial.set_user_attr("ended", ended)
        reached = _last(self._study.get_trials(deepcopy=False)[trial.number].intermediate_values)
        self._study.tell(trial, (reached or 0.0) if ended == "pruned" else 0.0)

    def result(self) -> SearchResult:
        """What all trials of the folder have found."""
        begun = self._begun()
        figures = [
            TrialFigures(
                number=trial.number,
                state=_state(trial),
                settings=self._settings(trial.params),
                value=_reached(trial),
                cost=trial.values[1] if trial.values and len(trial.values) > 1 else None,
                epochs=trial.user_attrs.get("epochs", len(trial.intermediate_values)),
                seconds=trial.user_attrs.get("seconds", 0.0),
                reason=trial.user_attrs.get("reason", ""),
            )
            for trial in begun
        ]
        finished = [trial for trial in figures if trial.state == "complete"]
        ended = [trial for trial in begun if _state(trial) == "complete"]
        limit = inf if self._search.under is None else self._search.under
        within = [trial for trial in finished if (trial.cost or 0.0) <= limit]
        best = max(within, key=lambda trial: (trial.value or 0.0, -(trial.cost or 0.0)), default=None)
        return SearchResult(
            data=self._data,
            space=[asdict(dimension) | {"text": dimension.text} for dimension in self._search.space],
            trials=figures,
            best=best,
            importance=importance_of(self._optuna, ended, len(self._search.space)),
            against=self._search.against,
            under=self._search.under,
            front=() if self._search.against is None else tuple(each.number for each in self._study.best_trials),
            recipe_is_best=best is not None and self._is_the_recipe(override(self._search.recipe, best.settings)),
        )

    def _is_the_recipe(self, found: Recipe) -> bool:
        """Whether settings that were found are what the recipe said or left to null."""
        settings = [dimension.setting for dimension in self._search.space]
        return in_full(found, settings) == in_full(self._search.recipe, settings)

    def _begun(self) -> list[Any]:
        """Optuna's trials but for the one that waits to be the first."""
        return [trial for trial in self._study.get_trials(deepcopy=False) if trial.state.name != "WAITING"]

    def _take(self, trial: Any, lock: TextIO) -> Job | None:
        """The trial's run; None where its settings contradict each other, which is recorded."""
        self._study.sampler = sampler_of(self._optuna, self._search, trial.number)
        for dimension in self._search.space:
            _suggest(trial, dimension)
        try:
            job = self._job(trial.number, trial.params)
        except RecipeError as error:
            words = self._fail(trial, str(error))
            lock.close()
            log.info(f"trial {trial.number:>3}  {words}  {' '.join(self._settings(trial.params))}")
            return None
        self._mine[job] = (trial, lock)
        return job

    def _job(self, number: int, params: dict[str, Any]) -> Job:
        settings = self._settings(params)
        return Job(
            arm=Arm(labels=(f"trial {number}",), settings=settings),
            seed=self._search.recipe.seed,
            recipe=override(self._search.recipe, settings),
            folder=self._folder / "runs" / f"trial-{number:04d}",
            measure=("val",),
        )

    def _settings(self, params: dict[str, Any]) -> tuple[str, ...]:
        known = [dimension for dimension in self._search.space if dimension.setting in params]
        return tuple(f"{each.setting}={each.value_of(params[each.setting])}" for each in known)

    def _lock(self, number: int) -> Path:
        return self._folder / "runs" / f"trial-{number:04d}.lock"

    def _began_here(self, number: int) -> bool:
        """Whether a trial's run lies in this folder, and not on another machine that shares the storage alone."""
        return not self._storage.is_shared or self._lock(number).exists()

    def _claim(self, number: int) -> TextIO | None:
        """The lock of a trial, held until it is closed or this process ends; None where another process holds it."""
        if any(trial.number == number for trial, _ in self._mine.values()):
            return None  # opening the file again and closing it would let go of the lock
        file = self._lock(number).open("w")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return None
        return file

    def _directions(self) -> tuple[str, ...]:
        return ("maximize",) if self._search.against is None else ("maximize", "minimize")


def _suggest(trial: Any, dimension: Dimension) -> None:
    if dimension.ordered:
        trial.suggest_int(dimension.setting, 0, len(dimension.choices) - 1)
    elif dimension.choices:
        trial.suggest_categorical(dimension.setting, list(dimension.choices))
    elif dimension.whole:
        trial.suggest_int(dimension.setting, round(dimension.low), round(dimension.high), log=dimension.log)
    else:
        trial.suggest_float(dimension.setting, dimension.low, dimension.high, log=dimension.log)


def _curve(job: Job) -> Sequence[dict[str, float | None]]:
    try:
        return read_curve(job.folder / "metrics.csv")
    except (OSError, ValueError):  # not begun
        return []


def _value(row: dict[str, float | None]) -> float | None:
    """What an epoch is judged by: accuracy, or of a multi-label run the mean average precision."""
    return row.get("val_accuracy")


def _state(trial: Any) -> State:
    """How a trial stands; one that has no end may have been told as finished, see `_give_up`."""
    named: dict[str, State] = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
    state = named.get(trial.state.name, "running")
    return trial.user_attrs.get("ended", state) if state == "complete" else state


def _reached(trial: Any) -> float | None:
    """The judged figure of a trial where it stands."""
    if _state(trial) == "complete":
        return trial.values[0]
    return _last(trial.intermediate_values)


def _last(values: dict[int, float]) -> float | None:
    return values[max(values)] if values else None
