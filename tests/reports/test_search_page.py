"""The page of a search: what was found and how sure it is, every trial, the charts."""

import json
from pathlib import Path
from typing import Any

import pytest

from sightline.errors import ModelError
from sightline.reports.search import render_search, write_search_report

SPACE = [
    {"setting": "optim.lr", "low": 0.001, "high": 1.0, "log": True, "choices": [], "text": "optim.lr=log:0.001..1"},
    {"setting": "batch_size", "low": 8.0, "high": 64.0, "log": False, "choices": [], "text": "batch_size=8..64"},
    {"setting": "model.activation", "low": 0, "high": 0, "log": False, "choices": ["relu", "silu"], "text": "..."},
]


def trial(number: int, value: float | None, state: str = "complete", **more: Any) -> dict[str, Any]:
    settings = [f"optim.lr={10 ** -(number % 4):g}", f"batch_size={8 + number}", "model.activation=silu"]
    return {
        "number": number,
        "state": state,
        "cost": None,
        "settings": settings,
        "value": value,
        "epochs": 3,
        "seconds": 12.5,
        "reason": "",
    } | more


def arm(mean: float | None, difference: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"mean": mean, "difference": difference}


def result(trials: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    finished = [row for row in trials if row["state"] == "complete"]
    best = max(finished, key=lambda row: row["value"], default=None)
    shares = {"optim.lr": 0.7, "batch_size": 0.3}
    return {
        "data": "photos",
        "space": SPACE,
        "trials": trials,
        "best": best,
        "importance": shares,
        "confirmed": None,
    } | more


TRIALS = [trial(0, 0.5), trial(1, 0.625), trial(2, 0.25, "pruned"), trial(3, None, "failed", reason="no <memory>")]


def test_the_best_trials_come_first_and_a_failure_tells_its_reason() -> None:
    page = render_search(result(TRIALS))
    rows = [page.index(f'<th scope="row" class="number">{number}</th>') for number in (1, 0, 2, 3)]
    assert rows == sorted(rows)
    assert "no &lt;memory&gt;" in page
    assert page.count("<figure") == 3


def test_a_best_that_was_not_trained_anew_is_said_to_be_partly_luck() -> None:
    page = render_search(result(TRIALS))
    assert "Trial 1 did best on the validation images: 62.50%." in page
    assert "how much of that is luck is not known" in page


@pytest.mark.parametrize(
    ("verdict", "words"),
    [("better", "It is better: +2.0 points (+1.0 to +3.0)."), ("not told apart", "They are not told apart")],
)
def test_fresh_seeds_say_how_sure_it_is(verdict: str, words: str) -> None:
    difference = {"mean": 0.02, "low": 0.01, "high": 0.03, "verdict": verdict}
    confirmed = {"arms": [arm(0.58), arm(0.60, difference)], "seeds": [1, 2, 3]}
    page = render_search(result(TRIALS, confirmed=confirmed))
    assert "Trained anew with 3 fresh seeds it reached 60.00%, the recipe as it was 58.00%." in page
    assert words in page


def test_a_search_without_a_finished_trial_has_no_charts() -> None:
    page = render_search(result([TRIALS[3]], importance={}))
    assert "No trial finished" in page
    assert "<figure" not in page


def test_a_single_setting_needs_no_parallel_lines() -> None:
    rows = [trial(0, 0.5, settings=["optim.lr=0.1"]), trial(1, 0.6, settings=["optim.lr=0.2"])]
    page = render_search(result(rows, space=SPACE[:1], importance={}))
    assert page.count("<figure") == 1


def test_the_page_is_written_beside_its_figures(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"tune\.json' can't be read"):
        write_search_report(tmp_path)
    (tmp_path / "tune.json").write_text(json.dumps(result(TRIALS)))
    assert write_search_report(tmp_path).read_text().startswith("<!doctype html>")


def test_a_search_with_two_aims_shows_its_front_and_each_trial_s_cost() -> None:
    trials = [trial(0, 0.5, cost=0.004), trial(1, 0.625, cost=0.008), trial(2, 0.4, cost=0.0065)]
    page = render_search(result(trials, against="latency", under=None, front=[0, 1]))
    assert "on the front: trial 0 50.0%; trial 1 62.5%." in page
    assert "Milliseconds" in page
    assert ">6.5<" in page


def test_a_limit_that_no_trial_keeps_to_is_told() -> None:
    found = result([trial(0, 0.5, cost=0.004)], against="latency", under=0.001, front=[0]) | {"best": None}
    assert "No trial that finished costs as little as was asked for." in render_search(found)
