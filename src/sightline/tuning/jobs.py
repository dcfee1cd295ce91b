"""One run of a study or a search: where it is kept, and the process that trains it."""

import json
import logging
import os
import resource
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.data.table import Split
from sightline.errors import SightlineError
from sightline.files import write_json
from sightline.recipe import Recipe
from sightline.studies import Arm

log = logging.getLogger("sightline")

ELSEWHERE = (
    "The others were computed so, where that could be done. Go on there, or begin anew with another --out and "
    "--set train.fast=off, which any machine follows."
)
"""What to do where this machine can't compute as a study's or a search's first one did."""

_KIBI = 1024
"""Linux counts a process's peak of memory in these many bytes."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run."""

    arm: Arm
    seed: int
    recipe: Recipe
    folder: Path
    measure: tuple[Split, ...] = ("val", "train")
    """Splits: the figure that is judged, and the training images for the gap. The test split is not looked at."""

    def __hash__(self) -> int:
        """By its folder, which no two runs share: a recipe may hold what has no hash, such as loss.class_weights."""
        return hash(self.folder)

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


STOPPED = 130
"""What a run's process exits with when the user stopped it."""


def train_one(job: Job, data: str, threads: int, lifeline: Any) -> None:
    """A run's process: train or go on, and leave what it took, or why it failed."""
    import torch

    signal.signal(signal.SIGINT, signal.default_int_handler)  # the server that this comes from ignores it
    threading.Thread(target=_end_with_the_study, args=(lifeline,), daemon=True).start()

    torch.set_num_threads(threads)
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    job.failed.unlink(missing_ok=True)
    _log_to(job.log)
    before = _peak_memory()
    started = time.monotonic()
    try:
        _train_or_resume(job, data)
    except SightlineError as error:
        write_json(job.failed, {"reason": str(error)})
    except KeyboardInterrupt:
        os._exit(STOPPED)
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


def _train_or_resume(job: Job, data: str) -> None:
    from sightline.model_folder import ModelFolder
    from sightline.training import resume, train

    folder = job.folder
    figures = ModelFolder.read(folder).spec.figures if (folder / "model.json").exists() else {}
    if not set(job.measure) <= figures.keys():
        run = resume if (folder / "recipe.yaml").exists() else train
        run(recipe=job.recipe, data=data, out=folder, measure=job.measure)


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
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else _KIBI)
