"""`sightline find`: settings that a trial on the user's own data and machine finds."""

from pathlib import Path
from typing import Annotated

import typer

from sightline.cli.saying import say
from sightline.cli.train import DEFAULT

app = typer.Typer(help="Find a learning rate or a batch size by trial.", no_args_is_help=True)

Data = Annotated[str, typer.Argument(help="A folder of class folders, an archive, a CSV, or a set's name.")]
RecipeName = Annotated[str, typer.Option("--recipe", help="A recipe's name or file.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE...", help="A setting, such as batch_size=32; several may follow."),
]


@app.command()
def lr(
    data: Data,
    recipe: RecipeName = DEFAULT,
    settings: Settings = None,
    out: Annotated[Path, typer.Option(help="Folder for the plot and the figures.")] = Path("runs/find-lr"),
    lowest: Annotated[float, typer.Option(help="The first learning rate.")] = 1e-6,
    highest: Annotated[float, typer.Option(help="The last one.")] = 10.0,
    updates: Annotated[int, typer.Option(help="Updates from the first to the last.")] = 100,
) -> None:
    """Train with a rising learning rate, and suggest where the loss falls fastest; nothing trained is kept."""
    from sightline.data.outside import check_outside
    from sightline.recipe_text import override
    from sightline.recipes import find_recipe
    from sightline.training.find_rate import find_learning_rate

    say()
    check_outside(out, data)
    choice = override(find_recipe(recipe), settings or [])
    found = find_learning_rate(choice, data, lowest=lowest, highest=highest, updates=updates)
    found.write(out)
    print(f"{len(found.rates)} updates from {found.rates[0]:.2g} to {found.rates[-1]:.2g}; see {out}/learning-rate.png")
    if found.suggestion is None:
        print("No suggestion: the loss did not fall anywhere. Try another --lowest, --highest or more --updates.")
    else:
        print(f"Suggested, {found.rule}:\n--set optim.lr={found.suggestion:.2g}")


@app.command("batch-size")
def batch_size(data: Data, recipe: RecipeName = DEFAULT, settings: Settings = None) -> None:
    """Try growing batches: on a GPU the largest that fits, on a CPU the smallest that is about as fast as any."""
    from sightline.recipe_text import override
    from sightline.recipes import find_recipe
    from sightline.training.find_batch import find_batch_size

    say()
    found = find_batch_size(override(find_recipe(recipe), settings or []), data)
    for size, speed in sorted(found.images_per_second.items()):
        print(f"{size:>8,} images {speed:>12,.1f} images/s")
    print(f"Suggested, {found.reason}:\n--set batch_size={found.suggestion}")
