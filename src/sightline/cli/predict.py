"""`sightline predict`."""

import csv
import json
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sightline import catalog
from sightline.cli.remote import TOP_K, Asked, ask_server
from sightline.cli.saying import say, write_for_programs
from sightline.cli.tta import Tta, sentence, views_of
from sightline.data.phrases import printable

if TYPE_CHECKING:
    from sightline.prediction import Prediction


class Format(StrEnum):
    """How predictions are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def predict(
    model: Annotated[Path, typer.Argument(help="A model folder, or an exported one.")],
    images: Annotated[list[str], typer.Argument(help="Image files, folders or archives of them.")],
    form: Annotated[Format, typer.Option("--format", help="How to print the predictions.")] = Format.TABLE,
    top_k: Annotated[
        int | None,
        typer.Option(
            help="Classes to give for each image; 3, or those above their thresholds with several labels.", min=1
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            help="Images predicted at once, 32 if left out; PyTorch on the CPU computes them one by one then.", min=1
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    tta: Annotated[
        Tta | None, typer.Option(help="Test-time augmentation: average over several views of each image.")
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            help=f"{', '.join(catalog.names('sightline.engines'))}, or auto: the fastest here, found by trying. "
            "torch, or the export's own, if left out."
        ),
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="float32, or bf16 where the engine has it: faster, and less exact.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Of the CPU; the engine's choice if left out.", min=1)] = None,
    server: Annotated[
        str | None, typer.Option(help="Ask `sightline serve` at this address; MODEL is the model's name there.")
    ] = None,
) -> None:
    """Label images with their probabilities. Exit code 1 if any of them could not be read."""
    from sightline.data.listing import list_images
    from sightline.prediction import BATCH_SIZE, Predictor
    from sightline.progress import track

    listed = list_images(images)
    if server is not None:
        unused = {"--tta": tta, "--engine": engine, "--precision": precision, "--threads": threads}
        unused["--device"] = None if device == "auto" else device
        stream = ask_server(Asked(server, str(model), top_k, batch_size or BATCH_SIZE), listed.read(), unused=unused)
    else:
        if engine is not None:
            say()
        predictor = Predictor.open(
            model,
            device=device,
            tta=views_of(tta),
            engine=engine,
            precision=precision,
            threads=threads,
            batch_size=batch_size,
        )
        if tta is not None:
            print(sentence(tta), file=sys.stderr)
        if top_k is None and not predictor.spec.multi_label:
            top_k = TOP_K
        stream = predictor.predict_stream(listed.read(), top_k=top_k, batch_size=batch_size)
    predictions = track(stream, total=len(listed), label="Predicting")
    printers = {Format.TABLE: _print_table, Format.JSON: _print_json, Format.CSV: _print_csv}
    if printers[form](predictions):
        raise typer.Exit(1)


def _print_table(predictions: Iterator["Prediction"]) -> bool:
    failed = False
    for prediction in predictions:
        if prediction.error is not None:
            failed = True
            print(printable(f"{prediction.name}: {prediction.error}"), file=sys.stderr)
            continue
        answer = "  ".join(f"{guess.label} {guess.probability:.1%}" for guess in prediction.guesses)
        print(printable(f"{prediction.name}  {answer or 'no label'}"))
    return failed


def _print_json(predictions: Iterator["Prediction"]) -> bool:
    """One array with an object an image, printed as the answers come."""
    failed = False
    write_for_programs()
    separator = "[\n"
    for prediction in predictions:
        failed |= prediction.error is not None
        print(separator + json.dumps(_plain(prediction), ensure_ascii=False), end="")
        separator = ",\n"
    print("\n]")
    return failed


def _print_csv(predictions: Iterator["Prediction"]) -> bool:
    """A row for each image and class; an image without a label, or that can't be read, has one without a class."""
    failed = False
    write_for_programs()
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["path", "rank", "label", "probability", "error"])
    for prediction in predictions:
        failed |= prediction.error is not None
        if prediction.error is not None:
            writer.writerow([prediction.name, "", "", "", prediction.error])
        elif not prediction.guesses:
            writer.writerow([prediction.name, "", "", "", ""])
        for rank, guess in enumerate(prediction.guesses, 1):
            writer.writerow([prediction.name, rank, guess.label, f"{guess.probability:.6f}", ""])
    return failed


def _plain(prediction: "Prediction") -> dict[str, Any]:
    if prediction.error is not None:
        return {"path": prediction.name, "error": prediction.error}
    guesses = [{"label": guess.label, "probability": round(guess.probability, 6)} for guess in prediction.guesses]
    return {"path": prediction.name, "predictions": guesses}
