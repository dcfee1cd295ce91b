"""A study as one page, from its study.json."""

from pathlib import Path
from typing import Any

import yaml

from sightline.reports.html import page_template, write_page
from sightline.reports.study_figures import courses, crossing, dots, gradients_by_stage


def write_study_report(folder: Path) -> Path:
    """Write `study.html` beside a study's `study.json`, and return its path. Raises ModelError where there is none."""
    return write_page(folder, "study", render_study)


def render_study(result: dict[str, Any]) -> str:
    """The page's text. Equal results give equal pages."""
    arms: list[dict[str, Any]] = result["arms"]
    ended = [arm for arm in arms if arm["mean"] is not None]
    figure = result["figure"].replace("_", " ")
    charts = [
        courses(ended, "val_accuracy", f"Validation {figure}", percent=True),  # so called whatever the figure is
        courses(ended, "val_loss", "Validation loss", percent=False),
        courses(ended, "train_loss", "Training loss", percent=False),
        gradients_by_stage(ended, "gradient_norm", "Gradient norm, first epoch", percent=False),
        gradients_by_stage(ended, "dead", "Dead units, first epoch", percent=True),
        gradients_by_stage(ended, "saturated", "Saturated values, first epoch", percent=True),
    ]
    return page_template("study.html.j2").render(
        result=result,
        figure=figure,
        arms=arms,
        baseline=arms[0]["name"],
        sentences=_sentences(arms),
        dots=dots(arms, figure) if ended else None,
        crossing=crossing(arms, result["factors"], figure) if ended and len(result["factors"]) == 2 else None,
        charts=[chart for chart in charts if chart is not None],
        held=yaml.safe_dump(result["recipe"], sort_keys=False, allow_unicode=True, default_flow_style=None, width=100),
    )


def _sentences(arms: list[dict[str, Any]]) -> list[str]:
    """What the intervals say, arm by arm, the surest first."""
    baseline = arms[0]["name"]
    if arms[0]["mean"] is None:
        return [f"The baseline {baseline} failed, so nothing can be compared with it."]
    told = [arm for arm in arms if arm["difference"] is not None and arm["difference"]["low"] is not None]
    found = [
        f"{arm['name']} is {arm['difference']['verdict']} than {baseline}: {points(arm['difference'])}."
        for arm in sorted(told, key=lambda arm: -abs(arm["difference"]["mean"]))
        if arm["difference"]["verdict"] in ("better", "worse")
    ]
    unsure = [arm["name"] for arm in told if arm["difference"]["verdict"] == "not told apart"]
    if unsure:
        found.append(f"Not told apart from {baseline} by these runs: {', '.join(unsure)}.")
    if not told and len(arms) > 1:
        found.append("With fewer than two runs of an arm nothing can be said about chance. Pass --repeats 3.")
    return found


def luck(number: int) -> str:
    """What to hold of the best of so many."""
    return f"As the best of {number} it owes a part of that to luck." if number > 1 else "There was no other."


def points(difference: dict[str, Any]) -> str:
    """A difference with its interval, in percentage points."""
    low, high = difference["low"] * 100, difference["high"] * 100
    return f"{difference['mean'] * 100:+.1f} points ({low:+.1f} to {high:+.1f})"
