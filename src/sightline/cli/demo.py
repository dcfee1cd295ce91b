"""`sightline demo`."""

import csv
import shlex
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from sightline.cli.saying import say

STEP = 60
"""One test image in so many is predicted."""


def demo(
    out: Annotated[Path | None, typer.Option(help="The model folder to write; runs/digits if left out.")] = None,
) -> None:
    """Try the whole journey on 1,797 scanned digits that need no download: train, evaluate, predict."""
    from sightline.cli.report import print_evaluation, print_report
    from sightline.data.scan import scan
    from sightline.evaluation import evaluate
    from sightline.prediction import Predictor
    from sightline.recipes import find_recipe
    from sightline.training import train
    from sightline.training.interruption import told_of_a_stop

    say()
    print("train: sightline train digits --recipe digits", flush=True)
    going_on = "sightline train digits --resume" + ("" if out is None else f" --out {shlex.quote(str(out))}")
    with told_of_a_stop(f"`{going_on}` goes on from {{last}}."):
        folder = train(find_recipe("digits"), "digits", out=out)
    print(f"\nevaluate: sightline evaluate {folder.path}", flush=True)
    evaluation = evaluate(folder)
    print_evaluation(evaluation)
    print(f"\npredict: sightline predict {folder.path} IMAGES...", flush=True)
    source = scan("digits").source
    with (folder.path / "evaluation" / "test_predictions.csv").open(encoding="utf-8", newline="") as file:
        paths = [row["path"] for row in islice(csv.DictReader(file), 0, None, STEP)]
    predictions = Predictor(folder).predict([source.read(path) for path in paths], top_k=3)
    for path, prediction in zip(paths, predictions, strict=True):
        guesses = "  ".join(f"{guess.label} {guess.probability:.1%}" for guess in prediction.guesses)
        print(f"{path}  {guesses}")
    print()
    print_report(folder)
