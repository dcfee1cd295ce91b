"""Figures of images with several labels, against scikit-learn."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit
from sklearn import metrics

from sightline.errors import DataError, ModelError
from sightline.evaluation.calibration import fit_binary_temperature
from sightline.evaluation.intervals import wilson
from sightline.evaluation.multilabel import MultiLabelEvaluation, evaluate_labels
from sightline.evaluation.ranking import average_precision, mean_average_precision, percentile_interval
from sightline.evaluation.text import label_report
from sightline.evaluation.thresholds import fit_thresholds

CLASSES = ("bee", "cat", "dog", "elk")
THRESHOLDS = (0.5, 0.4, 0.3, 0.6)


def data(num_images: int = 300, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    draws = np.random.default_rng(seed)
    targets = (draws.random((num_images, 4)) < (0.5, 0.3, 0.2, 0.05)).astype(np.int64)
    logits = draws.normal(size=targets.shape) + 2.0 * targets - 1
    return np.round(logits, 1), targets  # rounded: many are equal


def evaluation(num_images: int = 300, seed: int = 0, temperature: float = 1.5) -> MultiLabelEvaluation:
    return evaluate_labels(*data(num_images, seed), CLASSES, thresholds=THRESHOLDS, temperature=temperature)


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_is_scikit_learn_s_with_equal_scores_too(seed: int) -> None:
    logits, targets = data(seed=seed)
    for k in range(4):
        expected = metrics.average_precision_score(targets[:, k], logits[:, k])
        assert average_precision(logits[:, k], targets[:, k])[0] == pytest.approx(expected)


def test_the_mean_average_precision_of_an_epoch_is_scikit_learn_s_over_the_classes_that_have_images() -> None:
    logits, targets = data()
    targets[:, 3] = 0
    expected = metrics.average_precision_score(targets[:, :3], logits[:, :3])
    assert mean_average_precision(logits, targets) == pytest.approx(expected)


def test_an_image_drawn_twice_counts_as_two_images() -> None:
    logits, targets = data(40)
    counts = np.random.default_rng(3).integers(0, 3, (5, 40))
    for row, value in zip(counts, average_precision(logits[:, 0], targets[:, 0], counts), strict=True):
        places = np.repeat(np.arange(40), row)
        assert value == pytest.approx(metrics.average_precision_score(targets[places, 0], logits[places, 0]))


def test_every_figure_is_scikit_learn_s() -> None:
    logits, targets = data()
    answers = (expit(logits / 1.5) >= THRESHOLDS).astype(int)
    found = evaluation()
    assert found.mean_average_precision.value == pytest.approx(metrics.average_precision_score(targets, logits))
    for average, part in (("micro", found.micro), ("macro", found.macro)):
        expected = metrics.precision_recall_fscore_support(targets, answers, average=average, zero_division=0)
        assert (part.precision, part.recall, part.f1) == pytest.approx(expected[:3])
    assert found.exact_match.value == pytest.approx(metrics.accuracy_score(targets, answers))
    assert found.hamming_loss.value == pytest.approx(metrics.hamming_loss(targets, answers))
    rows = metrics.precision_recall_fscore_support(targets, answers, zero_division=0)
    for figures, *expected in zip(found.classes, *rows, strict=True):
        assert figures.recall is not None
        assert [figures.precision, figures.recall.value, figures.f1, figures.support] == pytest.approx(expected)
    flat = expit(logits / 1.5).ravel()
    assert found.calibrated.log_loss == pytest.approx(metrics.log_loss(targets.ravel(), flat))
    assert found.calibrated.brier == pytest.approx(metrics.brier_score_loss(targets.ravel(), flat))


def test_intervals_hold_their_value_and_shrink_with_more_images() -> None:
    few, many = evaluation(60), evaluation(2000)
    for name in ("mean_average_precision", "micro_f1", "macro_f1", "exact_match", "hamming_loss"):
        narrow, wide = getattr(many, name), getattr(few, name)
        assert narrow.low <= narrow.value <= narrow.high
        assert narrow.high - narrow.low < wide.high - wide.low


def test_the_bootstrap_interval_of_a_mean_is_the_normal_one_of_many_images() -> None:
    """The Hamming loss of one class is a share, whose interval is known: 1.96 standard errors."""
    draws = np.random.default_rng(0)
    targets = (draws.random((2000, 1)) < 0.5).astype(np.int64)
    logits = np.where(draws.random((2000, 1)) < 0.2, -1.0, 1.0) * (2 * targets - 1)
    loss = evaluate_labels(logits, targets, ("bee",), thresholds=(0.5,)).hamming_loss
    assert (loss.high - loss.low) / 2 == pytest.approx(1.96 * np.sqrt(0.2 * 0.8 / 2000), rel=0.1)


def test_equal_inputs_give_equal_figures_and_json_keeps_them() -> None:
    first = evaluation()
    assert evaluation() == first
    assert MultiLabelEvaluation.from_json(first.to_json()) == first


def test_a_class_without_images_has_no_figures_and_no_part_in_the_means() -> None:
    logits, targets = data()
    targets[:, 3] = 0
    found = evaluate_labels(logits, targets, CLASSES, thresholds=THRESHOLDS)
    rest = evaluate_labels(logits[:, :3], targets[:, :3], CLASSES[:3], thresholds=THRESHOLDS[:3])
    assert found.absent == ("elk",)
    assert found.classes[3].average_precision is None
    assert found.mean_average_precision == rest.mean_average_precision
    assert found.macro == rest.macro


def test_the_worst_mistakes_are_the_surest_wrong_answers() -> None:
    logits = np.array([[5.0, -4.0], [3.0, 1.0]])
    targets = np.array([[0, 1], [1, 0]])
    found = evaluate_labels(logits, targets, ("bee", "cat"), thresholds=(0.5, 0.5), paths=["1.png", "2.png"])
    assert [(part.path, part.label, part.has_it) for part in found.mistakes] == [
        ("1.png", "bee", False),
        ("1.png", "cat", True),
        ("2.png", "cat", False),
    ]


@pytest.mark.parametrize(
    ("logits", "targets", "error"),
    [
        (np.zeros((0, 4)), np.zeros((0, 4), dtype=np.int64), DataError),
        (np.zeros((2, 4)), np.zeros((2, 4), dtype=np.int64), DataError),
        (np.full((2, 4), np.nan), np.ones((2, 4), dtype=np.int64), ModelError),
        (np.zeros((2, 3)), np.ones((2, 4), dtype=np.int64), ValueError),
    ],
)
def test_what_can_t_be_evaluated_is_refused(
    logits: NDArray[np.float64], targets: NDArray[np.int64], error: type[Exception]
) -> None:
    with pytest.raises(error):
        evaluate_labels(logits, targets, CLASSES, thresholds=THRESHOLDS)


def f1(probabilities: NDArray[np.float64], targets: NDArray[np.int64], threshold: float) -> float:
    return metrics.f1_score(targets, probabilities >= threshold, zero_division=0)


@pytest.mark.parametrize("seed", range(4))
def test_no_other_threshold_has_a_higher_f1(seed: int) -> None:
    logits, targets = data(seed=seed)
    probabilities = expit(logits)
    for k, threshold in enumerate(fit_thresholds(probabilities, targets)):
        best = max(f1(probabilities[:, k], targets[:, k], other) for other in np.unique(probabilities[:, k]))
        assert f1(probabilities[:, k], targets[:, k], threshold) == pytest.approx(best)


@pytest.mark.parametrize(
    ("probabilities", "targets", "expected"),
    [
        ([0.9, 0.8, 0.3, 0.1], [1, 1, 0, 0], 0.5),  # 0.5 parts them: no other is nearer
        ([0.4, 0.3, 0.2, 0.1], [1, 1, 0, 0], 0.25),  # halfway between the two neighbours
        ([0.9, 0.8, 0.7, 0.6], [1, 1, 0, 0], 0.75),
        ([0.9, 0.8], [0, 0], 0.5),
        ([0.2, 0.1], [1, 1], 0.5),
    ],
)
def test_ties_go_towards_a_half_and_a_class_that_says_nothing_stays_there(
    probabilities: list[float], targets: list[int], expected: float
) -> None:
    [threshold] = fit_thresholds(np.array(probabilities)[:, None], np.array(targets)[:, None])
    assert threshold == pytest.approx(expected)


def test_the_temperature_of_overconfident_answers_undoes_the_factor() -> None:
    draws = np.random.default_rng(0)
    logits = draws.normal(size=(4000, 3))
    targets = (draws.random((4000, 3)) < expit(logits)).astype(np.int64)
    assert fit_binary_temperature(3 * logits, targets) == pytest.approx(3, rel=0.1)
    assert fit_binary_temperature(np.where(targets == 1, 2.0, -2.0), targets) == 1


def test_the_text_has_a_line_for_each_class_and_the_averages() -> None:
    lines = label_report(evaluation()).splitlines()
    assert [line.split()[0] for line in lines if line][1:] == [*CLASSES, "micro", "macro"]


def test_images_without_a_mistake_leave_doubt() -> None:
    targets = np.array([[1, 0], [0, 1], [1, 1], [0, 0]] * 5)
    found = evaluate_labels(20.0 * targets - 10, targets, ("bee", "cat"), thresholds=(0.5, 0.5))
    assert found.mean_average_precision.value == 1
    assert 0.7 < found.mean_average_precision.low < 0.8  # each class has 10 of the 20 images
    assert found.hamming_loss.value == 0
    assert 0.1 < found.hamming_loss.high < 0.2


def test_images_that_all_have_the_same_mistakes_leave_doubt() -> None:
    targets = np.array([[1, 0], [0, 1]] * 5)
    found = evaluate_labels(np.full((10, 2), 5.0), targets, ("bee", "cat"), thresholds=(0.5, 0.5))
    assert found.micro_f1.value == pytest.approx(2 / 3)
    assert found.micro_f1.low < 0.5
    assert found.micro_f1.high > 0.8
    assert found.hamming_loss.low < 0.5 < found.hamming_loss.high


def test_resamples_that_are_no_numbers_are_passed_over() -> None:
    made: Callable[[list[float]], NDArray[np.float64]] = np.array
    assert percentile_interval(0.5, made([0.4, np.nan, 0.6]), [3]).high == pytest.approx(0.595)


def flawless(supports: list[int], num_images: int = 2000) -> MultiLabelEvaluation:
    """Every image answered right; class k has `supports[k]` of them, each image one label at most."""
    targets = np.zeros((num_images, len(supports)), dtype=np.int64)
    starts = np.cumsum([0, *supports])
    for k, count in enumerate(supports):
        targets[starts[k] : starts[k] + count, k] = 1
    names = [f"class {k}" for k in range(len(supports))]
    return evaluate_labels(8.0 * targets - 4, targets, names, thresholds=[0.5] * len(supports))


def test_a_resample_without_the_rare_label_says_nothing_of_it() -> None:
    found = flawless([3])
    assert found.classes[0].average_precision is not None
    for figure in (found.mean_average_precision, found.macro_f1, found.micro_f1):
        assert figure == found.classes[0].average_precision == wilson(3, 3)


def test_images_without_a_rare_label_don_t_make_its_figures_surer() -> None:
    found = flawless([10] * 5)
    assert found.mean_average_precision.low == pytest.approx(wilson(10, 10).low)
    assert found.macro_f1.low == pytest.approx(wilson(10, 10).low)
    assert found.micro_f1 == wilson(50, 50)
    assert found.hamming_loss == wilson(0, 2000)


def test_one_rare_class_leaves_its_share_of_the_doubt_in_the_mean() -> None:
    found = flawless([1, 500, 500, 500])
    expected = (wilson(1, 1).low + 3 * wilson(500, 500).low) / 4
    assert (found.mean_average_precision.low, found.mean_average_precision.high) == pytest.approx((expected, 1))
