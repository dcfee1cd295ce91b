"""A search for a scaling rule, or a choice among networks, as one page from its scale.json."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from sightline.reports.figures import ACCENT, INK, MUTED, STYLE, label_points, svg
from sightline.reports.front import unbeaten
from sightline.reports.html import page_template, write_page
from sightline.reports.study import luck, points

Rows = list[dict[str, Any]]


def write_scaling_report(folder: Path) -> Path:
    """Write `scale.html` beside `scale.json`, and return its path. Raises ModelError where there is none."""
    return write_page(folder, "scale", render_scaling)


def render_scaling(result: dict[str, Any]) -> str:
    """The page's text. Equal results give equal pages."""
    rounds = [
        (title, seeds, _rows(result[key], result), _chart(result[key], result, key))
        for key, title, seeds in (
            ("confirmed", "Trained with fresh seeds", "The fair comparison: no run before had these seeds."),
            ("search", "What was searched", "The best of several is partly luck, which fresh seeds take away again."),
        )
        if result[key] is not None
    ]
    return page_template("scaling.html.j2").render(
        result=result, title=_title(result), sentences=sentences(result), rounds=rounds, budget=_budget(result)
    )


def sentences(result: dict[str, Any]) -> list[str]:
    """What was found, in words."""
    best, confirmed = result["best"], result["confirmed"]
    found: list[str] = []
    if result["kind"] == "rule":
        rule = result["rule"]
        found.append(
            f"For each doubling of the cost: {rule['alpha']:.2f} times as deep, {rule['beta']:.2f} times as wide, "
            f"images {rule['gamma']:.2f} times as large ({best['name']})."
        )
    else:
        found.append(_chosen(result))
    if confirmed is None:
        return [*found, "It was not trained anew with fresh seeds, so how much of that is luck is not known."]
    for row in confirmed["contestants"]:
        difference = row["difference"]
        if difference is not None and difference["low"] is not None:
            verdict = "not told apart from"
            if not difference["low"] <= 0 <= difference["high"]:
                verdict = "better than" if difference["low"] > 0 else "worse than"
            name = row["candidate"]["name"]
            found.append(f"With fresh seeds {best['name']} is {verdict} {name}: {points(difference)}.")
    return found


def _chosen(result: dict[str, Any]) -> str:
    """Which network was taken, and how far it was ahead of the others."""
    name, budget = result["best"]["name"], _budget(result)
    means = {
        row["candidate"]["name"]: row["mean"] for row in result["search"]["contestants"] if row["mean"] is not None
    }
    if len(means) < 2:
        return f"Of those within {budget} none but {name} could be trained: nothing was chosen."
    equals = [other for other, mean in means.items() if mean == means[name] and other != name]
    if equals:
        return f"Within {budget} {' and '.join([name, *equals])} did best, all alike: {name} was taken."
    return f"{name} did best of those within {budget}. {luck(len(means))}"


def _title(result: dict[str, Any]) -> str:
    if result["kind"] == "rule":
        return f"Scaling {result['network']} to {result['budget']:g} times its cost"
    return f"Which network within {_budget(result)}"


def _budget(result: dict[str, Any]) -> str:
    return f"{result['budget']:g} times the base" if result["kind"] == "rule" else _words(result["budget"], result)


def _words(cost: float, result: dict[str, Any]) -> str:
    return f"{cost / 1e6:.1f} M MACs" if result["cost"] == "macs" else f"{cost * 1e3:.2f} ms"


def _rows(contest: dict[str, Any], result: dict[str, Any]) -> Rows:
    """Of the table, the best first."""
    rows = [
        {
            "name": row["candidate"]["name"],
            "settings": " ".join(row["candidate"]["settings"]),
            "cost": _words(row["candidate"]["cost"], result),
            "mean": row["mean"],
            "runs": _runs(row),
            "difference": None
            if row["difference"] is None or row["difference"]["low"] is None
            else points(row["difference"]),
            "failures": row["found"]["failures"],
        }
        for row in contest["contestants"]
    ]
    return sorted(rows, key=lambda row: -(row["mean"] or 0.0))


def _runs(row: dict[str, Any]) -> list[float]:
    return [run["val"] for run in row["found"]["runs"]]


def _chart(contest: dict[str, Any], result: dict[str, Any], name: str) -> Markup | None:
    """Accuracy against cost, a ring for each run and a dot for their mean; Pareto's front as a line."""
    rows = [row for row in contest["contestants"] if row["mean"] is not None]
    if len(rows) < 2:
        return None
    unit = 1e6 if result["cost"] == "macs" else 1e-3
    front = unbeaten(rows, lambda row: row["candidate"]["cost"], lambda row: row["mean"])
    numbers = {row["name"]: number for number, row in enumerate(_rows(contest, result), 1)}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 3.4), layout="constrained")
        axes = figure.subplots()
        axes.step(
            [row["candidate"]["cost"] / unit for row in front],
            [row["mean"] for row in front],
            where="post",
            color=MUTED,
            linewidth=0.9,
        )
        labels: list[tuple[float, float, str]] = []
        for row in rows:
            place = row["candidate"]["cost"] / unit
            axes.plot([place] * len(_runs(row)), _runs(row), "o", color=ACCENT, markersize=5, fillstyle="none")
            axes.plot([place], [row["mean"]], "o", color=INK, markersize=4)
            labels.append((place, row["mean"], f"{numbers[row['candidate']['name']]}"))
        axes.margins(x=0.12)
        label_points(axes, labels)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.set_xlabel("Million multiply-accumulates" if result["cost"] == "macs" else "Milliseconds, this machine")
        axes.set_ylabel(f"Validation {contest['figure'].replace('_', ' ')}")
        words = "; ".join(f"{row['candidate']['name']} {row['mean']:.1%}" for row in rows)
        return svg(figure, f"pareto-{name}", f"Accuracy against cost; numbers are the table's rows: {words}.")
