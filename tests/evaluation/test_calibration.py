import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from sightline.errors import DataError, ModelError
from sightline.evaluation.calibration import (
    COLDEST,
    HOTTEST,
    Logits,
    Targets,
    calibration_error,
    fit_temperature,
    reliability,
)
from sightline.evaluation.scores import score


def calibrated(num_images: int, num_classes: int = 10, seed: int = 0) -> tuple[Logits, Targets]:
    """Logits whose probabilities are true: each target is drawn from them."""
    random = np.random.default_rng(seed)
    logits = random.normal(scale=2.5, size=(num_images, num_classes))
    noise = random.gumbel(size=logits.shape)  # the largest of logit plus Gumbel noise is a draw from the softmax
    return logits, (logits + noise).argmax(axis=1)


@pytest.mark.parametrize("factor", [0.3, 1.0, 2.5, 6.0])
def test_the_temperature_undoes_a_known_scale(factor: float) -> None:
    logits, targets = calibrated(20_000)
    assert fit_temperature(logits * factor, targets) == pytest.approx(factor, rel=0.03)


def test_the_temperature_is_where_the_log_loss_is_lowest() -> None:
    logits, targets = calibrated(500, seed=1)
    logits = logits * 3
    lowest = minimize_scalar(
        lambda log_t: score(logits, targets, temperature=np.exp(log_t)).log_loss.mean(), bounds=(-3, 3)
    )
    assert fit_temperature(logits, targets) == pytest.approx(np.exp(lowest.x), rel=1e-4)


def test_scaling_the_logits_scales_the_temperature() -> None:
    logits, targets = calibrated(300)
    assert fit_temperature(logits * 4, targets) == pytest.approx(4 * fit_temperature(logits, targets), rel=1e-6)


def test_moving_all_logits_of_an_image_changes_nothing() -> None:
    logits, targets = calibrated(300)
    moved = logits + np.linspace(-500, 500, 300)[:, None]
    assert fit_temperature(moved, targets) == pytest.approx(fit_temperature(logits, targets), rel=1e-6)


def test_calibration_lowers_the_loss_and_the_error_on_other_images() -> None:
    validation, test = calibrated(2000, seed=2), calibrated(2000, seed=3)
    temperature = fit_temperature(validation[0] * 3, validation[1])
    before, after = score(test[0] * 3, test[1]), score(test[0] * 3, test[1], temperature=temperature)
    assert after.log_loss.mean() < before.log_loss.mean()
    errors = [calibration_error(reliability(scores.confidence, scores.correct)) for scores in (after, before)]
    assert errors[0] < errors[1]


def test_without_a_mistake_the_temperature_stays_1() -> None:
    logits, _ = calibrated(50)
    assert fit_temperature(logits, logits.argmax(axis=1)) == 1.0


def test_a_network_that_knows_nothing_gets_the_hottest_temperature() -> None:
    logits, _ = calibrated(400)
    assert fit_temperature(logits, logits.argmin(axis=1)) == HOTTEST


def test_timid_logits_stop_at_the_coldest_temperature() -> None:
    logits, targets = calibrated(400)
    assert fit_temperature(logits / 1000, targets) == COLDEST


def test_half_precision_logits_are_fitted_in_double_precision() -> None:
    logits, targets = calibrated(300)
    narrow = logits.astype(np.float16)
    assert fit_temperature(narrow, targets) == fit_temperature(narrow.astype(np.float64), targets)


def test_many_rows_are_worked_on_in_blocks_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, targets = calibrated(300)
    whole = fit_temperature(logits, targets)
    monkeypatch.setattr("sightline.evaluation.scores._BLOCK", 70)
    assert fit_temperature(logits, targets) == pytest.approx(whole, rel=1e-9)


def test_no_images_can_not_be_calibrated() -> None:
    with pytest.raises(DataError, match="no images"):
        fit_temperature(np.zeros((0, 3)), np.zeros(0, dtype=np.int64))


def test_a_diverged_network_is_named() -> None:
    logits, targets = calibrated(10)
    logits[4, 2] = np.nan
    with pytest.raises(ModelError, match="for 1 of 10 images"):
        fit_temperature(logits, targets)


def test_the_calibration_error_of_true_probabilities_is_near_0() -> None:
    scores = score(*calibrated(50_000))
    assert calibration_error(reliability(scores.confidence, scores.correct)) < 0.01


def test_the_calibration_error_is_the_mean_gap() -> None:
    # 0.9 sure and right half of the time, then 0.5 sure and always right: gaps of 0.4 and 0.5
    confidence = np.array([0.9, 0.9, 0.5, 0.5])
    correct = np.array([True, False, True, True])
    assert calibration_error(reliability(confidence, correct)) == pytest.approx(0.45)


def test_every_image_is_in_one_bin() -> None:
    scores = score(*calibrated(1000))
    bins = reliability(scores.confidence, scores.correct)
    assert len(bins) == 15
    assert sum(part.count for part in bins) == 1000
    assert all(part.low < part.confidence <= part.high for part in bins if part.confidence is not None)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below() -> None:
    bins = reliability(np.array([0.0, 0.5, 1.0]), np.array([True, True, True]), num_bins=2)
    assert [part.count for part in bins] == [2, 1]


def test_an_empty_bin_has_no_accuracy() -> None:
    bins = reliability(np.array([0.9]), np.array([True]), num_bins=2)
    assert (bins[0].confidence, bins[0].accuracy) == (None, None)
