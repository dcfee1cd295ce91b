"""`sightline tune`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sightline.cli.costs import cost_of
from sightline.cli.saying import say

if TYPE_CHECKING:
    from sightline.tuning.costs import Cost
    from sightline.tuning.searches import SearchResult, TrialFigures

DEFAULT = "small_folder"


def tune(
    data: Annotated[str, typer.Argument(help="A folder of class folders, an archive, a CSV, a set's name.")],
    space: Annotated[
        list[str] | None,
        typer.Option(
            "--search",
            metavar="NAME=VALUES...",
            help="Settings to search: optim.lr=log:1e-4..1 model.drop_path=0..0.3 model.activation=relu,silu. Left "
            "out, a few that most often matter, around the recipe's own values.",
        ),
    ] = None,
    recipe: Annotated[str, typer.Option(help="What is held: a recipe's name or file.")] = DEFAULT,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE...", help="A setting that is held, such as epochs=5; several may follow."
        ),
    ] = None,
    trials: Annotated[int, typer.Option(help="Trials in all, those of earlier calls counted.")] = 20,
    hours: Annotated[float | None, typer.Option(help="Begin no trial after so many hours.")] = None,
    workers: Annotated[int, typer.Option(help="Trials that train at once; they share the cores.")] = 1,
    sampler: Annotated[str, typer.Option(help="How values are proposed: gp, tpe or random.")] = "gp",
    prune: Annotated[bool, typer.Option(help="End trials early that fall behind, in runs of 9 epochs or more.")] = True,
    confirm: Annotated[
        int, typer.Option(help="Runs of the best and of the recipe as it was, with fresh seeds; 0 for none.")
    ] = 3,
    against: Annotated[
        str, typer.Option(help="Weigh accuracy against a cost of an image: latency, measured here, or macs.")
    ] = "",
    under: Annotated[
        str, typer.Option(help="The best must cost no more: 5ms, or 60M of MACs; implies --against.")
    ] = "",
    engine: Annotated[str, typer.Option(help="Latency is measured with this engine: torch, onnx, openvino.")] = "torch",
    storage: Annotated[
        str | None,
        typer.Option(
            help="Share the trials with other machines: journal:PATH that all see, or postgresql://host/name."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="The search's folder; the same call goes on with it.")] = Path("tuned"),
) -> None:
    """Search settings on your images: Optuna proposes, each trial is a training, the best becomes a recipe file."""
    from sightline.errors import RecipeError
    from sightline.recipe_text import override
    from sightline.recipes import find_recipe
    from sightline.reports.search import write_search_report
    from sightline.tuning.search import tune as run
    from sightline.tuning.searches import Search
    from sightline.tuning.space import default_space, space_of

    say()
    if sampler not in ("gp", "tpe", "random"):
        raise RecipeError(f"--sampler must be gp, tpe or random, got {sampler!r}.")
    aim, limit = _aim(against, under)
    held = override(find_recipe(recipe), settings or [])
    search = Search(
        recipe=held,
        space=space_of(space, held) if space else default_space(held),
        trials=trials,
        hours=hours,
        sampler=sampler,
        storage=storage,
        against=aim,
        under=limit,
        engine=engine,
        prune=prune,
    )
    result = run(search, data, out=out, side_by_side=workers, confirm=confirm)
    _print(result)
    print(f"report  {write_search_report(out)}")
    if result.best is None:
        print("No trial finished, or none within --under: there is no recipe to write.")
        raise typer.Exit(1)
    print(f"recipe  {out / 'best.yaml'}")


def _aim(against: str, under: str) -> "tuple[Cost | None, float | None]":
    """The second aim and its limit."""
    from sightline.errors import RecipeError

    if against not in ("", "macs", "latency"):
        raise RecipeError(f"--against must be latency or macs, got {against!r}.")
    named = None if not against else "macs" if against == "macs" else "latency"
    if not under:
        return named, None
    cost, limit = cost_of(under, "--under")
    if named not in (None, cost):
        raise RecipeError(f"--under {under} limits {cost}, and --against weighs {named}. Name one cost.")
    return cost, limit


def _print(result: "SearchResult") -> None:
    from sightline.data.phrases import counted

    counts = {state: sum(trial.state == state for trial in result.trials) for state in ("complete", "pruned", "failed")}
    words = f"{counts['complete']} finished, {counts['pruned']} ended early, {counts['failed']} failed"
    print(f"{counted(len(result.trials), 'trial')}: {words}")
    if result.best is None or result.best.value is None:
        return
    for trial in result.trials:
        if trial.number in result.front and trial.value is not None:
            print(f"front   trial {trial.number}, {_figures(trial, result.against)}: {' '.join(trial.settings)}")
    best = result.best
    print(f"best    trial {best.number}, {_figures(best, result.against)}: {' '.join(best.settings)}")
    for setting, share in sorted(result.importance.items(), key=lambda pair: -pair[1]):
        print(f"        {setting} made {share:.0%} of the difference between trials")
    if result.recipe_is_best:
        print("        which are the recipe's own: no trial beat it")
    if result.confirmed is None:
        return
    recipe, again = result.confirmed.arms
    difference = again.difference
    if recipe.mean is None or again.mean is None or difference is None:
        print("fresh seeds  a run failed; the report says which")
        return
    interval = (
        ""
        if difference.low is None or difference.high is None
        else (f" ({difference.low * 100:+.1f} to {difference.high * 100:+.1f})")
    )
    print(
        f"fresh seeds  the best {again.mean:.2%}, the recipe as it was {recipe.mean:.2%}: "
        f"{difference.mean * 100:+.1f} points{interval}, {difference.verdict}"
    )


def _figures(trial: "TrialFigures", against: "Cost | None") -> str:
    """What a trial reached, and at which cost."""
    from sightline.tuning.costs import told

    return f"{trial.value or 0:.2%}" + (
        "" if against is None or trial.cost is None else f", {told(trial.cost, against)}"
    )
