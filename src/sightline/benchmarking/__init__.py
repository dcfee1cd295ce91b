"""`sightline bench`: how fast, how large and how good, side by side.

Engines and precisions at one batch size and number of threads are timed in turns, each in a process of its own, so
that their ratios hold on a machine that is not quiet. What is timed is a network's call: pixels in, logits out.
"""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sightline.benchmarking.accuracy import stated
from sightline.benchmarking.figures import Accuracy, Bench, Latency, Ratio, Row, unbeaten
from sightline.benchmarking.plan import Entry, Plan, Subject, entries, subjects
from sightline.command_line import command_line
from sightline.devices import pick_device
from sightline.engines import find_engine
from sightline.errors import SightlineError, path_of
from sightline.measuring import Rounds, in_turns
from sightline.measuring.job import Job
from sightline.measuring.machine import machine
from sightline.measuring.process import Worker
from sightline.progress import track

if TYPE_CHECKING:
    from sightline.benchmarking.labelled import Labelled

__all__ = ["Bench", "Plan", "bench"]

log = logging.getLogger("sightline")


def bench(models: Sequence[str | Path], *, against: Sequence[str | Path] = (), plan: Plan | None = None) -> Bench:
    """Time model folders, exported ones, and ONNX files that others wrote; see Plan for what is varied.

    A combination that fails has its reason in its row. Raises ModelError, SightlineError and MissingPackageError for
    what can't be benched at all, DataError when the plan's images can't be read or have splits and none to test on.
    """
    plan = plan or Plan()
    if isinstance(models, str | Path) or not hasattr(models, "__iter__"):
        raise SightlineError("bench() takes a list of folders; put a single one in a list.")
    found = subjects([path_of(path, "A model folder") for path in models], [Path(path) for path in against])
    chosen, left_out = entries(found, plan)
    if plan.data is not None and all(entry.subject.folder is None for entry in chosen):
        raise SightlineError("--data measures model folders and exported ones. Name one, or leave it out.")
    if plan.device != "cpu":
        plan = replace(plan, device=pick_device(plan.device).type)
    with tempfile.TemporaryDirectory() as place:
        labelled = None if plan.data is None else _labelled(plan.data, plan.num_images, Path(place))
        run = _Run(plan, chosen, _image_size(found), labelled)
        run.prepare()
        for _ in track(run.steps(), total=run.num_steps, label="Benching", unit="steps"):
            pass
    return Bench(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command_line(),
        machine=machine(),
        plan=asdict(plan),
        baseline=str(chosen[0]),
        left_out=left_out,
        rows=run.rows,
    )


def _labelled(location: str, num_images: int, place: Path) -> "Labelled":
    from sightline.benchmarking.labelled import Labelled  # reading data takes packages that timing doesn't

    return Labelled(location, num_images, place)


def _image_size(found: Sequence[Subject]) -> int | None:
    """What a file that takes images of any size is given: the first model's size."""
    return next((one.folder.spec.preprocess.image_size for one in found if one.folder is not None), None)


class _Run:
    """The entries, group by group; `rows` grows as the groups end."""

    def __init__(self, plan: Plan, chosen: list[Entry], image_size: int | None, labelled: "Labelled | None") -> None:
        self.rows: list[Row] = []
        self._plan = plan
        self._chosen = chosen
        self._image_size = image_size
        self._labelled = labelled
        self._accuracies: dict[Entry, Accuracy | None] = {}
        self._unconvertible: dict[Entry, str] = {}

    @property
    def num_steps(self) -> int:
        """How many times `steps` yields at most: a start and the turns of each entry in each group."""
        groups = len(self._plan.all_threads) * len(self._plan.batch_sizes)
        return groups * len(self._chosen) * (self._plan.rounds + 2)

    def prepare(self) -> None:
        """Convert and decode what is needed, before anything is timed. Raises DataError."""
        for entry in self._chosen:
            subject = entry.subject
            if self._labelled is not None and subject.folder is not None:
                self._labelled.pixels(subject.folder)
            try:
                entry.size()  # converts
            except SightlineError as error:
                if subject.is_model_folder and find_engine(entry.engine).converts_to is None:
                    raise
                self._unconvertible[entry] = str(error)

    def steps(self) -> Iterator[None]:
        """Run everything; yields after each step."""
        for threads in self._plan.all_threads:
            for batch_size in self._plan.batch_sizes:
                with ExitStack() as stack:
                    yield from self._group(stack, threads, batch_size)

    def _group(self, stack: ExitStack, threads: int, batch_size: int) -> Iterator[None]:
        rows = {entry: self._blank(entry, threads, batch_size) for entry in self._chosen}
        workers: dict[Entry, Worker] = {}
        for entry in self._chosen:
            if rows[entry].failure is None:
                workers[entry] = stack.enter_context(Worker(self._job(entry, batch_size, threads)))
                try:
                    rows[entry] = replace(rows[entry], start_seconds=workers[entry].wait())
                except SightlineError as error:
                    rows[entry] = replace(rows[entry], failure=str(error))
                    workers.pop(entry).close()
            yield
        measured: dict[Entry, Rounds] = {}
        for found in in_turns(workers, rounds=self._plan.rounds, seconds=self._plan.seconds / self._plan.rounds):
            measured = found
            yield
        for entry in workers:
            rows[entry] = self._filled(rows[entry], measured[entry], measured.get(self._chosen[0]))
            rows[entry] = self._described(entry, rows[entry], workers[entry])
        best = unbeaten(list(rows.values()))
        self.rows += [replace(row, best=place in best) for place, row in enumerate(rows.values())]

    def _job(self, entry: Entry, batch_size: int, threads: int) -> Job:
        folder = entry.subject.folder
        pixels = None if folder is None or self._labelled is None else str(self._labelled.pixels(folder))
        chooses_itself = entry.engine == "executorch" and not self._plan.threads  # its runtime refuses a number
        return Job(
            path=str(entry.subject.path),
            engine=entry.engine,
            precision=entry.precision,
            threads=None if chooses_itself else threads,
            device=entry.device(self._plan),
            batch_size=batch_size,
            image_size=self._image_size,
            pixels=pixels,
        )

    def _blank(self, entry: Entry, threads: int, batch_size: int) -> Row:
        failure = self._unconvertible.get(entry)
        return Row(
            model=entry.subject.name,
            engine=entry.engine,
            precision=entry.precision,
            batch_size=batch_size,
            threads=threads,
            device=entry.device(self._plan),
            size=0 if failure else entry.size(),
            baseline=entry == self._chosen[0],
            failure=failure,
        )

    def _filled(self, row: Row, measured: Rounds, baseline: Rounds | None) -> Row:
        if measured.failure is not None:
            return replace(row, failure=measured.failure)
        calls = measured.calls
        return replace(
            row,
            latency=Latency.of(calls),
            images_per_second=row.batch_size * len(calls) / sum(calls),
            ratio=None if baseline is None else Ratio.of(baseline, measured),
        )

    def _described(self, entry: Entry, row: Row, worker: Worker) -> Row:
        """With memory, and the accuracy, which is measured once for all batch sizes and threads."""
        if row.failure is not None:
            return row
        try:
            memory, gpu_memory = worker.memory()
            if entry not in self._accuracies:
                self._accuracies[entry] = self._accuracy(entry, worker)
        except SightlineError as error:
            return replace(row, failure=str(error))
        return replace(row, memory=memory, gpu_memory=gpu_memory, accuracy=self._accuracies[entry])

    def _accuracy(self, entry: Entry, worker: Worker) -> Accuracy | None:
        folder = entry.subject.folder
        if folder is None:
            return None
        return stated(folder, entry.precision) if self._labelled is None else self._labelled.measure(folder, worker)
