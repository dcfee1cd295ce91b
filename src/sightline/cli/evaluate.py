"""`sightline evaluate`."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sightline.cli.saying import write_for_programs
from sightline.cli.tta import Tta, sentence, views_of


class EvaluatedSplit(StrEnum):
    """The splits that are not trained on."""

    VAL = "val"
    TEST = "test"


def evaluate(
    model: Annotated[Path, typer.Argument(help="A model folder, or an exported one.")],
    data: Annotated[
        str | None, typer.Argument(help="Other images with the same classes; its own split if left out.")
    ] = None,
    split: Annotated[
        EvaluatedSplit | None, typer.Option(help="val or test; test if left out, and all of DATA without splits.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    tta: Annotated[
        Tta | None, typer.Option(help="Test-time augmentation: average over several views of each image.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every figure as JSON.")] = False,
) -> None:
    """Measure a model: accuracy, or mean average precision, with its interval, each class, calibration."""
    from sightline.cli.report import print_evaluation, print_report
    from sightline.evaluation import evaluate as run
    from sightline.evaluation import read_evaluation
    from sightline.exported_folder import open_folder
    from sightline.reports import check_stored

    folder = open_folder(model)
    wanted = None if split is None else split.value
    writes_report = data is None and tta is None and not as_json
    if writes_report:
        check_stored(folder, measured=wanted or "test")
    evaluation = run(folder, data, split=wanted, device=device, tta=views_of(tta))
    if as_json:
        named = {} if tta is None else {"test_time_augmentation": tta.value}
        write_for_programs()
        print(json.dumps(named | evaluation.to_json(), indent=2, ensure_ascii=False))
        return
    print_evaluation(evaluation)
    if tta is not None:
        print(sentence(tta))
    if writes_report:
        measured = open_folder(model)
        if read_evaluation(measured, "test") is not None:
            print_report(measured)
        else:
            print(f"No report was written: it shows the test images, which `sightline evaluate {model}` measures.")
