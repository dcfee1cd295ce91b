"""The gate: what is close enough, and what is said of the rest."""

from dataclasses import replace

import numpy as np
import pytest

from sightline.exporting.parity import Answers, measure, spread
from sightline.formats import BF16, FLOAT32


def answers(change: float = 0.0, *, count: int = 300) -> Answers:
    """Logits of spread 1 to 2; those of the export are moved by up to `change` of the spread."""
    draws = np.random.default_rng(0)
    reference = draws.normal(0, 2, (count, 5)).astype(np.float32)
    moved = reference + change * spread(reference) * draws.uniform(-1, 1, reference.shape).astype(np.float32)
    return Answers(
        reference=reference,
        exported=moved,
        batch_sizes=np.resize([1, 4, 7], count),
        reference_yes=_likeliest(reference),
        exported_yes=_likeliest(moved),
        truth=_likeliest(reference),
        num_images=count,
    )


def _likeliest(logits: np.ndarray) -> np.ndarray:
    return np.arange(logits.shape[1]) == logits.argmax(axis=1)[:, None]


def test_equal_answers_pass_with_nothing_between_them() -> None:
    parity = measure(answers(), images="300 images", tolerance=FLOAT32)
    assert (parity.max_difference, parity.disagreements, parity.failures) == (0.0, 0, ())
    assert parity.by_batch_size == {"1": 0.0, "4": 0.0, "7": 0.0}
    assert str(parity.paired).startswith("+0.0 points")


@pytest.mark.parametrize(("change", "passes"), [(1e-4, True), (1e-2, False)])
def test_differences_are_measured_in_the_logits_spread(change: float, passes: bool) -> None:
    parity = measure(answers(change), images="", tolerance=FLOAT32)
    thousandfold = replace(answers(change), reference=1000 * answers(change).reference)
    larger = measure(replace(thousandfold, exported=1000 * answers(change).exported), images="", tolerance=FLOAT32)
    assert (parity.failures == ()) == (larger.failures == ()) == passes


def test_every_reason_is_named() -> None:
    parity = measure(answers(4.0), images="", tolerance=FLOAT32)
    said = "; ".join(parity.failures)
    assert "logits differ by at most" in said
    assert "on average by" in said
    assert "answers differ, where 1 may" in said
    assert "accuracy changed by -" in said


def test_one_image_may_always_be_answered_differently() -> None:
    given = answers(count=8)
    exported_yes = given.exported_yes.copy()
    exported_yes[0] = np.roll(exported_yes[0], 1)
    assert measure(replace(given, exported_yes=exported_yes), images="", tolerance=FLOAT32).failures == ()
    exported_yes[1] = np.roll(exported_yes[1], 1)
    [said] = measure(replace(given, exported_yes=exported_yes), images="", tolerance=FLOAT32).failures
    assert said == "2 of 8 answers differ, where 1 may"


def test_bf16_may_move_logits_but_not_answers() -> None:
    assert measure(answers(0.01), images="", tolerance=BF16).failures == ()
    assert measure(answers(2.0), images="", tolerance=BF16).failures != ()


def test_a_temperature_that_was_left_out_of_the_graph_fails() -> None:
    parity = measure(replace(answers(), probability_difference=0.1), images="", tolerance=FLOAT32)
    assert parity.failures == ("its probabilities are off by up to 0.1",)


def test_no_number_at_all_fails() -> None:
    given = answers()
    broken = measure(replace(given, exported=np.full_like(given.exported, np.nan)), images="", tolerance=FLOAT32)
    assert len(broken.failures) == 2


def test_repeated_images_count_for_the_differences_alone() -> None:
    given = replace(answers(count=12), num_images=5)
    parity = measure(given, images="", tolerance=FLOAT32)
    assert (parity.num_images, parity.original_accuracy.value) == (5, 1.0)
    assert set(parity.by_batch_size) == {"1", "4", "7"}
