"""Judging: every model of a chain on the same images, with its size and its time on this machine."""

from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sightline.compressing.images import Images
from sightline.errors import SightlineError
from sightline.evaluation import evaluate_images, key_figures
from sightline.evaluation.intervals import Interval, wilson
from sightline.evaluation.paired import PairedTest, compare_paired
from sightline.exported_folder import ExportedFolder
from sightline.measuring import Rounds, in_turns
from sightline.measuring.job import Job
from sightline.measuring.process import Worker
from sightline.model_folder import ModelFolder, ModelSpec
from sightline.summary import num_macs, num_parameters

if TYPE_CHECKING:
    from sightline.data.table import Split
    from sightline.engines import Folder

ROUNDS = 5
TURN_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Row:
    """A model of the chain."""

    name: str
    path: str
    accuracy: Interval
    """Share of the test images whose class, or whole set of labels, is right."""
    num_images: int
    paired: PairedTest | None
    """From the first model's accuracy to this one's; None of the first."""
    size: int
    """Bytes of the weights, or of the exported files."""
    params: int
    macs: int
    engine: str
    """What the time was measured with."""
    precision: str
    """What that computed in, or what its weights are stored in."""
    seconds: float | None = None
    """The median for one image; None where it was not measured."""
    same_engine_seconds: float | None = None
    """The first model's, in float32 by this row's engine; None where that is torch, or could not be measured."""
    reason: str | None = None
    """Why not."""
    several_labels: bool = False
    """Whether an image may have several labels, of which all must be right."""


@dataclass(frozen=True)
class _Judged:
    """What doesn't change of a model, however often it is looked at."""

    right: NDArray[np.bool_]
    """(N,) of the test images."""
    figures: dict[str, Any]
    params: int
    macs: int


class Judge:
    """Takes the models of a table one by one; the first is what the others are compared with."""

    def __init__(self, images: Images, device: str) -> None:
        self.images = images
        self._device = device
        self._known: dict[str, _Judged] = {}
        self._rows: list[Row] = []

    def begin(self, folder: ModelFolder) -> None:
        """Another table, which starts with this model. One that was judged before is not judged again."""
        self._rows = []
        self.add("as it was", folder)

    def add(self, name: str, folder: "Folder", *, path: Path | None = None) -> dict[str, Any]:
        """Measure a model's accuracy and size; `path` is where it will lie. What model.json keeps of it is returned."""
        place = str(path or folder.path)
        if place not in self._known:
            self._known[place] = self._judged(folder)
        judged = self._known[place]
        row = Row(
            name=name,
            path=place,
            accuracy=wilson(int(judged.right.sum()), len(judged.right)),
            num_images=len(judged.right),
            paired=compare_paired(self._known[self._rows[0].path].right, judged.right) if self._rows else None,
            size=_size(folder),
            params=judged.params,
            macs=judged.macs,
            engine=folder.artefact.format if isinstance(folder, ExportedFolder) else "torch",
            precision=folder.artefact.precision if isinstance(folder, ExportedFolder) else "float32",
            several_labels=folder.spec.thresholds is not None,
        )
        self._rows.append(row)
        return judged.figures

    def _judged(self, folder: "Folder") -> _Judged:
        """An exported model has the parameters and multiply-accumulates of the one before it."""
        answered, figures = answers_right(folder, self.images, "test", self._device)
        if not isinstance(folder, ModelFolder):
            return _Judged(answered, figures, self._rows[-1].params, self._rows[-1].macs)
        network = folder.model()
        macs = num_macs(network, folder.spec.preprocess.image_size)
        return _Judged(answered, figures, num_parameters(network), macs)

    def newest(self) -> dict[str, Any]:
        """The last model's row as plain values."""
        return asdict(self._rows[-1])

    def rows(self) -> list[Row]:
        """Every model's row, with its time: all side by side, in turns, and the first by every other's engine."""
        jobs: dict[int | str, Job] = {number: _job(row) for number, row in enumerate(self._rows)}
        first = _job(self._rows[0])
        jobs |= {row.engine: replace(first, engine=row.engine) for row in self._rows if row.engine != "torch"}
        reasons: dict[int | str, str] = {}
        with ExitStack() as stack:
            workers: dict[int | str, Worker] = {}
            for key, job in jobs.items():
                worker = stack.enter_context(Worker(job))
                try:
                    worker.wait()
                    workers[key] = worker
                except SightlineError as error:
                    reasons[key] = str(error)
            measured: dict[int | str, Rounds] = {}
            for found in in_turns(workers, rounds=ROUNDS, seconds=TURN_SECONDS):
                measured = found
        reasons |= {key: rounds.failure for key, rounds in measured.items() if rounds.failure is not None}
        seconds = {key: rounds.median for key, rounds in measured.items() if rounds.failure is None}
        return [
            replace(
                row,
                seconds=seconds.get(number),
                same_engine_seconds=seconds.get(row.engine),
                reason=reasons.get(number),
            )
            for number, row in enumerate(self._rows)
        ]


def _job(row: Row) -> Job:
    return Job(path=row.path, engine=row.engine, precision=row.precision, batch_size=1)


def answers_right(
    folder: "Folder", images: Images, split: "Split", device: str
) -> tuple[NDArray[np.bool_], dict[str, Any]]:
    """(N,) whether the answer for each image of the split is right, and the figures that model.json keeps."""
    places = images.places(split)
    workers = images.recipe.data.num_workers
    device = "cpu" if isinstance(folder, ExportedFolder) else device
    evaluation, logits = evaluate_images(folder, images.table, places, device=device, num_workers=workers)
    truth = images.table.numbered(folder.spec.classes)[places]
    return right(folder.spec, logits.numpy(), truth), key_figures(evaluation)


def right(spec: ModelSpec, logits: NDArray[np.float32], truth: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(N,) whether the likeliest class, or the whole set of labels, is the true one."""
    if spec.thresholds is None:
        return logits.argmax(1) == truth
    given = spec.probabilities_of(logits) >= np.array(spec.thresholds.values)
    return (given == (truth > 0)).all(1)


def _size(folder: "Folder") -> int:
    names = list(folder.artefact.files) if isinstance(folder, ExportedFolder) else ["weights.safetensors"]
    return sum((folder.path / name).stat().st_size for name in names)
