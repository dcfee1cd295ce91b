"""What a bench found: a row for each combination, and which of them nothing beats."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from sightline.measuring import Rounds

MIN_CALLS = {"p95": 20, "p99": 100}
"""With fewer calls such a percentile is the slowest call, and isn't given."""


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Seconds of a call, from pixels to logits."""

    calls: int
    p50_seconds: float
    p95_seconds: float | None
    p99_seconds: float | None

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Latency":
        """From each call's."""
        found = {
            name: float(np.percentile(seconds, int(name[1:]))) if len(seconds) >= least else None
            for name, least in MIN_CALLS.items()
        }
        return cls(
            calls=len(seconds),
            p50_seconds=median(seconds),
            p95_seconds=found["p95"],
            p99_seconds=found["p99"],
        )


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """How many times as fast as the baseline, of medians in the same round: the middle, the least and the most."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, baseline: Rounds, measured: Rounds) -> "Ratio | None":
        """None where either has no rounds."""
        pairs = zip(baseline.rounds, measured.rounds, strict=False)
        ratios = [median(theirs) / median(ours) for theirs, ours in pairs]
        return cls(value=median(ratios), low=min(ratios), high=max(ratios)) if ratios else None


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """The share of right answers with its 95% interval, 0 to 1."""

    value: float
    low: float
    high: float
    said: str
    """On which images, in words; the same words for the same images."""
    num_seen: int = 0
    """How many of them the model was trained on."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A model, an engine and a precision at a batch size and a number of threads."""

    model: str
    engine: str
    precision: str
    batch_size: int
    threads: int
    device: str
    size: int
    """Bytes on the disk of the files that the engine reads."""
    failure: str | None = None
    """Why there are no figures."""
    latency: Latency | None = None
    images_per_second: float | None = None
    ratio: Ratio | None = None
    start_seconds: float | None = None
    """From starting a process to its first answer."""
    memory: int | None = None
    """Bytes that process has held at most; None where the system doesn't say."""
    gpu_memory: int = 0
    accuracy: Accuracy | None = None
    baseline: bool = False
    """Whether the ratios are to it."""
    best: bool = False
    """Whether no other row of its batch size and threads is better in one thing without being worse in the other."""

    @property
    def label(self) -> str:
        """The engine, with its precision where that isn't float32."""
        return self.engine if self.precision == "float32" else f"{self.engine} {self.precision}"


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Everything that was found."""

    created: str
    """UTC, ISO 8601."""
    command: str
    machine: dict[str, Any]
    plan: dict[str, Any]
    baseline: str
    """What the ratios are to."""
    left_out: list[str]
    rows: list[Row]

    @property
    def failures(self) -> list[Row]:
        """Rows without figures."""
        return [row for row in self.rows if row.failure is not None]

    def groups(self) -> list[list[Row]]:
        """The rows that can be compared: the same batch size, on as many threads."""
        keys = dict.fromkeys((row.threads, row.batch_size) for row in self.rows)
        return [[row for row in self.rows if (row.threads, row.batch_size) == key] for key in keys]

    def sentences(self) -> list[str]:
        """The fastest of each group, in words."""
        return [_fastest(group, self.baseline) for group in self.groups()]

    def measured_on(self) -> list[str]:
        """Which images accuracy was measured on, and what flatters it, in words."""
        known = {row.model: row.accuracy for row in self.rows if row.accuracy is not None}
        places = dict.fromkeys(accuracy.said for accuracy in known.values())
        sentences = [f"Accuracy, with its 95% interval, is on {said}." for said in places]
        if len(places) > 1:
            named = {said: [name for name in known if known[name].said == said] for said in places}
            sentences = [f"Accuracy of {', '.join(names)} is on {said}." for said, names in named.items()]
            sentences.append("Accuracy on different images is not compared.")
        return sentences + [
            f"{accuracy.num_seen:,} of these images are ones that {name} was trained on: its accuracy flatters it."
            for name, accuracy in known.items()
            if accuracy.num_seen
        ]


def compares_accuracy(rows: Sequence[Row]) -> bool:
    """Whether accuracy is known of all rows that have figures, on the same images, and isn't the same."""
    found = [row.accuracy for row in rows if row.latency is not None]
    known = [accuracy for accuracy in found if accuracy is not None]
    if len(known) < len(found) or len({accuracy.said for accuracy in known}) > 1:
        return False
    return len({accuracy.value for accuracy in known}) > 1


def quality_of(rows: Sequence[Row]) -> Callable[[Row], float] | None:
    """What is weighed against latency, more being better: accuracy, else a small size; None where neither differs."""
    if compares_accuracy(rows):
        return lambda row: row.accuracy.value if row.accuracy is not None else 0.0
    sizes = {row: rounded_size(row) for row in rows if row.latency is not None}
    return (lambda row: -sizes[row]) if len(set(sizes.values())) > 1 else None


def rounded_size(row: Row) -> float:
    """Bytes on the disk, to two digits: what a format adds to the same weights is no difference."""
    return float(f"{row.size:.2g}")


def unbeaten(rows: Sequence[Row]) -> set[int]:
    """Places of the rows that no other beats: Pareto's front of latency and quality."""
    quality = quality_of(rows)
    points = [
        (place, row.latency.p50_seconds, 0.0 if quality is None else quality(row))
        for place, row in enumerate(rows)
        if row.latency is not None
    ]
    return {
        place
        for place, seconds, good in points
        if not any(
            other <= seconds and theirs >= good and (other < seconds or theirs > good) for _, other, theirs in points
        )
    }


def where(rows: Sequence[Row]) -> str:
    """What a group has in common, in words."""
    row = rows[0]
    return f"Batch {row.batch_size}, {row.threads} thread{'' if row.threads == 1 else 's'}"


def _fastest(rows: Sequence[Row], baseline: str) -> str:
    ended = [(row.latency.p50_seconds, row) for row in rows if row.latency is not None]
    if not ended:
        return f"{where(rows)}: nothing could be measured."
    seconds, best = min(ended, key=lambda pair: pair[0])
    several = len({row.model for row in rows}) > 1
    name = f"{best.model}, {best.label}," if several else best.label
    said = f"{where(rows)}: {name} is the fastest, with {seconds * 1e3:.3g} ms"
    if best.ratio is None or best.baseline:
        return f"{said}."
    ratio = best.ratio
    return f"{said}: {ratio.value:.2f} times as fast as {baseline} ({ratio.low:.2f} to {ratio.high:.2f})."
