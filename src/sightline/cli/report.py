"""What the verbs print of an evaluation."""

from typing import TYPE_CHECKING

from sightline.evaluation.metrics import Evaluation
from sightline.evaluation.multilabel import MultiLabelEvaluation
from sightline.evaluation.text import classification_report, label_report

if TYPE_CHECKING:
    from sightline.engines import Folder


def print_evaluation(evaluation: Evaluation | MultiLabelEvaluation) -> None:
    """The classification report, then accuracy and calibration."""
    if isinstance(evaluation, MultiLabelEvaluation):
        _print_labels(evaluation)
    else:
        print(classification_report(evaluation))
        print(f"accuracy           {evaluation.accuracy} on {evaluation.num_images:,} images")
        if evaluation.top5 is not None:
            print(f"top-5 accuracy     {evaluation.top5}")
    calibrated = evaluation.calibrated
    print(f"log loss           {calibrated.log_loss:.4f}")
    print(f"Brier score        {calibrated.brier:.4f}")
    print(
        f"calibration error  {calibrated.calibration_error:.2%} at temperature {calibrated.temperature:.3f} "
        f"({evaluation.uncalibrated.calibration_error:.2%} uncalibrated)"
    )


def print_report(folder: "Folder") -> None:
    """Write report.html and say where everything is."""
    from sightline.evaluation import read_evaluation
    from sightline.reports import write_report

    evaluation = read_evaluation(folder, "test")
    report = write_report(folder)
    if isinstance(evaluation, MultiLabelEvaluation):
        print(f"model   {folder.path}  test mean average precision {evaluation.mean_average_precision}")
    elif evaluation is not None:
        print(f"model   {folder.path}  test accuracy {evaluation.accuracy}")
    print(f"report  {report}")


def _print_labels(evaluation: MultiLabelEvaluation) -> None:
    print(label_report(evaluation))
    images = f"on {evaluation.num_images:,} images, each with any number of labels"
    print(f"mean average precision  {evaluation.mean_average_precision} {images}")
    print(f"micro F1           {evaluation.micro_f1} over all labels, at the thresholds")
    print(f"macro F1           {evaluation.macro_f1} mean of the classes")
    print(f"exact match        {evaluation.exact_match} of the images have every label right")
    print(f"Hamming loss       {evaluation.hamming_loss} of all answers are wrong")
