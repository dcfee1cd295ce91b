"""What the verbs print of an evaluation."""

from sightline.evaluation.metrics import Evaluation
from sightline.evaluation.text import classification_report
from sightline.model_folder import ModelFolder


def print_evaluation(evaluation: Evaluation) -> None:
    """The classification report, then accuracy and calibration."""
    calibrated = evaluation.calibrated
    print(classification_report(evaluation))
    print(f"accuracy           {evaluation.accuracy} on {evaluation.num_images:,} images")
    if evaluation.top5 is not None:
        print(f"top-5 accuracy     {evaluation.top5}")
    print(f"log loss           {calibrated.log_loss:.4f}")
    print(f"Brier score        {calibrated.brier:.4f}")
    print(
        f"calibration error  {calibrated.calibration_error:.2%} at temperature {calibrated.temperature:.3f} "
        f"({evaluation.uncalibrated.calibration_error:.2%} uncalibrated)"
    )


def print_report(folder: ModelFolder) -> None:
    """Write report.html and say where everything is."""
    from sightline.evaluation import read_evaluation
    from sightline.reports import write_report

    evaluation = read_evaluation(folder, "test")
    report = write_report(folder)
    if evaluation is not None:
        print(f"model   {folder.path}  test accuracy {evaluation.accuracy}")
    print(f"report  {report}")
