"""`sightline tune`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sightline.cli.saying import say

if TYPE_CHECKING:
    from sightline.tuning.searches import SearchResult

DEFAULT = "small_folder"


def tune(
    data: Annotated[str, typer.Argument(help="A folder of class folders, an archive, a CSV, a set's name.")],
    space: Annotated[
        list[str] | None,
        typer.Option(
            "--search",
            help="Settings to search: optim.lr=log:1e-4..1 model.drop_path=0..0.3 model.activation=relu,silu; may be "
            "repeated. Left out, a few that most often matter, around the recipe's own values.",
        ),
    ] = None,
    recipe: Annotated[str, typer.Option(help="What is held: a recipe's name or file.")] = DEFAULT,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A setting that is held, such as epochs=5; may be repeated.")
    ] = None,
    trials: Annotated[int, typer.Option(help="Trials in all, those of earlier calls counted.")] = 20,
    hours: Annotated[float | None, typer.Option(help="Begin no trial after so many hours.")] = None,
    workers: Annotated[int, typer.Option(help="Trials that train at once; they share the cores.")] = 1,
    sampler: Annotated[str, typer.Option(help="tpe or random.")] = "tpe",
    prune: Annotated[bool, typer.Option(help="End trials early that fall behind.")] = True,
    confirm: Annotated[
        int, typer.Option(help="Runs of the best and of the recipe as it was, with fresh seeds; 0 for none.")
    ] = 3,
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
    if sampler not in ("tpe", "random"):
        raise RecipeError(f"--sampler must be tpe or random, got {sampler!r}.")
    held = override(find_recipe(recipe), settings or [])
    search = Search(
        recipe=held,
        space=space_of(space, held) if space else default_space(held),
        trials=trials,
        hours=hours,
        sampler=sampler,
        storage=storage,
        prune=prune,
    )
    result = run(search, data, out=out, side_by_side=workers, confirm=confirm)
    _print(result)
    print(f"report  {write_search_report(out)}")
    if result.best is None:
        raise typer.Exit(1)
    print(f"recipe  {out / 'best.yaml'}")


def _print(result: "SearchResult") -> None:
    counts = {state: sum(trial.state == state for trial in result.trials) for state in ("complete", "pruned", "failed")}
    words = f"{counts['complete']} finished, {counts['pruned']} ended early, {counts['failed']} failed"
    print(f"{len(result.trials)} trials: {words}")
    if result.best is None or result.best.value is None:
        return
    print(f"best    trial {result.best.number}, {result.best.value:.2%}: {' '.join(result.best.settings)}")
    for setting, share in sorted(result.importance.items(), key=lambda pair: -pair[1]):
        print(f"        {setting} made {share:.0%} of the difference between trials")
    if result.confirmed is None:
        return
    recipe, best = result.confirmed.arms
    difference = best.difference
    if recipe.mean is None or best.mean is None or difference is None:
        print("fresh seeds  a run failed; the report says which")
        return
    interval = (
        ""
        if difference.low is None or difference.high is None
        else (f" ({difference.low * 100:+.1f} to {difference.high * 100:+.1f})")
    )
    print(
        f"fresh seeds  the best {best.mean:.2%}, the recipe as it was {recipe.mean:.2%}: "
        f"{difference.mean * 100:+.1f} points{interval}, {difference.verdict}"
    )
