"""95% intervals for proportions, such as an accuracy."""

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

Z95 = NormalDist().inv_cdf(0.975)
"""Standard deviations to either side of the mean that hold 95% of a normal distribution: 1.96."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A proportion with its 95% interval, all 0 to 1. Prints as `91.3% (89.9 to 92.5)`."""

    value: float
    low: float
    high: float

    @property
    def percent(self) -> str:
        """The value, as in `91.3%`."""
        return f"{self.value:.{self._digits}%}"

    @property
    def span(self) -> str:
        """The interval in percent, as in `89.9 to 92.5`."""
        return f"{self.low * 100:.{self._digits}f} to {self.high * 100:.{self._digits}f}"

    @property
    def _digits(self) -> int:
        # An interval narrower than 0.2 points would print as the same number thrice with one digit.
        return 1 if self.high - self.low >= 0.002 else 2

    def __str__(self) -> str:
        return f"{self.percent} ({self.span})"


def wilson(successes: float, count: int) -> Interval:
    """The share of successes with Wilson's score interval, which never leaves 0 to 1 and holds up near both ends.

    Successes may be a share of a count that is no whole number, such as half of three.
    Raises ValueError unless 0 <= successes <= count and count is at least 1.
    Source: Wilson (1927), Probable Inference, the Law of Succession, and Statistical Inference; recommended
    over the textbook interval by Newcombe (1998), Two-sided confidence intervals for the single proportion,
    whose method 3 this is.
    """
    if not 0 <= successes <= count or count < 1:
        raise ValueError(f"Expected 0 <= successes <= count and count >= 1, got {successes} of {count}.")
    share = successes / count
    shrink = 1 / (1 + Z95**2 / count)
    centre = (share + Z95**2 / (2 * count)) * shrink
    half = Z95 * sqrt(share * (1 - share) / count + Z95**2 / (4 * count**2)) * shrink
    low = 0.0 if successes == 0 else centre - half  # exactly 0 and 1 in theory, off by rounding in practice
    high = 1.0 if successes == count else centre + half
    return Interval(share, low, high)
