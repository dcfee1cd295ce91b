"""Logits to a MultiLabelEvaluation: every figure of a classifier whose images may have several labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from sightline.errors import DataError, ModelError
from sightline.evaluation.calibration import calibration_error, reliability
from sightline.evaluation.intervals import Interval, wilson
from sightline.evaluation.metrics import Averages, ProbabilityFigures
from sightline.evaluation.ranking import average_precision, percentile_interval, resampled
from sightline.model_folder import logistic
from sightline.prediction import check_finite

Rows = NDArray[np.int64]
"""(N, K) 0 or 1: a row for each image, a column for each class."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelFigures:
    """One class. Without an image here it has no average precision, precision, recall and F1: they are None."""

    name: str
    support: int
    """Images that have this label."""
    num_predicted: int
    """Images that were given it."""
    threshold: float
    """Least probability for a yes."""
    average_precision: Interval | None
    precision: float | None
    """Share of the images given this label that have it; 0 when none was."""
    recall: Interval | None
    """Share of the images with this label that were given it."""
    f1: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class WrongAnswer:
    """One wrong yes or no about one image."""

    sample: int
    """The image's row among those evaluated."""
    path: str | None
    label: str
    has_it: bool
    """Whether the image has the label; the answer was the other."""
    probability: float
    threshold: float


@dataclass(frozen=True, kw_only=True, slots=True)
class MultiLabelEvaluation:
    """A classifier on images with any number of labels. Equal inputs give equal values, and JSON keeps all of them.

    Intervals of averages are bootstrapped over the images; those of shares of images are Wilson's. Without a mistake,
    which a bootstrap would take for certainty, averages have Wilson's too, of as many images as have the label.
    """

    num_images: int
    mean_average_precision: Interval
    """Of the classes that have an image here; needs no thresholds."""
    micro_f1: Interval
    """Over all answers yes, whatever their class."""
    macro_f1: Interval
    """Mean over the classes that have an image."""
    exact_match: Interval
    """Share of images with every label right, and none too many."""
    hamming_loss: Interval
    """Share of wrong answers among all images' yes and no."""
    micro: Averages
    macro: Averages
    classes: tuple[LabelFigures, ...]
    """In the order of the class numbers."""
    calibrated: ProbabilityFigures
    """Of all answers at the classifier's temperature: a probability and whether the image has the label."""
    uncalibrated: ProbabilityFigures
    mistakes: tuple[WrongAnswer, ...]
    """The surest wrong answers, the worst first."""

    @property
    def absent(self) -> tuple[str, ...]:
        """Classes without images here."""
        return tuple(figures.name for figures in self.classes if figures.support == 0)

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


def evaluate_labels(
    logits: NDArray[np.floating],
    targets: Rows,
    classes: Sequence[str],
    *,
    thresholds: Sequence[float],
    temperature: float = 1.0,
    paths: Sequence[str] | None = None,
    num_mistakes: int = 24,
) -> MultiLabelEvaluation:
    """Every figure from logits (N, K) and targets (N, K); probabilities are sigmoid(logits / temperature).

    Raises DataError when there are no images or no labels, ModelError when a logit is infinite or no number, and
    ValueError when the arrays don't fit together.
    """
    if logits.shape != targets.shape or targets.ndim != 2 or targets.shape[1] != len(classes):
        raise ValueError(f"Expected logits and targets (N, {len(classes)}), got {logits.shape} and {targets.shape}.")
    if not targets.any():
        raise DataError("There are no images to evaluate." if not len(targets) else "No image has any label.")
    check_finite(logits)
    scaled = logits.astype(np.float64)
    probabilities = logistic(scaled / temperature)
    limits = np.asarray(thresholds, dtype=np.float64)
    answers = (probabilities >= limits).astype(np.int64)
    present = np.flatnonzero(targets.any(0))
    # Ranked by logits: probabilities of sure answers round to equal ones.
    samples = resampled(len(targets), lambda counts: _resampled_figures(scaled, targets, answers, present, counts))
    once = _resampled_figures(scaled, targets, answers, present, np.ones((1, len(targets)), dtype=np.int64))[0]
    columns = zip(once.tolist(), samples.T, _num_shown(targets, present), strict=True)
    intervals = [percentile_interval(value, column, counts) for value, column, counts in columns]
    averaged = dict(zip(present.tolist(), intervals[4:], strict=True))
    figures = tuple(
        _label_figures(name, float(limits[k]), targets[:, k], answers[:, k], averaged.get(k))
        for k, name in enumerate(classes)
    )
    right = int((targets & answers).sum())
    known = [part for part in figures if part.support]
    return MultiLabelEvaluation(
        num_images=len(targets),
        mean_average_precision=intervals[0],
        micro_f1=intervals[1],
        macro_f1=intervals[2],
        hamming_loss=intervals[3],
        exact_match=wilson(int((targets == answers).all(1).sum()), len(targets)),
        micro=Averages(
            precision=right / max(int(answers.sum()), 1), recall=right / int(targets.sum()), f1=intervals[1].value
        ),
        macro=Averages(
            precision=float(np.mean([part.precision for part in known if part.precision is not None])),
            recall=float(np.mean([part.recall.value for part in known if part.recall is not None])),
            f1=intervals[2].value,
        ),
        classes=figures,
        calibrated=_probability_figures(scaled, targets, temperature),
        uncalibrated=_probability_figures(scaled, targets, 1.0),
        mistakes=_mistakes(probabilities, targets, answers, limits, classes, paths, num_mistakes),
    )


def _resampled_figures(
    scores: NDArray[np.float64], targets: Rows, answers: Rows, present: Rows, counts: Rows
) -> NDArray[np.float64]:
    """(R, 4 + classes with images): mean average precision, micro F1, macro F1, Hamming loss, average precisions."""
    precisions = np.stack([average_precision(scores[:, k], targets[:, k], counts) for k in present], axis=1)
    times = counts.astype(np.float64)  # products of whole numbers in floating point are exact here, and fast
    right = times @ (targets & answers)  # (R, K)
    labels, given = times @ targets, times @ answers
    with np.errstate(invalid="ignore"):
        f1 = np.where(labels > 0, 2 * right / (labels + given), np.nan)
        micro = 2 * right.sum(1) / (labels.sum(1) + given.sum(1))
    wrong = (times @ (targets != answers)).sum(1) / (times.sum(1) * targets.shape[1])
    return np.column_stack([_mean(precisions), micro, _mean(f1), wrong, precisions])


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(R, K) -> (R,): over the classes that have an image in the resample; not a number where none has."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0.0).sum(1) / known.sum(1)


def _num_shown(targets: Rows, present: Rows) -> list[list[int]]:
    """For each of `_resampled_figures`, how many images speak of it: those without the label say nothing of its F1."""
    supports: list[int] = targets.sum(0)[present].tolist()
    labelled, all_images = int(targets.any(1).sum()), len(targets)
    return [supports, [labelled], supports, [all_images], *([support] for support in supports)]


def _label_figures(
    name: str, threshold: float, targets: Rows, answers: Rows, averaged: Interval | None
) -> LabelFigures:
    support, given, right = int(targets.sum()), int(answers.sum()), int((targets & answers).sum())
    return LabelFigures(
        name=name,
        support=support,
        num_predicted=given,
        threshold=threshold,
        average_precision=averaged,
        precision=right / max(given, 1) if support else None,
        recall=wilson(right, support) if support else None,
        f1=2 * right / (support + given) if support else None,
    )


def _probability_figures(logits: NDArray[np.float64], targets: Rows, temperature: float) -> ProbabilityFigures:
    scaled = logits / temperature
    probabilities = logistic(scaled).ravel()
    bins = reliability(probabilities, targets.astype(np.bool_).ravel())
    return ProbabilityFigures(
        temperature=float(temperature),
        log_loss=float((np.logaddexp(0, scaled) - targets * scaled).mean()),
        brier=float(((probabilities - targets.ravel()) ** 2).mean()),
        calibration_error=calibration_error(bins),
        bins=bins,
    )


def _mistakes(
    probabilities: NDArray[np.float64],
    targets: Rows,
    answers: Rows,
    limits: NDArray[np.float64],
    classes: Sequence[str],
    paths: Sequence[str] | None,
    count: int,
) -> tuple[WrongAnswer, ...]:
    rows, columns = np.nonzero(targets != answers)
    given = np.where(answers == 1, probabilities, 1 - probabilities)[rows, columns]
    chosen = np.argsort(-given, kind="stable")[:count]
    return tuple(
        WrongAnswer(
            sample=int(rows[place]),
            path=None if paths is None else paths[int(rows[place])],
            label=classes[int(columns[place])],
            has_it=bool(targets[rows[place], columns[place]]),
            probability=float(probabilities[rows[place], columns[place]]),
            threshold=float(limits[columns[place]]),
        )
        for place in chosen.tolist()
    )


@cache
def _adapter() -> TypeAdapter[MultiLabelEvaluation]:
    return TypeAdapter(MultiLabelEvaluation)
