import json

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics as reference

from sightline.errors import DataError, ModelError
from sightline.evaluation.calibration import Logits, Targets, calibration_error, reliability
from sightline.evaluation.intervals import wilson
from sightline.evaluation.metrics import Evaluation, evaluate_logits
from sightline.evaluation.scores import score

CLASSES = ("bee", "cat", "dog", "eel", "fox", "gnu", "hen")


def some(num_images: int = 400, num_classes: int = len(CLASSES)) -> tuple[Logits, Targets]:
    random = np.random.default_rng(7)
    targets = random.integers(num_classes, size=num_images)
    logits = random.normal(size=(num_images, num_classes))
    logits[np.arange(num_images), targets] += 1.5
    return logits.astype(np.float32), targets


def evaluate_some() -> Evaluation:
    return evaluate_logits(*some(), CLASSES, temperature=0.7)


def test_the_figures_are_scikit_learns() -> None:
    logits, targets = some()
    evaluation = evaluate_logits(logits, targets, CLASSES)
    expected = reference.classification_report(
        targets, logits.argmax(axis=1), target_names=list(CLASSES), output_dict=True
    )
    assert evaluation.accuracy.value == pytest.approx(expected["accuracy"])
    for figures in evaluation.classes:
        assert figures.recall is not None
        row = expected[figures.name]
        assert (figures.precision, figures.recall.value, figures.f1, figures.support) == pytest.approx(
            (row["precision"], row["recall"], row["f1-score"], row["support"])
        )
    for name, averages in (("macro avg", evaluation.macro), ("weighted avg", evaluation.weighted)):
        row = expected[name]
        assert (averages.precision, averages.recall, averages.f1) == pytest.approx(
            (row["precision"], row["recall"], row["f1-score"])
        )


def test_the_confusion_matrix_is_scikit_learns() -> None:
    logits, targets = some()
    expected = reference.confusion_matrix(targets, logits.argmax(axis=1))
    assert (evaluate_logits(logits, targets, CLASSES).confusion_matrix == expected).all()


def test_log_loss_and_brier_score_are_scikit_learns() -> None:
    logits, targets = some()
    probabilities = softmax(logits.astype(np.float64) / 0.7, axis=1)
    figures = evaluate_logits(logits, targets, CLASSES, temperature=0.7).calibrated
    assert figures.log_loss == pytest.approx(reference.log_loss(targets, probabilities))
    assert figures.brier == pytest.approx(
        reference.brier_score_loss(targets, probabilities, scale_by_half=False, labels=range(len(CLASSES)))
    )


def test_top_5_is_scikit_learns() -> None:
    logits, targets = some()
    top5 = evaluate_logits(logits, targets, CLASSES).top5
    assert top5 is not None
    assert top5.value == pytest.approx(reference.top_k_accuracy_score(targets, logits, k=5))


def test_five_classes_have_no_top_5() -> None:
    assert evaluate_logits(*some(num_classes=5), CLASSES[:5]).top5 is None


def test_equal_logits_are_not_right_five_times_in_seven_by_chance_of_their_order() -> None:
    targets = np.arange(7)
    evaluation = evaluate_logits(np.zeros((7, 7)), targets, CLASSES)
    assert evaluation.accuracy.value == pytest.approx(1 / 7)
    assert evaluation.top5 is not None
    assert evaluation.top5.value == pytest.approx(5 / 7)


def test_accuracy_and_recalls_carry_wilsons_interval() -> None:
    logits, targets = some()
    right = logits.argmax(axis=1) == targets
    evaluation = evaluate_logits(logits, targets, CLASSES)
    assert evaluation.accuracy == wilson(int(right.sum()), len(targets))
    of_class = targets == 3
    assert evaluation.classes[3].recall == wilson(int(right[of_class].sum()), int(of_class.sum()))


def test_the_temperature_moves_probabilities_and_not_predictions() -> None:
    logits, targets = some()
    plain, warm = evaluate_logits(logits, targets, CLASSES), evaluate_logits(logits, targets, CLASSES, temperature=3)
    assert plain.confusion == warm.confusion
    assert plain.calibrated == plain.uncalibrated == warm.uncalibrated
    assert warm.calibrated.log_loss != plain.calibrated.log_loss


def test_the_calibration_error_is_the_one_of_its_bins() -> None:
    logits, targets = some()
    scores = score(logits, targets)
    figures = evaluate_logits(logits, targets, CLASSES).uncalibrated
    assert figures.calibration_error == calibration_error(reliability(scores.confidence, scores.correct))
    assert sum(part.count for part in figures.bins) == len(targets)


def test_a_class_without_images_has_no_figures_and_no_part_in_the_averages() -> None:
    logits, targets = some()
    keep = targets != 2
    evaluation = evaluate_logits(logits[keep], targets[keep], CLASSES)
    absent = evaluation.classes[2]
    assert (absent.support, absent.precision, absent.recall, absent.f1) == (0, None, None, None)
    assert evaluation.absent == ("dog",)
    present = [figures.recall.value for figures in evaluation.classes if figures.recall is not None]
    assert evaluation.macro.recall == pytest.approx(np.mean(present))


def test_a_class_that_is_never_predicted_has_precision_0() -> None:
    evaluation = evaluate_logits(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([0, 1]), ("bee", "cat"))
    assert (evaluation.classes[1].precision, evaluation.classes[1].f1) == (0.0, 0.0)


def test_the_worst_mistakes_are_the_most_confident_ones() -> None:
    logits = np.array([[5.0, 0, 0], [0, 9.0, 0], [0, 0, 7.0], [3.0, 0, 0]])
    evaluation = evaluate_logits(logits, np.array([0, 0, 1, 2]), ("bee", "cat", "dog"), paths=tuple("abcd"))
    assert [(part.path, part.target, part.predicted) for part in evaluation.mistakes] == [
        ("b", "bee", "cat"),
        ("c", "cat", "dog"),
        ("d", "dog", "bee"),
    ]
    worst = evaluation.mistakes[0]
    probabilities = softmax(logits[1])
    assert (worst.confidence, worst.target_probability) == pytest.approx((probabilities[1], probabilities[0]))


def test_no_more_mistakes_are_listed_than_asked_for() -> None:
    assert len(evaluate_logits(*some(), CLASSES, num_mistakes=3).mistakes) == 3


def test_confused_pairs_come_most_frequent_first() -> None:
    targets = np.array([0, 0, 0, 1, 1, 2])
    logits = np.eye(3)[[1, 1, 0, 2, 1, 2]]
    pairs = evaluate_logits(logits, targets, ("bee", "cat", "dog")).confused_pairs()
    assert [(pair.target, pair.predicted, pair.count, pair.share) for pair in pairs] == [
        ("bee", "cat", 2, pytest.approx(2 / 3)),
        ("cat", "dog", 1, pytest.approx(1 / 2)),
    ]


def test_json_keeps_every_figure() -> None:
    evaluation = evaluate_some()
    text = json.dumps(evaluation.to_json(), allow_nan=False)
    assert Evaluation.from_json(json.loads(text)) == evaluation


def test_equal_logits_give_equal_json() -> None:
    assert json.dumps(evaluate_some().to_json()) == json.dumps(evaluate_some().to_json())


def test_an_empty_class_is_null_in_json() -> None:
    evaluation = evaluate_logits(np.array([[1.0, 0.0]]), np.array([0]), ("bee", "cat"))
    assert json.loads(json.dumps(evaluation.to_json(), allow_nan=False))["classes"][1]["recall"] is None


def test_foreign_json_is_refused_with_the_place() -> None:
    value = evaluate_some().to_json()
    value["accuracy"]["low"] = "much"
    with pytest.raises(ModelError, match=r"accuracy\.low"):
        Evaluation.from_json(value)


def test_a_network_that_diverged_is_refused() -> None:
    logits, targets = some()
    logits[[3, 5]] = np.inf
    with pytest.raises(ModelError, match="for 2 of 400 images"):
        evaluate_logits(logits, targets, CLASSES)


def test_no_images_are_refused() -> None:
    with pytest.raises(DataError, match="no images"):
        evaluate_logits(np.zeros((0, 7)), np.zeros(0, dtype=np.int64), CLASSES)


def test_a_wrong_number_of_class_names_is_refused() -> None:
    with pytest.raises(ValueError, match="Expected 7 different class names, got 6"):
        evaluate_logits(*some(), CLASSES[:6])


def test_enormous_logits_give_finite_figures() -> None:
    evaluation = evaluate_logits(np.array([[1e4, -1e4], [-1e4, 1e4]]), np.array([0, 0]), ("bee", "cat"))
    assert evaluation.calibrated.log_loss == pytest.approx(1e4)
