"""The runs of a study: what is to be trained where, and the processes that train them.

Each run has a process of its own, forked from a server that has imported the training once: a failure, or memory
that ran out, ends that run alone, and the process's peak of memory is the run's.
"""

import json
import logging
import multiprocessing
import os
import re
import resource
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import connection
from pathlib import Path
from typing import Any

from sightline.data.table import Split
from sightline.errors import RecipeError, SightlineError
from sightline.files import write_json
from sightline.progress import track
from sightline.recipe import Recipe
from sightline.recipe_text import from_yaml
from sightline.studies import Arm, Study

log = logging.getLogger("sightline")

_KIBI = 1024
"""Linux counts a process's peak of memory in these many bytes."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run."""

    arm: Arm
    seed: int
    recipe: Recipe
    folder: Path

    @property
    def measured(self) -> Path:
        """What the run took; written when it has ended, beside its folder, which is a model folder."""
        return self.folder.with_suffix(".json")

    @property
    def failed(self) -> Path:
        """Why it could not be trained; it is tried again the next time."""
        return self.folder.with_suffix(".failed.json")

    @property
    def log(self) -> Path:
        """What it said."""
        return self.folder.with_suffix(".log")

    @property
    def done(self) -> bool:
        """Whether it has ended and was measured."""
        return self.measured.exists()

    @property
    def failure(self) -> str | None:
        """Why it could not be trained; None when it could, or was not tried."""
        return json.loads(self.failed.read_text(encoding="utf-8"))["reason"] if self.failed.exists() else None


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
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sightline.training.job"])
    each = threads or max(1, len(os.sched_getaffinity(0)) // side_by_side)
    with _sigterm_stops(), _Pool(context, str(data), each) as pool:
        for job in track(pool.train(waiting, side_by_side), total=len(waiting), label="Training", unit="runs"):
            if job.failure is not None:
                log.info(f"{job.arm.name}, seed {job.seed} failed: {job.failure}")


@contextmanager
def _sigterm_stops() -> Generator[None]:
    """Being asked to end is as good as Ctrl-C: the runs write their checkpoints first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


class _Pool:
    """The processes that are training. Leaving it asks them to stop, and waits for their checkpoints."""

    def __init__(self, context: Any, data: str, threads: int) -> None:
        self._context = context
        self._data = data
        self._threads = threads
        self._running: list[tuple[Job, Any]] = []
        self._lifelines: dict[Job, Any] = {}

    def __enter__(self) -> "_Pool":
        return self

    def __exit__(self, *_: object) -> None:
        for _job, process in self._running:
            process.terminate()
        for _job, process in self._running:
            process.join()

    def train(self, jobs: Sequence[Job], side_by_side: int) -> Iterator[Job]:
        """Train the jobs, so many at a time, and yield each as it ends. Raises KeyboardInterrupt when one stopped."""
        waiting = deque(jobs)
        while waiting or self._running:
            while waiting and len(self._running) < side_by_side:
                self._start(waiting.popleft())
            connection.wait([process.sentinel for _, process in self._running])
            for job, process in [pair for pair in self._running if not pair[1].is_alive()]:
                process.join()
                self._running.remove((job, process))
                self._lifelines.pop(job).close()
                _note_end(job, process.exitcode)
                yield job

    def _start(self, job: Job) -> None:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_train_one, args=(job, self._data, self._threads, theirs))
        process.start()
        theirs.close()
        self._running.append((job, process))
        self._lifelines[job] = ours


def _note_end(job: Job, exitcode: int) -> None:
    """Raise KeyboardInterrupt when the user stopped the run; record it when its process died without a word."""
    if exitcode == _STOPPED:
        raise KeyboardInterrupt
    if not job.done and job.failure is None:
        name = signal.Signals(-exitcode).name if exitcode < 0 else f"exit code {exitcode}"
        reason = f"Its process ended with {name}; see {job.log}. SIGKILL most often means no memory."
        write_json(job.failed, {"reason": reason})


_MEASURED: tuple[Split, ...] = ("val", "train")
"""Splits: the figure that is judged, and the training images for the gap. The test split is not looked at."""

_STOPPED = 130
"""What a run's process exits with when the user stopped it."""


def _train_one(job: Job, data: str, threads: int, lifeline: Any) -> None:
    """A run's process: train or go on, and leave what it took, or why it failed."""
    import torch

    threading.Thread(target=_end_with_the_study, args=(lifeline,), daemon=True).start()

    torch.set_num_threads(threads)
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    job.failed.unlink(missing_ok=True)
    _log_to(job.log)
    before = _peak_memory()
    started = time.monotonic()
    try:
        _train_or_resume(job.recipe, data, job.folder)
    except SightlineError as error:
        write_json(job.failed, {"reason": str(error)})
    except KeyboardInterrupt:
        os._exit(_STOPPED)
    else:
        figures = {
            "memory": _peak_memory() - before,
            "memory_of_the_device": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0,
            "seconds_of_the_last_part": time.monotonic() - started,
            "threads": threads,
        }
        write_json(job.measured, figures)


def _end_with_the_study(lifeline: Any) -> None:
    """Ask this process to stop once the study's own is gone, however it went: nothing should train unseen."""
    with suppress(EOFError, OSError):
        lifeline.recv()
    os.kill(os.getpid(), signal.SIGTERM)


def _train_or_resume(recipe: Recipe, data: str, folder: Path) -> None:
    from sightline.evaluation import evaluate
    from sightline.model_folder import ModelFolder
    from sightline.training import resume, train

    if not (folder / "model.json").exists():
        begun = (folder / "recipe.yaml").exists()
        run = resume if begun else train
        run(recipe=recipe, data=data, out=folder, measure=_MEASURED)
        return
    for split in _MEASURED:  # stopped after the training, before all was measured
        if split not in ModelFolder.read(folder).spec.figures:
            evaluate(folder, split=split, num_workers=0)


def _log_to(path: Path) -> None:
    """What the run says goes to its file: several at once would be a muddle on a terminal."""
    with path.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.setLevel(logging.INFO)
    log.handlers = [handler]
    log.propagate = False


def _peak_memory() -> int:
    """Bytes this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIBI
