"""`sightline export`."""

from pathlib import Path
from typing import Annotated

import typer

from sightline import catalog
from sightline.cli.saying import say


def export(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    form: Annotated[
        str, typer.Argument(metavar="FORMAT", help=f"One of: {', '.join(catalog.names('sightline.formats'))}.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="The folder to write; MODEL with the format's name behind it if left out.")
    ] = None,
    pixels: Annotated[
        bool, typer.Option("--pixels", help="Take uint8 pixels and give calibrated probabilities, in the graph.")
    ] = False,
    precision: Annotated[str, typer.Option(help="float32, or bf16 where the format has it.")] = "float32",
    data: Annotated[
        str | None, typer.Option(help="Images to compare on; the model's own validation split if left out.")
    ] = None,
    images: Annotated[int, typer.Option(help="How many of them at most.", min=1)] = 256,
) -> None:
    """Write a model in another format, and discard it unless it gives the model's answers on real images."""
    from sightline.exporting import export as run
    from sightline.exporting.parity import read_parity

    say()
    folder = run(model, form, out=out, pixels=pixels, precision=precision, data=data, num_images=images)
    print(*read_parity(folder).lines, sep="\n")
    size = sum((folder.path / name).stat().st_size for name in folder.artefact.files)
    print(f"exported         {folder.path}  {', '.join(folder.artefact.files)}, {size / 1e6:.1f} MB")
