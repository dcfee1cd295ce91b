"""Two classifiers on the same images: is the difference more than chance?

Images that both get right, or both get wrong, say nothing about which is better, so a paired test looks at
the others alone. It finds differences that would drown in the two separate intervals.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

from sightline.evaluation.intervals import wilson


@dataclass(frozen=True, slots=True)
class PairedTest:
    """The change in accuracy from classifier A to classifier B, with its 95% interval."""

    difference: float
    """Accuracy of B minus accuracy of A, -1 to 1: positive when B is better."""
    low: float
    high: float
    p_value: float
    """How often two equally good classifiers would differ by this much or more; McNemar's exact test, two-sided."""
    only_a: int
    """Images that A alone gets right."""
    only_b: int
    """Images that B alone gets right."""

    def __str__(self) -> str:
        p_value = "p < 0.001" if self.p_value < 0.001 else f"p = {self.p_value:.3f}"
        return f"{self.difference * 100:+.1f} points ({self.low * 100:+.1f} to {self.high * 100:+.1f}), {p_value}"


def compare_paired(correct_a: NDArray[np.bool_], correct_b: NDArray[np.bool_]) -> PairedTest:
    """Compare two classifiers by what each got right, (N,) and (N,), on the same images in the same order.

    Raises ValueError when the two differ in length or are empty.
    Source: McNemar (1947), Note on the sampling error of the difference between correlated proportions, with
    the exact binomial distribution; the interval is method 10 of Newcombe (1998), Improved confidence
    intervals for the difference between binomial proportions based on paired data.
    """
    if correct_a.shape != correct_b.shape or correct_a.ndim != 1 or len(correct_a) == 0:
        raise ValueError(f"Expected two equally long rows, got {correct_a.shape} and {correct_b.shape}.")
    both = int((correct_a & correct_b).sum())
    only_a = int((correct_a & ~correct_b).sum())
    only_b = int((~correct_a & correct_b).sum())
    neither = len(correct_a) - both - only_a - only_b
    low, high = _newcombe(both, only_b, only_a, neither)
    return PairedTest(
        difference=(only_b - only_a) / len(correct_a),
        low=low,
        high=high,
        p_value=_mcnemar(only_a, only_b),
        only_a=only_a,
        only_b=only_b,
    )


def _mcnemar(only_a: int, only_b: int) -> float:
    """Both tails of a fair coin thrown once for each image that one alone gets right."""
    throws = only_a + only_b
    if throws == 0:
        return 1.0
    return min(1.0, 2 * float(bdtr(min(only_a, only_b), throws, 0.5)))


def _newcombe(both: int, only_first: int, only_second: int, neither: int) -> tuple[float, float]:
    """The interval of first minus second: Wilson's two, combined by the correlation between the classifiers."""
    count = both + only_first + only_second + neither
    first, second = wilson(both + only_first, count), wilson(both + only_second, count)
    correlation = _correlation(both, only_first, only_second, neither)
    difference = (only_first - only_second) / count
    below = _combine(first.value - first.low, second.high - second.value, correlation)
    above = _combine(first.high - first.value, second.value - second.low, correlation)
    return max(-1.0, difference - below), min(1.0, difference + above)


def _combine(first: float, second: float, correlation: float) -> float:
    # Never below 0, as |correlation| <= 1, but for rounding.
    return sqrt(max(0.0, first**2 - 2 * correlation * first * second + second**2))


def _correlation(both: int, only_first: int, only_second: int, neither: int) -> float:
    """The phi coefficient of the 2x2 table, with the continuity correction of Newcombe's method 10."""
    product = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    if product == 0:
        return 0.0
    determinant = both * neither - only_first * only_second
    if determinant > 0:
        determinant = max(determinant - (both + only_first + only_second + neither) / 2, 0)
    return determinant / sqrt(product)
