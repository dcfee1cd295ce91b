"""`sightline augment`."""

from pathlib import Path
from typing import Annotated

import typer

from sightline.cli.saying import say

DEFAULT = "small_folder"


def augment(
    data: Annotated[str, typer.Argument(help="A folder of class folders, an archive, a CSV, or a set's name.")],
    recipe: Annotated[str, typer.Option(help="A recipe's name or file.")] = DEFAULT,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE...", help="A setting, such as augment=[flip,mixup]; several may follow."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("augmented.png"),
    images: Annotated[int, typer.Option(help="Images shown, a row each.", min=1, max=100)] = 8,
    versions: Annotated[int, typer.Option(help="Epochs shown, a column each.", min=1, max=50)] = 6,
) -> None:
    """Show what training on DATA would see: a picture of originals beside their augmented versions."""
    from sightline.recipe_text import override
    from sightline.recipes import find_recipe
    from sightline.reports.contact_sheet import write_contact_sheet

    say()
    choice = override(find_recipe(recipe), settings or [])
    write_contact_sheet(choice, data, out, num_images=images, num_epochs=versions)
    print(out)
