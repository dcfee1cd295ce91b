"""The page of a study: what it says and draws where arms failed, differ in their stages, or have several labels."""

import re
from typing import Any

import pytest
from matplotlib.axes import Axes

from sightline.reports.study import render_study
from sightline.reports.study_figures import dots, gradients_by_stage, in_one_order


def run(val: float, stages: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "val": val,
        "curve": [{"epoch": epoch, "val_accuracy": val, "val_loss": 1.0, "train_loss": 1.0} for epoch in (1.0, 2.0)],
        "gradients": [
            {"epoch": 1.0, "stage": stage, "gradient_norm": 0.1, "dead": 0.5, "saturated": None} for stage in stages
        ],
    }


def arm(name: str, *runs: dict[str, Any], difference: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "arm": {"labels": [name], "settings": []},
        "runs": list(runs),
        "failures": [] if runs else ["seed 0: no memory"],
        "difference": difference,
        "mean": sum(run["val"] for run in runs) / len(runs) if runs else None,
        "deviation": None,
        "gap": 0.0 if runs else None,
        "seconds": 1.0 if runs else None,
        "memory": 1 if runs else None,
    }


def result(*arms: dict[str, Any], figure: str = "accuracy") -> dict[str, Any]:
    return {
        "question": "?",
        "data": "photos",
        "figure": figure,
        "factors": [{"name": "arm", "levels": []}],
        "seeds": [0],
        "recipe": {},
        "side_by_side": 1,
        "arms": list(arms),
    }


def test_a_baseline_that_failed_is_said_and_no_other_arm_takes_its_place() -> None:
    page = render_study(result(arm("first"), arm("second", run(0.5))))
    assert "The baseline first failed, so nothing can be compared with it." in page
    assert "--repeats" not in page
    assert "dashed" not in page
    assert page.count("<td>baseline</td>") == 1


def test_without_failures_more_runs_are_advised_and_the_dashed_line_is_explained() -> None:
    page = render_study(result(arm("first", run(0.5)), arm("second", run(0.5))))
    assert "Pass --repeats 3." in page
    assert "the dashed line the baseline's mean." in page


def test_the_dashed_line_is_the_first_arm_s_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[float] = []
    monkeypatch.setattr(Axes, "axvline", lambda _axes, place, **_: drawn.append(place))
    dots([arm("first"), arm("second", run(0.5))], "accuracy")
    assert drawn == []
    dots([arm("first", run(0.4)), arm("second", run(0.5))], "accuracy")
    assert drawn == [0.4]


def test_several_labels_an_image_have_their_validation_chart() -> None:
    page = render_study(result(arm("first", run(0.5)), arm("second", run(0.5)), figure="mean_average_precision"))
    assert re.search('aria-label="Validation mean average precision by epoch', page)


def test_arms_with_different_stages_share_one_axis() -> None:
    shallow, deep = ("stem", "layer1", "head"), ("stem", "layer1", "layer2", "head")
    arms = [arm("shallow", run(0.5, shallow)), arm("deep", run(0.5, deep))]
    chart = gradients_by_stage(arms, "gradient_norm", "Gradient norm", percent=False)
    assert chart is not None
    assert "layer2" in chart


@pytest.mark.parametrize(
    ("orders", "expected"),
    [
        (["ach", "abch"], "abch"),
        (["abch", "ach"], "abch"),
        (["ab", "xy"], "xyab"),
        (["", "ab"], "ab"),
        (["ab", "ba"], "ab"),
        ([], ""),
    ],
)
def test_each_name_stands_once_after_the_one_it_follows(orders: list[str], expected: str) -> None:
    assert "".join(in_one_order(orders)) == expected


def test_an_arm_may_be_called_anything() -> None:
    arms = [{"name": name, "mean": 0.5, "runs": [{"val": 0.5}]} for name in (r"L2 \w decay", r"\1 <b>")]
    assert r'aria-label="Validation accuracy, a ring for each run: L2 \w decay 50.0%; \1 &lt;b&gt; 50.0%."' in dots(
        arms, "accuracy"
    )
