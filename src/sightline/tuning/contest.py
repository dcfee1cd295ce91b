"""Networks of known cost, trained beside each other; the best trained again with fresh seeds, beside those it beat."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sightline.errors import RecipeError, SightlineError
from sightline.files import write_json, write_text
from sightline.recipe import Recipe
from sightline.recipe_text import override, to_yaml
from sightline.studies import Factor, Level, Study
from sightline.tuning import study
from sightline.tuning.results import ArmFigures, Difference, StudyResult, paired_difference


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A network that could be trained."""

    name: str
    settings: tuple[str, ...]
    """That make it of the recipe."""
    cost: float
    """Multiply-accumulates of an image, or seconds."""


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """What was found of one."""

    candidate: Candidate
    found: ArmFigures
    difference: Difference | None = None
    """The winner minus this one, seed by seed."""


@dataclass(frozen=True, kw_only=True)
class Contest:
    """One round: every candidate with the same seeds."""

    figure: str
    seeds: tuple[int, ...]
    contestants: list[Contestant]

    def best(self, among: Sequence[str]) -> Contestant:
        """The highest mean. Raises SightlineError where none of them could be trained."""
        ended = [each for each in self.contestants if each.candidate.name in among and each.found.runs]
        if not ended:
            raise SightlineError("No candidate could be trained; the logs beside the runs say why.")
        return max(ended, key=lambda each: each.found.mean or 0.0)

    def to_json(self) -> dict[str, Any]:
        """Plain values, the means beside the runs."""
        plain = asdict(self)
        for row, each in zip(plain["contestants"], self.contestants, strict=True):
            row["mean"] = each.found.mean
        return plain


def hold(
    candidates: Sequence[Candidate],
    recipe: Recipe,
    data: str | Path,
    *,
    out: Path,
    repeats: int,
    side_by_side: int,
    against: str | None = None,
) -> Contest:
    """Train each candidate with each of `repeats` seeds from the recipe's on, in the study's folder `out`.

    `against` names the candidate whose differences from the others are wanted. Raises what `study` raises.
    """
    levels = tuple(Level(label=each.name, settings=each.settings) for each in candidates)
    plan = Study(
        question="Which of these networks learns best?",
        recipe=recipe,
        factors=(Factor(name="network", levels=levels),),
        repeats=repeats,
    )
    result: StudyResult = study(plan, data, out=out, side_by_side=side_by_side)
    arms = {arm.arm.name: arm for arm in result.arms}
    first = None if against is None else arms[against]
    return Contest(
        figure=result.figure,
        seeds=tuple(result.seeds),
        contestants=[
            Contestant(
                candidate=each,
                found=arms[each.name],
                difference=None
                if first is None or each.name == against
                else paired_difference(first.runs, arms[each.name].runs),
            )
            for each in candidates
        ],
    )


def fresh(recipe: Recipe, repeats: int) -> Recipe:
    """The recipe with the first seed that no run of the contest before had."""
    return replace(recipe, seed=recipe.seed + repeats)


def check_counts(repeats: int, confirm: int, side_by_side: int) -> None:
    """Raise RecipeError for counts that make no contest."""
    for name, value, least in (("repeats", repeats, 1), ("confirm", confirm, 0), ("workers", side_by_side, 1)):
        if value < least:
            raise RecipeError(f"--{name} must be at least {least}, got {value}.")


def read_networks(folder: Path, asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """What `write_networks` kept in a folder; None where nothing is.

    Raises SightlineError, by name, where something else was asked for than `asked`.
    """
    kept = folder / "networks.json"
    if not kept.exists():
        return None
    stored: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    if other := [name for name, value in asked.items() if stored["asked"].get(name) != value]:
        raise SightlineError(
            f"{str(folder)!r} holds a search with another {' and '.join(other)}. Choose another --out."
        )
    return stored


def write_networks(folder: Path, asked: Mapping[str, Any], networks: Sequence[Candidate], **more: Any) -> None:
    """Keep networks and their costs for the next call, since latencies differ from one call to the next."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "networks.json", {"asked": asked, **more, "networks": [asdict(each) for each in networks]})


def write(folder: Path, recipe: Recipe, best: Candidate, result: dict[str, Any]) -> None:
    """Write scale.json, and best.yaml for `sightline train --recipe`."""
    write_json(folder / "scale.json", result)
    write_text(folder / "best.yaml", to_yaml(override(recipe, best.settings)))
