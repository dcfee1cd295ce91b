"""One HTML page about a model, in one file: no outside request, no script, light and dark, for screen and print."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from sightline.errors import ModelError
from sightline.evaluation.metrics import Evaluation
from sightline.evaluation.multilabel import MultiLabelEvaluation
from sightline.files import write_text
from sightline.reports.audit import audit_tables
from sightline.reports.confusion import MAX_TABLE_CLASSES, classes_a_dot, heat_map, table_rows
from sightline.reports.facts import tables
from sightline.reports.figures import curves, reliability_diagram
from sightline.reports.gradient_figures import gradient_charts
from sightline.reports.notices import notices
from sightline.reports.report import Report
from sightline.reports.thumbnails import data_uri


def write_report(path: Path, report: Report) -> None:
    """Write the page, whole or not at all. Raises SightlineError when it can't be written."""
    write_text(path, render(report))


def render(report: Report) -> str:
    """The page's text. Equal reports give equal pages."""
    evaluation = report.test
    labels = isinstance(evaluation, MultiLabelEvaluation)
    axes = ("Probability", "Has the label", "Answers") if labels else ("Confidence", "Accuracy", "Images")
    temperature = evaluation.calibrated.temperature
    reliability = [(f"At the model's temperature, {temperature:.3g}", evaluation.calibrated, "calibrated")]
    if temperature != 1:
        reliability.insert(0, ("Before calibration, at temperature 1", evaluation.uncalibrated, "uncalibrated"))
    return page_template("multilabel.html.j2" if labels else "report.html.j2").render(
        report=report,
        test=evaluation,
        notices=notices(report),
        labels=labels,
        measure="mean average precision" if labels else "accuracy",
        gradient_charts=gradient_charts(report.gradients),
        charts=curves(report.history, accuracy="Mean average precision" if labels else "Accuracy"),
        reliability=[
            (words, part, reliability_diagram(part, name=name, axes=axes)) for words, part, name in reliability
        ],
        **(_labels(evaluation) if isinstance(evaluation, MultiLabelEvaluation) else _confusion(evaluation)),
        pictures=[(part.mistake, part.image and data_uri(part.image)) for part in report.mistakes],
        audit=audit_tables(report.audit) if report.audit else [],
        environment=tables(report.environment or {}),
    )


def _confusion(evaluation: Evaluation) -> dict[str, object]:
    """What the page of one label an image has of its own."""
    small = len(evaluation.classes) <= MAX_TABLE_CLASSES
    return {
        "headline": evaluation.accuracy,
        "matrix": table_rows(evaluation) if small else None,
        "heat_map": None if small else heat_map(evaluation),
        "classes_a_dot": classes_a_dot(evaluation),
        "pairs": evaluation.confused_pairs(12),
        "intervals": "Accuracies and recalls carry Wilson's 95% interval;",
    }


def _labels(evaluation: MultiLabelEvaluation) -> dict[str, object]:
    """What the page of several labels an image has of its own."""
    return {
        "headline": f"mean average precision {evaluation.mean_average_precision}",
        "intervals": (
            "Average precisions, F1 and Hamming loss carry a 95% interval bootstrapped over the images, recalls and "
            "the exact match Wilson's;"
        ),
    }


def compact(number: float) -> str:
    """A large count for reading: 11173962 is "11.2 million"."""
    for size, name in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if number >= size:
            return f"{number / size:.3g} {name}"
    return f"{number:g}"


def percent(share: float | None, digits: int = 1) -> str:
    """0.913 is "91.3%"; a missing figure is a dash."""
    return "–" if share is None else f"{share:.{digits}%}"


def figure(value: float | None, digits: int = 4) -> str:
    """A number with that many significant digits; a missing one is a dash."""
    return "–" if value is None else f"{value:.{digits}g}"


def page_template(name: str) -> Template:
    """A page's template, with the filters that pages share."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # class names and paths are the user's text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(compact=compact, percent=percent, figure=figure, thousands="{:,}".format)
    return environment.get_template(name)


def write_page(folder: Path, name: str, page_of: Callable[[dict[str, Any]], str]) -> Path:
    """Write `name`.html beside `name`.json, from what that holds, and return its path. Raises ModelError without it."""
    source, path = folder / f"{name}.json", folder / f"{name}.html"
    try:
        result = json.loads(source.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{str(source)!r} can't be read: {error}.") from error
    write_text(path, page_of(result))
    return path
