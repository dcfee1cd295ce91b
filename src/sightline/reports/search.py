"""A search as one page, from its tune.json."""

from pathlib import Path
from typing import Any

from sightline.reports.html import page_template, write_page
from sightline.reports.search_figures import front, history, importance, parallel
from sightline.reports.study import luck, points


def write_search_report(folder: Path) -> Path:
    """Write `tune.html` beside a search's `tune.json`, and return its path. Raises ModelError where there is none."""
    return write_page(folder, "tune", render_search)


def render_search(result: dict[str, Any]) -> str:
    """The page's text. Equal results give equal pages."""
    trials: list[dict[str, Any]] = result["trials"]
    charts = [
        front(trials, result.get("against"), result.get("front", ())),
        history(trials),
        importance(result["importance"]),
    ]
    order = {"complete": 0, "pruned": 1, "failed": 2, "running": 3}
    return page_template("search.html.j2").render(
        result=result,
        trials=sorted(trials, key=lambda trial: (order[trial["state"]], -(trial["value"] or 0), trial["number"])),
        sentences=_sentences(result),
        charts=[chart for chart in charts if chart is not None],
        parallel=parallel(trials, result["space"]),
    )


def _sentences(result: dict[str, Any]) -> list[str]:
    """What was found, in words."""
    best = result["best"]
    if best is None:
        if any(trial["state"] == "complete" for trial in result["trials"]):
            return ["No trial that finished costs as little as was asked for."]
        return ["No trial finished, so there is nothing to compare."]
    finished = sum(trial["state"] == "complete" for trial in result["trials"])
    found = [f"Trial {best['number']} did best on the validation images: {best['value']:.2%}. {luck(finished)}"]
    if result.get("recipe_is_best"):
        return [*found, "Its settings are the recipe's own: no trial beat what there was."]
    if result["confirmed"] is None:
        return [*found, "It was not trained anew with fresh seeds, so how much of that is luck is not known."]
    recipe, again = result["confirmed"]["arms"]
    if recipe["mean"] is None or again["mean"] is None or again["difference"] is None:
        return [*found, "Trained anew with fresh seeds, a run failed."]
    seeds = len(result["confirmed"]["seeds"])
    fresh = f"{seeds} fresh seed{'' if seeds == 1 else 's'}"
    before, now = f"{recipe['mean']:.2%}", f"{again['mean']:.2%}"
    found.append(f"Trained anew with {fresh} it reached {now}, the recipe as it was {before}.")
    if again["difference"]["low"] is not None:
        words = {"better": "It is better", "worse": "It is worse", "not told apart": "They are not told apart"}
        found.append(f"{words[again['difference']['verdict']]}: {points(again['difference'])}.")
    return found
