"""What a study found: for each arm the mean, the spread, and the paired difference from the baseline."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite, sqrt
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from sightline.model_folder import ModelFolder
from sightline.recipe_text import to_plain
from sightline.studies import Arm, Study
from sightline.tuning.jobs import Job
from sightline.tuning.runs import plan

_NO_SPREAD = 1e-9
"""Of accuracies: what only rounding tells apart."""


@dataclass(frozen=True, kw_only=True)
class RunFigures:
    """One run that has ended."""

    seed: int
    val: float
    """The judged figure on the validation split, 0 to 1."""
    train: float
    """The same on the training images, without augmentation."""
    seconds: float
    """Of training, validation left out; of a linear probe, which has no epochs, all that its process took."""
    images_per_second: float
    memory: int
    """Bytes at the peak, beyond what the libraries held before."""
    curve: list[dict[str, float | None]]
    """The rows of metrics.csv; none of a linear probe."""
    gradients: list[dict[str, str | float | None]] = field(default_factory=list[dict[str, str | float | None]])
    """The rows of gradients.csv, where train.watch_gradients wrote it."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The arm minus the baseline, seed by seed, with the 95% interval of its mean."""

    mean: float
    low: float | None
    """None with fewer than two seeds in common, or where all differ by the same, as few images make them: then nothing
    can be said."""
    high: float | None

    @property
    def verdict(self) -> str:
        """In a word, what the interval says."""
        if self.low is None or self.high is None:
            return "too few runs"
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "not told apart"


@dataclass(frozen=True, kw_only=True)
class ArmFigures:
    """One arm."""

    arm: Arm
    runs: list[RunFigures]
    failures: list[str]
    difference: Difference | None
    """None for the baseline itself, and where no seed ended in both."""

    @property
    def mean(self) -> float | None:
        """Of the validation figure; None where no run has ended."""
        return mean(run.val for run in self.runs) if self.runs else None

    @property
    def deviation(self) -> float | None:
        """The standard deviation between seeds; None with fewer than two runs."""
        return stdev(run.val for run in self.runs) if len(self.runs) > 1 else None

    @property
    def gap(self) -> float | None:
        """Training figure minus validation figure: how far the arm over-fits."""
        return mean(run.train - run.val for run in self.runs) if self.runs else None

    @property
    def seconds(self) -> float | None:
        """Median seconds of training."""
        return median(run.seconds for run in self.runs) if self.runs else None

    @property
    def memory(self) -> float | None:
        """Median peak of memory in bytes, beyond the libraries'."""
        return median(run.memory for run in self.runs) if self.runs else None


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """What `study` returns and study.json holds."""

    question: str
    data: str
    figure: str
    """What is judged: accuracy, say."""
    factors: list[dict[str, Any]]
    seeds: list[int]
    recipe: dict[str, Any]
    side_by_side: int
    """Runs that trained at once: seconds are theirs."""
    arms: list[ArmFigures]

    def to_json(self) -> dict[str, Any]:
        """Plain values, the arms' summaries beside their runs."""
        plain = asdict(self)
        for value, arm in zip(plain["arms"], self.arms, strict=True):
            value["name"] = arm.arm.name
            for summary in ("mean", "deviation", "gap", "seconds", "memory"):
                value[summary] = getattr(arm, summary)
            if arm.difference is not None:
                value["difference"]["verdict"] = arm.difference.verdict
        return plain


def collect(study: Study, folder: Path, data: str, side_by_side: int) -> StudyResult:
    """Read what every run of the study left in its folder."""
    jobs = plan(study, folder)
    ended: dict[Arm, list[RunFigures]] = {arm: [] for arm in study.arms}
    failures: dict[Arm, list[str]] = {arm: [] for arm in study.arms}
    figure = "accuracy"
    for job in jobs:
        if job.failure is not None:
            failures[job.arm].append(f"seed {job.seed}: {job.failure}")
        if job.done:
            figure, run = _figures(job)
            ended[job.arm].append(run)
    baseline, *_ = study.arms
    return StudyResult(
        question=study.question,
        data=data,
        figure=figure,
        factors=[asdict(factor) for factor in study.factors],
        seeds=list(study.seeds),
        recipe=to_plain(study.recipe),
        side_by_side=side_by_side,
        arms=[
            ArmFigures(
                arm=arm,
                runs=ended[arm],
                failures=failures[arm],
                difference=None if arm == baseline else paired_difference(ended[arm], ended[baseline]),
            )
            for arm in study.arms
        ],
    )


def paired_difference(runs: Sequence[RunFigures], baseline: Sequence[RunFigures]) -> Difference | None:
    """The mean of the differences of runs with the same seed, and Student's t interval around it; None without any.

    Runs of one seed share the split and the order of images, so that their difference varies less than either.
    """
    by_seed = {run.seed: run.val for run in baseline}
    differences = [run.val - by_seed[run.seed] for run in runs if run.seed in by_seed]
    if not differences:
        return None
    middle = mean(differences)
    spread = stdev(differences) if len(differences) > 1 else 0.0
    if spread < _NO_SPREAD:
        return Difference(mean=middle, low=None, high=None)
    from scipy.stats import t

    half = float(t.ppf(0.975, len(differences) - 1)) * spread / sqrt(len(differences))
    return Difference(mean=middle, low=middle - half, high=middle + half)


def _figures(job: Job) -> tuple[str, RunFigures]:
    figures = ModelFolder.read(job.folder).spec.figures
    measured = json.loads(job.measured.read_text(encoding="utf-8"))
    curve = read_curve(job.folder / "metrics.csv")
    seconds = sum(row["seconds"] or 0.0 for row in curve) if curve else measured["seconds_of_the_last_part"]
    rates = [row["images_per_second"] for row in curve if row["images_per_second"]]
    name, val = judged(figures["val"])
    return name, RunFigures(
        seed=job.seed,
        val=val,
        train=judged(figures["train"])[1],
        seconds=seconds,
        images_per_second=median(rates) if rates else 0.0,
        memory=measured["memory_of_the_device"] or measured["memory"],
        curve=curve,
        gradients=_gradients(job.folder / "gradients.csv"),
    )


def judged(figures: Mapping[str, Any]) -> tuple[str, float]:
    """Accuracy; of a multi-label model its mean average precision."""
    name = "accuracy" if "accuracy" in figures else "mean_average_precision"
    return name, figures[name]["value"]


def _gradients(path: Path) -> list[dict[str, str | float | None]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [
            {name: value if name == "stage" else _finite(value) for name, value in row.items()}
            for row in csv.DictReader(file)
        ]


def read_curve(path: Path) -> list[dict[str, float | None]]:
    """The rows of metrics.csv; none where there is no such file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: _finite(value) for name, value in row.items()} for row in csv.DictReader(file)]


def _finite(text: str) -> float | None:
    """A figure of a CSV; None where there is none, or no number, as a validation loss can be where training's isn't."""
    value = float(text or "nan")
    return value if isfinite(value) else None
