"""`sightline study`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sightline.cli.ignored import check_used
from sightline.cli.saying import say

if TYPE_CHECKING:
    from sightline.studies import Study
    from sightline.tuning import StudyResult

DEFAULT = "small_folder"


def study(
    context: typer.Context,
    data: Annotated[
        str | None, typer.Argument(help="A folder of class folders, an archive, a CSV, a set's name.")
    ] = None,
    name: Annotated[str, typer.Option("--study", help="A shipped study's name; --list shows them.")] = "",
    vary: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUES...", help="One factor: activation=relu,gelu. Two: they are crossed."),
    ] = None,
    arms: Annotated[
        list[str] | None,
        typer.Option("--arm", help="A named choice of several settings: 'sgd: optim.name=sgd optim.lr=0.1'."),
    ] = None,
    recipe: Annotated[str, typer.Option(help="What is held: a recipe's name or file.", show_default=DEFAULT)] = "",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE...", help="A setting that is held, such as epochs=5; several may follow."
        ),
    ] = None,
    repeats: Annotated[
        int | None, typer.Option(help="Runs of each arm, each with its own seed.", show_default="3")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The study's folder; studies/<name> if left out.")] = None,
    side_by_side: Annotated[int, typer.Option(help="Runs that train at once; they share the cores.")] = 1,
    listing: Annotated[bool, typer.Option("--list", help="List the shipped studies.")] = False,
) -> None:
    """Vary one setting or two, hold all else: means with spread, paired differences, curves. The same call resumes."""
    if listing:
        check_used(context, "--list lists the shipped studies", ("listing",))
        _print_shipped()
        return
    if data is None:
        raise typer.BadParameter("DATA is missing.")
    from sightline.reports.study import write_study_report
    from sightline.tuning import study as run

    say()
    plan = _plan(name, vary or [], arms or [], recipe, settings or [], repeats)
    folder = out or Path("studies") / (name or "-".join(factor.name for factor in plan.factors))
    result = run(plan, data, out=folder, side_by_side=side_by_side)
    _print_table(result)
    print(f"report  {write_study_report(folder)}")
    if any(arm.failures for arm in result.arms):
        raise typer.Exit(1)


def _plan(
    name: str, vary: list[str], arms: list[str], recipe: str, settings: list[str], repeats: int | None
) -> "Study":
    from dataclasses import replace

    from sightline.errors import RecipeError
    from sightline.recipe_text import override
    from sightline.recipes import find_recipe
    from sightline.studies import Study, find_study
    from sightline.tuning.vary import factor_of, factor_of_arms

    if name:
        if vary or arms or recipe:
            raise RecipeError(
                "--study names a shipped study, which has its own recipe and factors. Leave the others out."
            )
        shipped = find_study(name)
        held = override(shipped.recipe, settings)
        return replace(shipped, recipe=held, repeats=shipped.repeats if repeats is None else repeats)
    factors = [factor_of(text) for text in vary] + ([factor_of_arms(arms)] if arms else [])
    if not factors:
        raise RecipeError("Nothing to vary. Pass --vary name=value,value, or --study with a shipped study's name.")
    return Study(
        question=f"What does varying {' and '.join(factor.name for factor in factors)} change?",
        recipe=override(find_recipe(recipe or DEFAULT), settings),
        factors=tuple(factors),
        repeats=3 if repeats is None else repeats,
    )


def _print_shipped() -> None:
    from sightline import catalog
    from sightline.studies import find_study

    names = catalog.names("sightline.studies")
    width = max(map(len, names))
    for name in names:
        print(f"{name:<{width}}  {find_study(name).question}")


def _print_table(result: "StudyResult") -> None:
    width = max(len(arm.arm.name) for arm in result.arms)
    print(
        f"{'':<{width}}  {'val ' + result.figure:<16}{'against the first':<28}{'train - val':<13}{'seconds':<9}memory"
    )
    for arm in result.arms:
        if arm.mean is None or arm.gap is None:
            print(f"{arm.arm.name:<{width}}  failed: {arm.failures[0] if arm.failures else 'no run has ended'}")
            continue
        spread = "" if arm.deviation is None else f" ± {arm.deviation * 100:.1f}"
        difference = arm.difference
        words = "baseline" if arm is result.arms[0] else "no baseline"
        if difference is not None:
            words = f"{difference.mean * 100:+.1f} points"
        if difference is not None and difference.low is not None and difference.high is not None:
            words = f"{difference.mean * 100:+.1f} ({difference.low * 100:+.1f} to {difference.high * 100:+.1f})"
        memory = f"{(arm.memory or 0) / 1e6:,.0f} MB"
        print(
            f"{arm.arm.name:<{width}}  {f'{arm.mean:.1%}{spread}':<16}{words:<28}"
            f"{arm.gap * 100:<+13.1f}{arm.seconds:<9.0f}{memory}"
        )
        for failure in arm.failures:
            print(f"{'':<{width}}  one run failed: {failure}")
