"""What a classifier's logits say about each image: prediction, confidence, loss."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from sightline.errors import DataError
from sightline.prediction import check_finite

Logits = NDArray[np.floating]
"""(N, K): a row for each image, a column for each class."""
Targets = NDArray[np.int64]
"""(N,): each image's class number, 0 to K - 1."""

_BLOCK = 2**22
"""Logits worked on at a time: 32 MiB in double precision, however many images and classes there are."""


@dataclass(frozen=True, eq=False, slots=True)
class Scores:
    """One classifier on N images; every field is (N,)."""

    predicted: NDArray[np.int64]
    """The likeliest class; of equally likely ones, the first."""
    confidence: NDArray[np.float64]
    """Its probability."""
    target_probability: NDArray[np.float64]
    """The true class's probability."""
    target_rank: NDArray[np.int64]
    """Classes placed before the true one: 0 where the prediction is right."""
    log_loss: NDArray[np.float64]
    """Minus the natural logarithm of the true class's probability."""
    brier: NDArray[np.float64]
    """Squared distance between the probabilities and the truth, summed over the classes: 0 to 2 (Brier, 1950)."""

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Where the prediction is right."""
        return self.target_rank == 0


def score(logits: Logits, targets: Targets, *, temperature: float = 1.0) -> Scores:
    """Score each image by softmax(logits / temperature), in double precision.

    Raises DataError when there are no images, ModelError when a logit is infinite or no number, and
    ValueError when the arrays don't fit together.
    """
    check(logits, targets)
    parts = [_score(logits[rows], targets[rows], temperature) for rows in blocks(*logits.shape)]
    return Scores(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def check(logits: Logits, targets: Targets) -> None:
    """Raises what `score` raises."""
    if logits.ndim != 2 or targets.shape != logits.shape[:1] or logits.shape[1] < 1:
        raise ValueError(f"Expected logits (N, K) and targets (N,), got {logits.shape} and {targets.shape}.")
    if len(targets) == 0:
        raise DataError("There are no images to evaluate.")
    if targets.min() < 0 or targets.max() >= logits.shape[1]:
        raise ValueError(f"Targets must be 0 to {logits.shape[1] - 1}, got {targets.min()} to {targets.max()}.")
    check_finite(logits)


def blocks(num_rows: int, num_columns: int) -> list[slice]:
    """Consecutive rows, few enough at a time for a bounded memory."""
    step = max(1, _BLOCK // num_columns)
    return [slice(start, start + step) for start in range(0, num_rows, step)]


def _score(logits: Logits, targets: Targets, temperature: float) -> tuple[NDArray[np.generic], ...]:
    """The fields of Scores, in their order, for some of the rows."""
    scaled = logits.astype(np.float64) / temperature
    log_probabilities = log_softmax(scaled, axis=1)  # (N, K)
    probabilities = np.exp(log_probabilities)  # (N, K)
    rows = np.arange(len(targets))
    target_logits = logits[rows, targets][:, None]  # (N, 1)
    before = np.arange(logits.shape[1]) < targets[:, None]  # (N, K)
    target_rank = ((logits > target_logits) | ((logits == target_logits) & before)).sum(axis=1)
    predicted = logits.argmax(axis=1)
    target_probability = probabilities[rows, targets]
    brier = (probabilities**2).sum(axis=1) - 2 * target_probability + 1
    return (
        predicted,
        probabilities[rows, predicted],
        target_probability,
        target_rank,
        -log_probabilities[rows, targets],
        np.maximum(brier, 0.0),  # rounding may leave -1e-17
    )
