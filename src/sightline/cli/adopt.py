"""`sightline adopt`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sightline.cli.saying import say


class Interpolation(StrEnum):
    """Pillow's antialiased filters."""

    BILINEAR = "bilinear"
    BICUBIC = "bicubic"


def adopt(
    source: Annotated[Path, typer.Argument(help="An .onnx, .safetensors or .pth file, or a folder of timm's.")],
    classes: Annotated[
        Path | None, typer.Option(help="The names of the classes in the logits' order: one a line, or JSON.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The architecture of weights: one that `sightline models` lists, or timm/NAME.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The folder to write; runs/ and SOURCE's name if left out.")] = None,
    data: Annotated[str | None, typer.Option(help="Images with labels, to measure it on.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Pixels; the architecture's if left out.")] = None,
    resize: Annotated[int | None, typer.Option(help="Short side before the centre is cut, in pixels.")] = None,
    interpolation: Annotated[Interpolation | None, typer.Option(help="How images are resized.")] = None,
    mean: Annotated[str | None, typer.Option(help="Of R, G and B from 0 to 1: 0.485,0.456,0.406.")] = None,
    std: Annotated[str | None, typer.Option(help="Of R, G and B: 0.229,0.224,0.225.")] = None,
) -> None:
    """Make a folder of a model that was trained elsewhere; how images are prepared is assumed where it isn't stated."""
    from sightline.adopting import MEASURED, StatedPreprocess
    from sightline.adopting import adopt as run
    from sightline.evaluation.intervals import Interval

    say()
    stated = StatedPreprocess(
        image_size=image_size,
        resize=resize,
        interpolation=None if interpolation is None else interpolation.value,
        mean=_three("--mean", mean),
        std=_three("--std", std),
    )
    folder = run(source, classes, model=model, out=out, preprocess=stated, data=data)
    print(f"adopted  {folder.path}  {folder.spec.architecture.name}, {len(folder.spec.classes)} classes")
    figures = folder.spec.figures.get(MEASURED)
    if figures is None:
        print("figures  none: give --data, or run `sightline evaluate` on images with labels")
        return
    accuracy = Interval(**figures["accuracy"])
    print(f"figures  accuracy {accuracy} on {figures['num_images']:,} images of {figures['data']!r}")


def _three(option: str, text: str | None) -> tuple[float, float, float] | None:
    from sightline.errors import RecipeError

    if text is None:
        return None
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError as error:
        raise RecipeError(f"{option} takes three numbers with commas in between, got {text!r}.") from error
    return red, green, blue
