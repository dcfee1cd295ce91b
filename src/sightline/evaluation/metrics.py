"""Logits to an Evaluation: every figure of a classifier on a set of images, as plain values."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from sightline.errors import ModelError
from sightline.evaluation.calibration import ReliabilityBin, calibration_error, reliability
from sightline.evaluation.intervals import Interval, wilson
from sightline.evaluation.scores import Logits, Scores, Targets, score

TOP = 5
"""The k of top-k accuracy, given where there are more classes than that."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassFigures:
    """One class. A class without images here has no precision, recall and F1: they are None."""

    name: str
    support: int
    """Images of this class."""
    num_predicted: int
    """Images taken for this class."""
    precision: float | None
    """Share of the images taken for this class that belong to it; 0 when none was."""
    recall: Interval | None
    """Share of this class's images that were recognised."""
    f1: float | None
    """Harmonic mean of precision and recall."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Averages:
    """Precision, recall and F1 over the classes that have images."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbabilityFigures:
    """How good the probabilities are, at one temperature."""

    temperature: float
    log_loss: float
    """Mean over the images, in nats."""
    brier: float
    """Mean over the images, 0 to 2: squared errors summed over the classes."""
    calibration_error: float
    """Expected calibration error over `bins`, 0 to 1."""
    bins: tuple[ReliabilityBin, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Mistake:
    """One wrong prediction."""

    sample: int
    """The image's row among those evaluated."""
    path: str | None
    target: str
    """The true class."""
    predicted: str
    confidence: float
    """Probability of the predicted class, at the evaluation's temperature."""
    target_probability: float
    """Probability of the true class."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfusedPair:
    """Images of one class that were taken for another."""

    target: str
    predicted: str
    count: int
    share: float
    """Of the images of the class `target`, 0 to 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """A classifier on a set of images. Equal inputs give equal values, and JSON keeps all of them."""

    num_images: int
    accuracy: Interval
    top5: Interval | None
    """Share whose true class is among the five likeliest; None for five classes or fewer."""
    macro: Averages
    """Every class counts the same; its recall is also called balanced accuracy."""
    weighted: Averages
    """Every image counts the same."""
    classes: tuple[ClassFigures, ...]
    """In the order of the class numbers."""
    confusion: dict[str, dict[str, int]]
    """True class, then predicted class, then images; zeros are left out."""
    calibrated: ProbabilityFigures
    """At the classifier's temperature."""
    uncalibrated: ProbabilityFigures
    """At temperature 1."""
    mistakes: tuple[Mistake, ...]
    """The most confident wrong predictions, the worst first."""

    @property
    def confusion_matrix(self) -> NDArray[np.int64]:
        """(K, K) images: a row for each true class, a column for each predicted one."""
        number = {figures.name: index for index, figures in enumerate(self.classes)}
        matrix = np.zeros((len(number), len(number)), dtype=np.int64)
        for target, row in self.confusion.items():
            for predicted, count in row.items():
                matrix[number[target], number[predicted]] = count
        return matrix

    @property
    def absent(self) -> tuple[str, ...]:
        """Classes without images here."""
        return tuple(figures.name for figures in self.classes if figures.support == 0)

    def confused_pairs(self, limit: int = 10) -> list[ConfusedPair]:
        """The most frequent confusions, by images, at most `limit` of them."""
        support = {figures.name: figures.support for figures in self.classes}
        pairs = [
            ConfusedPair(target=target, predicted=predicted, count=count, share=count / support[target])
            for target, row in self.confusion.items()
            for predicted, count in row.items()
            if target != predicted
        ]
        return sorted(pairs, key=lambda pair: (-pair.count, -pair.share))[:limit]

    def to_json(self) -> dict[str, Any]:
        """Plain values: dicts, lists, strings, finite numbers and None."""
        return _adapter().dump_python(self, mode="json")

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read what `to_json` gave. Raises ModelError when it is something else."""
        try:
            return _adapter().validate_python(value)  # pyright: ignore[reportReturnType]
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the whole"
            raise ModelError(f"These are not an evaluation's figures: {place}: {first['msg']}.") from error


def evaluate_logits(
    logits: Logits,
    targets: Targets,
    classes: Sequence[str],
    *,
    temperature: float = 1.0,
    paths: Sequence[str] | None = None,
    num_mistakes: int = 24,
) -> Evaluation:
    """Every figure for logits (N, K) and targets (N,), where class number k is `classes[k]`.

    `paths` names the N images in the list of mistakes. Classes without images are allowed.

    Raises DataError when there are no images, ModelError when a logit is infinite or no number, and
    ValueError when the sizes don't fit together.
    """
    if len(classes) != logits.shape[1] or len(set(classes)) != len(classes):
        raise ValueError(f"Expected {logits.shape[1]} different class names, got {len(classes)}.")
    if paths is not None and len(paths) != len(targets):
        raise ValueError(f"Expected {len(targets)} paths, got {len(paths)}.")
    scores = score(logits, targets, temperature=temperature)
    uncalibrated = score(logits, targets)
    matrix = count_confusion(targets, scores.predicted, num_classes=len(classes))
    figures = _class_figures(matrix, classes)
    return Evaluation(
        num_images=len(targets),
        accuracy=wilson(int(scores.correct.sum()), len(targets)),
        top5=wilson(int((scores.target_rank < TOP).sum()), len(targets)) if len(classes) > TOP else None,
        macro=_average(figures, [1 for _ in figures]),
        weighted=_average(figures, [part.support for part in figures]),
        classes=figures,
        confusion=_named(matrix, classes),
        calibrated=_probability_figures(scores, temperature),
        uncalibrated=_probability_figures(uncalibrated, 1.0),
        mistakes=_mistakes(scores, targets, classes, paths, num_mistakes),
    )


def count_confusion(targets: Targets, predicted: Targets, *, num_classes: int) -> NDArray[np.int64]:
    """(K, K) images: a row for each true class, a column for each predicted one."""
    cells = np.bincount(targets * num_classes + predicted, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes).astype(np.int64)


def worst_mistakes(scores: Scores, count: int) -> NDArray[np.int64]:
    """(at most `count`,) rows of the wrong predictions, the most confident first; equal ones in their order."""
    wrong = np.flatnonzero(~scores.correct)
    return wrong[np.argsort(-scores.confidence[wrong], kind="stable")][:count]


def _class_figures(matrix: NDArray[np.int64], classes: Sequence[str]) -> tuple[ClassFigures, ...]:
    right, support, predicted = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    return tuple(
        ClassFigures(
            name=name,
            support=int(support[index]),
            num_predicted=int(predicted[index]),
            precision=float(right[index] / max(predicted[index], 1)) if support[index] else None,
            recall=wilson(int(right[index]), int(support[index])) if support[index] else None,
            f1=float(2 * right[index] / (support[index] + predicted[index])) if support[index] else None,
        )
        for index, name in enumerate(classes)
    )


def _average(figures: Sequence[ClassFigures], weights: Sequence[int]) -> Averages:
    rows = [
        (part.precision, part.recall.value, part.f1, weight)
        for part, weight in zip(figures, weights, strict=True)
        if part.precision is not None and part.recall is not None and part.f1 is not None
    ]
    columns = np.array(rows, dtype=np.float64)  # (classes with images, 4)
    precision, recall, f1 = np.average(columns[:, :3], axis=0, weights=columns[:, 3]).tolist()
    return Averages(precision=precision, recall=recall, f1=f1)


def _named(matrix: NDArray[np.int64], classes: Sequence[str]) -> dict[str, dict[str, int]]:
    return {
        classes[target]: {classes[column]: int(row[column]) for column in np.flatnonzero(row).tolist()}
        for target, row in enumerate(matrix)
        if row.any()
    }


def _probability_figures(scores: Scores, temperature: float) -> ProbabilityFigures:
    bins = reliability(scores.confidence, scores.correct)
    return ProbabilityFigures(
        temperature=float(temperature),
        log_loss=float(scores.log_loss.mean()),
        brier=float(scores.brier.mean()),
        calibration_error=calibration_error(bins),
        bins=bins,
    )


def _mistakes(
    scores: Scores, targets: Targets, classes: Sequence[str], paths: Sequence[str] | None, count: int
) -> tuple[Mistake, ...]:
    names = [None] * len(targets) if paths is None else list(paths)
    return tuple(
        Mistake(
            sample=row,
            path=names[row],
            target=classes[int(targets[row])],
            predicted=classes[int(scores.predicted[row])],
            confidence=float(scores.confidence[row]),
            target_probability=float(scores.target_probability[row]),
        )
        for row in worst_mistakes(scores, count).tolist()
    )


@cache
def _adapter() -> TypeAdapter[Evaluation]:
    return TypeAdapter(Evaluation)
