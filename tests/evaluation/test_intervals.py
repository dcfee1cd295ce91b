import pytest

from sightline.evaluation.intervals import Interval, wilson


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    [  # Newcombe (1998), Two-sided confidence intervals for the single proportion, Table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_interval_is_the_published_one(successes: int, count: int, low: float, high: float) -> None:
    interval = wilson(successes, count)
    assert interval.low == pytest.approx(low, abs=5e-5)
    assert interval.high == pytest.approx(high, abs=5e-5)


@pytest.mark.parametrize("count", [1, 2, 7, 1000, 10**7])
def test_the_interval_holds_its_value_and_stays_within_0_and_1(count: int) -> None:
    for successes in {0, 1, count // 2, count - 1, count}:
        interval = wilson(successes, count)
        assert 0 <= interval.low <= interval.value <= interval.high <= 1


def test_failures_have_the_mirrored_interval() -> None:
    right, wrong = wilson(91, 100), wilson(9, 100)
    assert (1 - wrong.high, 1 - wrong.low) == pytest.approx((right.low, right.high))


def test_an_interval_prints_as_percent() -> None:
    assert str(wilson(1370, 1500)) == "91.3% (89.8 to 92.7)"


def test_a_narrow_interval_prints_with_two_digits() -> None:
    assert str(Interval(0.99957, 0.9991, 0.9998)) == "99.96% (99.91 to 99.98)"


@pytest.mark.parametrize(("successes", "count"), [(0, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(successes: int, count: int) -> None:
    with pytest.raises(ValueError, match=f"got {successes} of {count}"):
        wilson(successes, count)
