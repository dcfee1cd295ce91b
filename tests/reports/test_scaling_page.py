"""The page of a scaling search, and of a choice among networks."""

import json
from pathlib import Path
from typing import Any

import pytest

from sightline.errors import ModelError
from sightline.reports.scaling import render_scaling, sentences, write_scaling_report


def contestant(
    name: str, cost: float, *runs: float, difference: tuple[float, float, float] | None = None
) -> dict[str, Any]:
    return {
        "candidate": {"name": name, "settings": [f"model.name={name}"], "cost": cost},
        "found": {"runs": [{"val": run} for run in runs], "failures": [] if runs else ["seed 0: no <memory>"]},
        "mean": sum(runs) / len(runs) if runs else None,
        "difference": None if difference is None else dict(zip(("mean", "low", "high"), difference, strict=True)),
    }


def contest(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"figure": "accuracy", "seeds": [1, 2], "contestants": list(rows)}


RULE: dict[str, Any] = {
    "kind": "rule",
    "data": "photos",
    "network": "resnet20",
    "cost": "macs",
    "engine": "torch",
    "step": 2.0,
    "budget": 4.0,
    "rule": {"alpha": 1.414, "beta": 1.0, "gamma": 1.189},
    "best": {"name": "depth and resolution", "settings": ["model.depth=1.414"], "cost": 80e6},
    "search": contest(contestant("depth and resolution", 80e6, 0.7), contestant("width alone", 82e6, 0.6)),
    "confirmed": contest(
        contestant("depth and resolution", 80e6, 0.70, 0.72),
        contestant("width alone", 82e6, 0.60, 0.62, difference=(0.1, 0.05, 0.15)),
        contestant("depth alone", 81e6, 0.70, 0.70, difference=(0.01, -0.05, 0.07)),
        contestant("the paper's rule", 79e6),
    ),
}
CHOICE: dict[str, Any] = {
    "kind": "choice",
    "data": "photos",
    "cost": "latency",
    "engine": "onnx",
    "budget": 0.005,
    "left_out": [{"name": "resnet<152>", "settings": [], "cost": 0.05}],
    "best": {"name": "resnet18", "settings": ["model.name=resnet18"], "cost": 0.004},
    "search": contest(contestant("resnet18", 0.004, 0.7), contestant("resnet20", 0.001, 0.5)),
    "confirmed": None,
}


def test_the_rule_is_told_for_each_doubling_and_each_rival_by_its_interval() -> None:
    rule, *rivals = sentences(RULE)
    assert "1.41 times as deep, 1.00 times as wide, images 1.19 times as large" in rule
    assert rivals == [
        "With fresh seeds depth and resolution is better than width alone: +10.0 points (+5.0 to +15.0).",
        "With fresh seeds depth and resolution is not told apart from depth alone: +1.0 points (-5.0 to +7.0).",
    ]


def test_rows_stand_best_first_and_a_failure_tells_its_reason() -> None:
    page = render_scaling(RULE)
    table = page[page.index("Trained with fresh seeds, the best first") :]
    places = [table.index(f'<th scope="row">{name}</th>') for name in ("depth and resolution", "depth alone")]
    assert places == sorted(places)
    assert "no &lt;memory&gt;" in page
    assert page.count("<figure>") == 2


def test_a_choice_says_what_was_over_the_budget_and_that_luck_is_not_known() -> None:
    page = render_scaling(CHOICE)
    assert "Which network within 5.00 ms" in page
    assert "resnet&lt;152&gt;" in page
    assert "how much of that is luck is not known" in page
    assert "resnet18 did best of those within 5.00 ms. As the best of 2 it owes a part of that to luck." in page


def test_a_tie_is_told() -> None:
    tie = contest(contestant("resnet18", 0.004, 0.7), contestant("resnet20", 0.001, 0.7))
    said, *_ = sentences(CHOICE | {"search": tie})
    assert said == "Within 5.00 ms resnet18 and resnet20 did best, all alike: resnet18 was taken."
    alike = contest(contestant("resnet18", 0.004, 0.7), contestant("resnet20", 0.004, 0.7))
    assert ">1, 2<" in render_scaling(CHOICE | {"search": alike})
    assert ">1, 2<" not in render_scaling(CHOICE | {"search": tie})


def test_the_page_is_written_beside_the_figures(tmp_path: Path) -> None:
    (tmp_path / "scale.json").write_text(json.dumps(RULE))
    assert write_scaling_report(tmp_path).read_text() == render_scaling(json.loads(json.dumps(RULE)))


def test_a_folder_without_a_search_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"scale\.json"):
        write_scaling_report(tmp_path)
