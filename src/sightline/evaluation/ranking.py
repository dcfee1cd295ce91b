"""Average precision: how well a class's scores put its images before all others, with bootstrap intervals."""

from collections.abc import Callable, Sequence
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.intervals import Interval, wilson
from sightline.randomness import key

RESAMPLES = 1000
_ALIKE = 1e-12
"""Resamples that differ by less differ by rounding."""
_BLOCK = 2**22
"""Numbers worked on at a time: 32 MiB."""

Matrix = NDArray[np.float64]


def average_precision(
    scores: NDArray[np.floating], targets: NDArray[np.int64], counts: NDArray[np.int64] | None = None
) -> Matrix:
    """(R,) average precision of one class, from scores (N,) and targets (N,) 0 or 1; not a number without a 1.

    `counts` (R, N) says how often each image comes in each of R resamples; left out, all come once and R is 1.
    Precision is averaged over the steps of recall, without interpolation; images of equal score are one step.
    """
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    ends = np.flatnonzero(np.r_[ordered[1:] != ordered[:-1], True])  # the last image of each score
    times = np.ones((1, len(scores)), dtype=np.int64) if counts is None else counts[:, order]
    found = np.cumsum(times * targets[order], axis=1)[:, ends]  # (R, steps)
    passed = np.cumsum(times, axis=1)[:, ends]
    precision = found / np.maximum(passed, 1)
    steps = np.diff(found, axis=1, prepend=0)
    with np.errstate(invalid="ignore"):
        return (steps * precision).sum(axis=1) / found[:, -1]


def mean_average_precision(scores: NDArray[np.floating], targets: NDArray[np.int64]) -> float:
    """The mean over the classes that have an image, from scores (N, K) and targets (N, K); 0 when none has."""
    present = np.flatnonzero(targets.sum(0))
    values = [average_precision(scores[:, k], targets[:, k])[0] for k in present]
    return float(np.mean(values)) if values else 0.0


def resampled(num_images: int, figures: Callable[[NDArray[np.int64]], Matrix], *, seed: int = 0) -> Matrix:
    """(RESAMPLES, F): what `figures` gives for images drawn anew, with repeats, from as many; the seed decides which.

    `figures` takes (R, N) counts, how often each image was drawn, and gives (R, F).
    Source: Efron (1979), Bootstrap Methods: Another Look at the Jackknife.
    """
    draws = np.random.Generator(np.random.Philox(key=key(seed, "bootstrap")))
    step = max(1, _BLOCK // num_images)
    parts: list[Matrix] = []
    for start in range(0, RESAMPLES, step):
        chosen = draws.integers(num_images, size=(min(step, RESAMPLES - start), num_images))
        offsets = np.arange(len(chosen))[:, None] * num_images
        counts = np.bincount((chosen + offsets).ravel(), minlength=chosen.size).reshape(chosen.shape)
        parts.append(figures(counts))
    return np.concatenate(parts)


def percentile_interval(value: float, samples: Matrix, counts: Sequence[int]) -> Interval:
    """The value, 0 to 1, with the middle 95% of its resamples (R,); those that aren't numbers are passed over.

    Drawn from images that all have the same mistakes, or none, all resamples are alike and would claim certainty. What
    so many images can show is Wilson's interval for that share of them. `counts` holds one number, or of a mean over
    classes each one's: the interval then reaches as far as the mean of theirs.
    """
    known = samples[np.isfinite(samples)]
    if len(known) and np.ptp(known) <= _ALIKE:
        shown = [wilson(value * count, count) for count in counts]
        return Interval(value, fmean(each.low for each in shown), fmean(each.high for each in shown))
    low, high = np.quantile(known, [0.025, 0.975]).tolist() if len(known) else (value, value)
    return Interval(value, min(low, value), max(high, value))
