"""The processes of a study or a search: so many runs at once, each in a process of its own.

They are forked from a server that has imported the training once: a failure, or memory that ran out, ends that run
alone, and the process's peak of memory is the run's.
"""

import logging
import multiprocessing
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from multiprocessing import connection, forkserver
from pathlib import Path
from typing import Any

from sightline.devices import cores
from sightline.files import write_json
from sightline.tuning.jobs import STOPPED, Job, train_one

log = logging.getLogger("sightline")


@contextmanager
def _handled(number: signal.Signals, handler: Any) -> Generator[None]:
    """A signal's handler for as long as the block runs; only the main thread may set one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, previous)


def sigterm_stops() -> AbstractContextManager[None]:
    """Being asked to end is as good as Ctrl-C: the runs write their checkpoints first."""
    return _handled(signal.SIGTERM, signal.default_int_handler)


class Pool:
    """The processes that are training. Leaving it asks them to stop, and waits for their checkpoints."""

    def __init__(self, data: str | Path, *, side_by_side: int, threads: int | None = None) -> None:
        """`side_by_side` runs at once, each with `threads` threads; left out, they share the machine's cores evenly."""
        self._context: Any = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["sightline.training.job"])
        with _handled(signal.SIGINT, signal.SIG_IGN):  # the server that runs come from inherits it; it ends when we do
            forkserver.ensure_running()
        self._data = str(data)
        self._side_by_side = side_by_side
        self._threads = threads or max(1, cores() // side_by_side)
        self._running: dict[Job, Any] = {}
        self._lifelines: dict[Job, Any] = {}
        self._stopping: set[Job] = set()

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is KeyboardInterrupt:
            log.info("Stopping: the runs write their checkpoints. The same call goes on with them.")
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            process.join()

    @property
    def has_room(self) -> bool:
        """Whether another run may start."""
        return len(self._running) < self._side_by_side

    @property
    def running(self) -> tuple[Job, ...]:
        """The runs that are training."""
        return tuple(self._running)

    def start(self, job: Job) -> None:
        """Train it, or go on with it, in a process of its own."""
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=train_one, args=(job, self._data, self._threads, theirs))
        process.start()
        theirs.close()
        self._running[job] = process
        self._lifelines[job] = ours

    def stop(self, job: Job) -> None:
        """Ask a run to end with its checkpoint; `ended` tells when it has."""
        self._stopping.add(job)
        self._running[job].terminate()

    def ended(self, seconds: float | None = None) -> list[Job]:
        """Wait for a run to end, so many seconds at most, and return those that have.

        Raises KeyboardInterrupt when the user stopped one.
        """
        connection.wait([process.sentinel for process in self._running.values()], seconds)
        over = [job for job, process in self._running.items() if not process.is_alive()]
        for job in over:
            process = self._running.pop(job)
            process.join()
            self._lifelines.pop(job).close()
            if job in self._stopping:
                self._stopping.remove(job)
            else:
                _note_end(job, process.exitcode)
        return over

    def train(self, jobs: Sequence[Job]) -> Iterator[Job]:
        """Train all the jobs, and yield each as it ends. Raises KeyboardInterrupt when the user stopped one."""
        waiting = deque(jobs)
        while waiting or self._running:
            while waiting and self.has_room:
                self.start(waiting.popleft())
            yield from self.ended()


def _note_end(job: Job, exitcode: int) -> None:
    """Raise KeyboardInterrupt when the user stopped the run; record it when its process died without a word."""
    if exitcode == STOPPED:
        raise KeyboardInterrupt
    if not job.done and job.failure is None:
        name = signal.Signals(-exitcode).name if exitcode < 0 else f"exit code {exitcode}"
        reason = f"Its process ended with {name}; see {job.log}. SIGKILL most often means no memory."
        write_json(job.failed, {"reason": reason})
