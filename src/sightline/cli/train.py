"""`sightline train`."""

from pathlib import Path
from typing import Annotated

import typer

from sightline.cli.saying import say

DEFAULT = "small_folder"


def train(
    data: Annotated[str, typer.Argument(help="A folder of class folders, an archive, a CSV, or a set's name.")],
    recipe: Annotated[str, typer.Option(help="A recipe's name or file.", show_default=DEFAULT)] = "",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE...", help="A setting, such as optim.lr=3e-4; several may follow."),
    ] = None,
    origin: Annotated[
        Path | None, typer.Option("--from", help="Go on from a model folder: its recipe and its weights.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The model folder to write; runs/<data> if left out.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an unfinished run.")] = False,
    seed: Annotated[int | None, typer.Option(help="The same as --set seed=N.")] = None,
    deterministic: Annotated[bool, typer.Option("--deterministic", help="--set train.deterministic=true.")] = False,
    dev_run: Annotated[bool, typer.Option("--fast-dev-run", help="Try two batches, keep nothing.")] = False,
) -> None:
    """Train a classifier on DATA and write its model folder."""
    from sightline import training
    from sightline.cli.report import print_report
    from sightline.errors import RecipeError
    from sightline.recipe_text import override
    from sightline.recipes import find_recipe
    from sightline.training.start import recipe_from

    say()
    if dev_run and resume:
        raise RecipeError("--fast-dev-run keeps nothing, so there is nothing it could --resume. Choose one of them.")
    if dev_run and out is not None:
        raise RecipeError("--fast-dev-run keeps nothing, so there is no --out. Leave one of them out.")
    shortcuts = [f"seed={seed}"] * (seed is not None) + ["train.deterministic=true"] * deterministic
    folder = out or training.unfinished_run(data) if resume else out
    if origin is not None:
        kept = recipe_from(origin, find_recipe(recipe) if recipe else None, resuming=resume, settings=settings or ())
    elif resume and folder and not recipe:
        kept = training.stored_recipe(folder)
    else:
        kept = find_recipe(recipe or DEFAULT)
    choice = override(kept, [*(settings or []), *shortcuts])
    if dev_run:
        training.fast_dev_run(choice, data)
        print("The whole way works; this try's model was not kept.")
    elif resume:
        print_report(training.resume(data, out=folder, recipe=choice))
    else:
        print_report(training.train(choice, data, out=out))
