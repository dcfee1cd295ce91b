"""`sightline evaluate`."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class EvaluatedSplit(StrEnum):
    """The splits that are not trained on."""

    VAL = "val"
    TEST = "test"


def evaluate(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    data: Annotated[
        str | None, typer.Argument(help="Other images with the same classes; its own split if left out.")
    ] = None,
    split: Annotated[
        EvaluatedSplit | None, typer.Option(help="val or test; test if left out, and all of DATA without splits.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print every figure as JSON.")] = False,
) -> None:
    """Measure a model: accuracy, or mean average precision, with its interval, each class, calibration."""
    from sightline.cli.report import print_evaluation, print_report
    from sightline.evaluation import evaluate as run
    from sightline.model_folder import ModelFolder

    folder = ModelFolder.read(model)
    evaluation = run(folder, data, split=None if split is None else split.value, device=device)
    if as_json:
        print(json.dumps(evaluation.to_json(), indent=2, ensure_ascii=False))
        return
    print_evaluation(evaluation)
    if data is None:
        print_report(ModelFolder.read(model))
