"""`sightline scale`."""

from pathlib import Path
from typing import Annotated

import typer

from sightline.cli.costs import cost_of, times_of
from sightline.cli.saying import say

DEFAULT = "small_folder"


def scale(
    data: Annotated[str, typer.Argument(help="A folder of class folders, an archive, a CSV, a set's name.")],
    budget: Annotated[
        str, typer.Option(help="2x: so many times the base's cost. With --among 5ms of an image, or 60M of MACs.")
    ] = "2x",
    base: Annotated[str, typer.Option(help="The network that is scaled; the recipe's own if left out.")] = "",
    among: Annotated[str, typer.Option(help="Choose between these instead, separated by commas.")] = "",
    by: Annotated[str, typer.Option(help="What --budget 2x counts: macs, or latency measured here.")] = "macs",
    step: Annotated[str, typer.Option(help="The cost at which mixes of depth, width, resolution are compared.")] = "2x",
    engine: Annotated[str, typer.Option(help="Latency is measured with this engine: torch, onnx, openvino.")] = "torch",
    recipe: Annotated[str, typer.Option(help="What is held: a recipe's name or file.")] = DEFAULT,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE...", help="A setting that is held, such as epochs=5; several may follow."
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(help="Runs of each network in the search.")] = 1,
    confirm: Annotated[int, typer.Option(help="Runs of the best and its rivals, with fresh seeds; 0 for none.")] = 3,
    workers: Annotated[int, typer.Option(help="Runs that train at once; they share the cores.")] = 1,
    out: Annotated[Path, typer.Option(help="The search's folder; the same call goes on with it.")] = Path("scaled"),
) -> None:
    """Find how to make a network larger on your images, deeper, wider or by larger images; or choose among networks."""
    from sightline.errors import RecipeError
    from sightline.recipe_text import override
    from sightline.recipes import find_recipe
    from sightline.reports.scaling import sentences, write_scaling_report
    from sightline.tuning.scaling import Scaling
    from sightline.tuning.scaling import scale as run
    from sightline.tuning.zoo import Choice, choose

    say()
    held = override(find_recipe(recipe), [*(settings or []), *([f"model.name={base}"] if base else [])])
    if among:
        if base or by != "macs" or step != "2x":
            raise RecipeError("--among chooses between networks as they are: leave --base, --by and --step out.")
        cost, limit = cost_of(budget, "With --among, --budget")
        names = tuple(name.strip() for name in among.split(",") if name.strip())
        choice = Choice(
            recipe=held, names=names, budget=limit, cost=cost, engine=engine, repeats=repeats, confirm=confirm
        )
        result = choose(choice, data, out=out, side_by_side=workers)
    else:
        if by not in ("macs", "latency"):
            raise RecipeError(f"--by must be macs or latency, got {by!r}.")
        plan = Scaling(
            recipe=held,
            budget=times_of(budget, "budget"),
            step=times_of(step, "step"),
            cost="macs" if by == "macs" else "latency",
            engine=engine,
            repeats=repeats,
            confirm=confirm,
        )
        result = run(plan, data, out=out, side_by_side=workers)
    for sentence in sentences(result):
        print(sentence)
    print(f"report  {write_scaling_report(out)}")
    print(f"recipe  {out / 'best.yaml'}")
