import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest

from sightline.evaluation.paired import PairedTest, compare_paired

Answers = tuple[NDArray[np.bool_], NDArray[np.bool_]]


def answers(both: int, only_a: int, only_b: int, neither: int) -> Answers:
    table = ((both, True, True), (only_a, True, False), (only_b, False, True), (neither, False, False))
    a = np.concatenate([np.full(count, first) for count, first, _ in table])
    b = np.concatenate([np.full(count, second) for count, _, second in table])
    return a, b


# Two studies worked out in Fagerland, Lydersen and Laake (2017), Statistical Analysis of Contingency Tables,
# chapter 8: Bentur et al. (2009) and Cavo et al. (2012). Their difference is the first less the second.
@pytest.mark.parametrize(
    ("table", "difference", "low", "high"),
    [((1, 7, 1, 12), -0.286, -0.507, -0.026), ((59, 16, 6, 80), -0.0621, -0.1186, -0.0046)],
)
def test_the_interval_is_the_published_one(
    table: tuple[int, int, int, int], difference: float, low: float, high: float
) -> None:
    test = compare_paired(*answers(*table))
    assert (test.difference, test.low, test.high) == pytest.approx((difference, low, high), abs=5e-4)


def test_the_p_value_is_both_tails_of_a_fair_coin() -> None:
    # 12 throws, at most 2 heads: (1 + 12 + 66) of 4096 outcomes, on either side
    assert compare_paired(*answers(50, 10, 2, 5)).p_value == pytest.approx(158 / 4096)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 1), (3, 3), (121, 59), (400, 501), (0, 60)])
def test_the_p_value_is_the_binomial_tests(only_a: int, only_b: int) -> None:
    expected = binomtest(only_a, only_a + only_b).pvalue
    assert compare_paired(*answers(100, only_a, only_b, 30)).p_value == pytest.approx(expected)


def test_images_on_which_both_agree_leave_the_p_value_alone() -> None:
    few, many = compare_paired(*answers(10, 9, 2, 3)), compare_paired(*answers(9000, 9, 2, 800))
    assert few.p_value == many.p_value


def test_swapping_the_two_mirrors_the_difference() -> None:
    a, b = answers(80, 12, 5, 20)
    forward, backward = compare_paired(a, b), compare_paired(b, a)
    assert (forward.difference, forward.low, forward.high) == pytest.approx(
        (-backward.difference, -backward.high, -backward.low)
    )
    assert forward.p_value == backward.p_value


def test_identical_answers_differ_by_nothing() -> None:
    a, b = answers(90, 0, 0, 10)
    test = compare_paired(a, b)
    assert (test.difference, test.p_value) == (0.0, 1.0)
    assert test.low < 0 < test.high


def test_the_interval_holds_the_truth_about_95_times_in_100() -> None:
    random = np.random.default_rng(0)
    held = 0
    for _ in range(1000):
        kinds = random.choice(4, size=300, p=[0.8, 0.08, 0.04, 0.08])  # both, only A, only B, neither
        test = compare_paired((kinds == 0) | (kinds == 1), (kinds == 0) | (kinds == 2))
        held += test.low <= 0.04 - 0.08 <= test.high
    assert 930 <= held <= 970


def test_a_comparison_prints_in_points() -> None:
    test = PairedTest(difference=0.08, low=-0.0104, high=0.1547, p_value=0.0386, only_a=2, only_b=10)
    assert str(test) == "+8.0 points (-1.0 to +15.5), p = 0.039"


@pytest.mark.parametrize(("first", "second"), [(3, 4), (0, 0)])
def test_unequal_lengths_and_no_images_are_refused(first: int, second: int) -> None:
    with pytest.raises(ValueError, match="equally long"):
        compare_paired(np.ones(first, dtype=bool), np.ones(second, dtype=bool))
