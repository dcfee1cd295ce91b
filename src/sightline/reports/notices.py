"""What a reader must not miss, as sentences for the top of the page."""

from collections.abc import Mapping

from sightline.data.phrases import counted, listed
from sightline.evaluation.metrics import Evaluation
from sightline.evaluation.multilabel import MultiLabelEvaluation
from sightline.reports.audit import has_leaks, problems
from sightline.reports.report import Report


def notices(report: Report) -> list[str]:
    """The report's own warnings, then what its figures and the data's audit give cause for."""
    return [*report.warnings, *_from_audit(report.audit or {}), *_from_evaluation(report.test)]


def _from_evaluation(evaluation: Evaluation | MultiLabelEvaluation) -> list[str]:
    found = _against_always_the_same(evaluation) if isinstance(evaluation, Evaluation) else []
    if evaluation.absent:
        kinds = counted(len(evaluation.absent), "class", "classes")
        found.append(f"Without any image here, and so without figures: {kinds}: {listed(evaluation.absent)}.")
    never = [part.name for part in evaluation.classes if part.support and not part.num_predicted]
    if never:
        found.append(f"Never predicted: {counted(len(never), 'class', 'classes')}: {listed(never)}.")
    return found


def _against_always_the_same(evaluation: Evaluation) -> list[str]:
    found: list[str] = []
    commonest = max(evaluation.classes, key=lambda figures: figures.support)
    share = commonest.support / evaluation.num_images
    if evaluation.accuracy.low <= share and len(evaluation.classes) > 1:
        found.append(
            f"Nothing shows that the model is better than always answering {commonest.name!r}, "
            f"which would be right for {share:.1%} of the images."
        )
    return found


def _from_audit(audit: Mapping[str, object]) -> list[str]:
    found = [f"Data: {sentence}" for sentence in problems(audit)]
    if has_leaks(audit):
        found.append(
            "Images of one split have a copy or near copy in another, so the accuracy may be too high: "
            "the model may have seen the answers. The groups are listed under Data."
        )
    return found
