from collections.abc import Callable
from dataclasses import replace

import numpy as np

from sightline.evaluation.metrics import evaluate_logits
from sightline.reports.notices import notices
from sightline.reports.report import Report

MakeReport = Callable[..., Report]


def of(report: Report, answers: list[int], targets: list[int]) -> list[str]:
    test = evaluate_logits(np.eye(3)[answers], np.array(targets), ("bee", "cat", "dog"))
    return notices(replace(report, test=test, audit=None))


def test_a_model_no_better_than_the_commonest_class_is_named(make_report: MakeReport) -> None:
    (sentence,) = (
        part for part in of(make_report(), [0] * 10 + [1, 2], [0] * 9 + [1, 2, 0]) if "always answering" in part
    )
    assert "'bee'" in sentence
    assert "83.3%" in sentence


def test_classes_without_images_are_named(make_report: MakeReport) -> None:
    assert any("1 class: 'dog'" in part for part in of(make_report(), [0, 1] * 30, [0, 1] * 30))


def test_classes_that_are_never_predicted_are_named(make_report: MakeReport) -> None:
    found = of(make_report(), [0, 1, 1] * 30, [0, 1, 2] * 30)
    assert found == ["Never predicted: 1 class: 'dog'."]


def test_leaks_say_what_they_do_to_the_accuracy(make_report: MakeReport) -> None:
    assert any("may be too high" in part for part in notices(make_report()))


def test_data_without_leaks_raises_no_doubt(make_report: MakeReport) -> None:
    report = make_report()
    assert report.audit is not None
    clean = replace(report, audit={**report.audit, "leaks": []})
    assert not any("may be too high" in part for part in notices(clean))
