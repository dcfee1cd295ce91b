"""Does a confidence of 90% mean right nine times in ten? Measured, and mended by one number, the temperature.

Source: On Calibration of Modern Neural Networks (Guo et al., 2017), https://arxiv.org/abs/1706.04599
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, softmax

from sightline.evaluation.intervals import Interval, wilson
from sightline.evaluation.scores import Logits, Targets, blocks, check
from sightline.prediction import check_finite

COLDEST, HOTTEST = 0.05, 20.0
"""Temperatures outside are no calibration: 0.05 turns any lead into certainty, 20 makes every class equally likely."""


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The images whose confidence is above `low` and at most `high`."""

    low: float
    high: float
    count: int
    confidence: float | None
    """Their mean confidence; None when there are none."""
    accuracy: Interval | None
    """The share of them that is right; None when there are none."""


def fit_temperature(logits: Logits, targets: Targets) -> float:
    """The temperature T at which softmax(logits / T) has the lowest log loss; fit it on the validation images.

    logits (N, K), targets (N,). Predictions don't change, only their confidence: above 1 lowers it. The result
    lies between COLDEST and HOTTEST. It is 1, no change, when every image is right: the log loss then falls
    without end as T nears 0, for want of a mistake that says how wrong the network can be.

    Raises what `scores.score` raises. Source: Guo et al. (2017), section 4.2.
    """
    check(logits, targets)
    if (logits.argmax(axis=1) == targets).all():
        return 1.0
    return _temperature_at_the_bottom(partial(_slope, logits=logits, targets=targets))


def fit_binary_temperature(logits: Logits, targets: NDArray[np.int64]) -> float:
    """The same for images with several labels: sigmoid(logits / T) and targets (N, K) 0 or 1.

    It is 1 when every answer is right at a probability of 0.5. Raises ModelError when a logit is no number.
    """
    check_finite(logits)
    if ((logits > 0) == targets).all():
        return 1.0
    return _temperature_at_the_bottom(partial(_binary_slope, logits=logits, targets=targets))


def _temperature_at_the_bottom(slope: Callable[[float], float]) -> float:
    """T where the log loss is lowest, from its slope by 1 / T."""
    # The log loss is convex in 1 / T, so its slope crosses 0 once at most, from below.
    least, most = 1 / HOTTEST, 1 / COLDEST
    if slope(most) <= 0:
        return COLDEST
    if slope(least) >= 0:
        return HOTTEST
    return 1 / cast(float, brentq(slope, least, most, xtol=1e-9))


def reliability(
    confidence: NDArray[np.float64], correct: NDArray[np.bool_], *, num_bins: int = 15
) -> tuple[ReliabilityBin, ...]:
    """Images (N,) sorted into `num_bins` equal steps of confidence, each with its accuracy."""
    numbers = np.clip(np.ceil(confidence * num_bins).astype(np.int64) - 1, 0, num_bins - 1)  # (N,)
    bins: list[ReliabilityBin] = []
    for number in range(num_bins):
        inside = numbers == number
        count = int(inside.sum())
        bins.append(
            ReliabilityBin(
                low=number / num_bins,
                high=(number + 1) / num_bins,
                count=count,
                confidence=float(confidence[inside].mean()) if count else None,
                accuracy=wilson(int(correct[inside].sum()), count) if count else None,
            )
        )
    return tuple(bins)


def calibration_error(bins: tuple[ReliabilityBin, ...]) -> float:
    """The expected calibration error: how far confidence and accuracy are apart on average, 0 to 1.

    With few images it is above 0 even for perfect probabilities.
    Source: Naeini et al. (2015), Obtaining Well Calibrated Probabilities Using Bayesian Binning; Guo et al.
    (2017), equation 3, who use 15 bins.
    """
    total = sum(part.count for part in bins)
    gaps = (
        part.count * abs(part.accuracy.value - part.confidence)
        for part in bins
        if part.accuracy is not None and part.confidence is not None
    )
    return sum(gaps) / total


def _slope(inverse: float, logits: Logits, targets: Targets) -> float:
    """The derivative of the mean log loss by 1 / T: the mean logit by probability, less the target's."""
    total = 0.0
    for rows in blocks(*logits.shape):
        part = logits[rows].astype(np.float64)  # (B, K)
        expected = (softmax(part * inverse, axis=1) * part).sum(axis=1)  # (B,)
        total += float((expected - part[np.arange(len(part)), targets[rows]]).sum())
    return total / len(targets)


def _binary_slope(inverse: float, logits: Logits, targets: NDArray[np.int64]) -> float:
    """The derivative of the mean binary log loss by 1 / T."""
    total = 0.0
    for rows in blocks(*logits.shape):
        part = logits[rows].astype(np.float64)  # (B, K)
        total += float(((expit(part * inverse) - targets[rows]) * part).sum())
    return total / targets.size
