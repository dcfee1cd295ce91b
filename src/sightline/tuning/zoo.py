"""Which of these networks, at this cost: those within a budget are trained beside each other on the user's images."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sightline.data.outside import check_outside
from sightline.data.prepare import prepare
from sightline.errors import RecipeError
from sightline.models import find_variant
from sightline.recipe import Recipe
from sightline.recipe_text import override, to_yaml
from sightline.tuning import contest
from sightline.tuning.checks import check_place
from sightline.tuning.contest import Candidate, Contest
from sightline.tuning.costs import Cost, check_engine, costs, told

log = logging.getLogger("sightline")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Between which networks, and under which cost."""

    recipe: Recipe
    """What is held."""
    names: tuple[str, ...]
    """Architectures."""
    budget: float
    """Multiply-accumulates of an image, or seconds."""
    cost: Cost
    engine: str = "torch"
    repeats: int = 1
    confirm: int = 3

    def __post_init__(self) -> None:
        check_engine(self.cost, self.engine)
        twice = next((name for name in self.names if self.names.count(name) > 1), None)
        if twice is not None:
            raise RecipeError(f"--among names {twice} twice. Name each network once.")
        if len(self.names) < 2:
            raise RecipeError("--among takes two networks at least, separated by commas.")
        for name in self.names:
            find_variant(name)


def choose(choice: Choice, data: str | Path, *, out: str | Path, side_by_side: int = 1) -> dict[str, Any]:
    """Train the networks within the budget, the best and the runner-up again with fresh seeds; test images aren't seen.

    `out` is a folder: the same call goes on with one that was stopped. Returns what scale.json holds; `best.yaml` is
    the recipe. Raises RecipeError where none or one lies within the budget, and what `study` raises.
    """
    contest.check_counts(choice.repeats, choice.confirm, side_by_side)
    folder, recipe = Path(out), choice.recipe
    check_place(folder)
    check_outside(folder, data)
    prepared = prepare(data, recipe.data, recipe.seed)
    networks = _measured(choice, folder, len(prepared.table.classes), prepared.fingerprint)
    within = _within(networks, choice)
    first = contest.hold(within, recipe, data, out=folder / "search", repeats=choice.repeats, side_by_side=side_by_side)
    best = first.best([each.name for each in within]).candidate
    result = _result(choice, str(data), networks, best, first, None)
    contest.write(folder, recipe, best, result)
    if not choice.confirm:
        return result
    others = [each.candidate.name for each in first.contestants if each.found.runs and each.candidate != best]
    if not others:
        log.info(f"No network but {best.name} could be trained, so that there is nothing to train it again beside.")
        return result
    second = first.best(others).candidate
    again = contest.hold(
        [best, second],
        contest.fresh(recipe, choice.repeats),
        data,
        out=folder / "confirm",
        repeats=choice.confirm,
        side_by_side=side_by_side,
        against=best.name,
    )
    result = _result(choice, str(data), networks, best, first, again)
    contest.write(folder, recipe, best, result)
    return result


def _measured(choice: Choice, folder: Path, num_classes: int, images: str) -> list[Candidate]:
    """Every network with its cost; what was measured before is kept, since latencies differ from call to call."""
    asked = {"kind": "choice", "recipe": to_yaml(choice.recipe), "images": images}
    asked |= {"cost": choice.cost, "engine": choice.engine}
    stored = contest.read_networks(folder, asked)
    known: dict[str, float] = {} if stored is None else {row["name"]: row["cost"] for row in stored["networks"]}
    if new := [name for name in choice.names if name not in known]:
        recipes = [override(choice.recipe, _settings(name)) for name in new]
        measured = costs(recipes, choice.cost, num_classes=num_classes, engine=choice.engine)
        known |= dict(zip(new, measured, strict=True))
        contest.write_networks(folder, asked, [_candidate(name, cost) for name, cost in known.items()])
    return [_candidate(name, known[name]) for name in choice.names]


def _candidate(name: str, cost: float) -> Candidate:
    return Candidate(name=name, settings=_settings(name), cost=cost)


def _settings(name: str) -> tuple[str, ...]:
    return (f"model.name={name}",)


def _within(networks: Sequence[Candidate], choice: Choice) -> list[Candidate]:
    within = [each for each in networks if each.cost <= choice.budget]
    for each in networks:
        is_over = "" if each in within else f", over {told(choice.budget, choice.cost)}: left out"
        log.info(f"{each.name}: {told(each.cost, choice.cost)}{is_over}")
    if len(within) < 2:
        cheapest = sorted(networks, key=lambda each: each.cost)[:2]
        words = " and ".join(f"{each.name} ({told(each.cost, choice.cost)})" for each in cheapest)
        raise RecipeError(
            f"Fewer than two networks lie within {told(choice.budget, choice.cost)}; the cheapest are {words}. "
            "Raise --budget, or name smaller ones with --among."
        )
    return within


def _result(
    choice: Choice,
    data: str,
    networks: Sequence[Candidate],
    best: Candidate,
    search: Contest,
    confirmed: Contest | None,
) -> dict[str, Any]:
    return {
        "kind": "choice",
        "data": data,
        "cost": choice.cost,
        "engine": choice.engine,
        "budget": choice.budget,
        "left_out": [asdict(each) for each in networks if each.cost > choice.budget],
        "best": asdict(best),
        "search": search.to_json(),
        "confirmed": None if confirmed is None else confirmed.to_json(),
    }
