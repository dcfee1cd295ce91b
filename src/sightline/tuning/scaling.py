"""Compound scaling, searched on the user's own images: how much of a budget goes to depth, width and resolution.

Paper: EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks (Tan and Le, 2019), section 3.3,
https://arxiv.org/abs/1905.11946. Depth is multiplied by alpha^phi, width by beta^phi and resolution by gamma^phi. A
network's work grows with depth and with the squares of the other two, so alpha * beta^2 * gamma^2 is what one step of
phi costs, 2 in the paper. There the three are searched once, at phi = 1, and used for every larger network.

Here a mix says which share of the step each dimension gets. Each mix is built at that cost, really counted or timed,
since blocks and channels are whole numbers; each is trained; the best one's rule is taken to the budget, and trained
with fresh seeds beside the paper's rule and beside depth, width and resolution alone.
"""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sightline.data.outside import check_outside
from sightline.data.prepare import prepare
from sightline.errors import ModelError, RecipeError
from sightline.models import find_variant, scaled
from sightline.recipe import Recipe
from sightline.recipe_text import override, to_yaml
from sightline.tuning import contest
from sightline.tuning.checks import check_place
from sightline.tuning.contest import Candidate, Contest
from sightline.tuning.costs import Cost, check_engine, costs, told

log = logging.getLogger("sightline")

TOLERANCE = 0.15
"""How far from the cost it was built for a network may lie; coarse roundings can't come nearer."""

_TRIES = {"macs": 10, "latency": 3}
"""Corrections of each network towards its cost; a timing takes seconds."""


@dataclass(frozen=True, kw_only=True)
class Mix:
    """What a budget is spent on: shares of the logarithm of the cost, which sum to 1."""

    name: str
    depth: float = 0.0
    width: float = 0.0
    resolution: float = 0.0

    def factors(self, times: float) -> tuple[float, float, float]:
        """(depth, width, resolution) for a network `times` as costly."""
        return times**self.depth, times ** (self.width / 2), times ** (self.resolution / 2)


def _mix_of(name: str, alpha: float, beta: float, gamma: float) -> Mix:
    logs = (math.log(alpha), 2 * math.log(beta), 2 * math.log(gamma))
    depth, width, resolution = (value / sum(logs) for value in logs)
    return Mix(name=name, depth=depth, width=width, resolution=resolution)


PAPER = _mix_of("the paper's rule", 1.2, 1.1, 1.15)
"""Alpha, beta and gamma of section 3.3, whose product is 1.92; here for the budget's very cost."""

ALONE = (
    Mix(name="depth alone", depth=1.0),
    Mix(name="width alone", width=1.0),
    Mix(name="resolution alone", resolution=1.0),
)

MIXES = (
    *ALONE,
    Mix(name="depth and width", depth=1 / 2, width=1 / 2),
    Mix(name="depth and resolution", depth=1 / 2, resolution=1 / 2),
    Mix(name="width and resolution", width=1 / 2, resolution=1 / 2),
    Mix(name="all three", depth=1 / 3, width=1 / 3, resolution=1 / 3),
    PAPER,
)
"""The corners, edges and middle of the triangle that the shares span, and the paper's place in it."""

BASE = "the base"


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """What is scaled, and how far."""

    recipe: Recipe
    """Of the base network: its own size is the unit."""
    budget: float = 2.0
    """Cost of the network that is wanted, in that of the base."""
    step: float = 2.0
    """Cost at which the mixes are compared."""
    cost: Cost = "macs"
    engine: str = "torch"
    """What latency is measured with."""
    repeats: int = 1
    """Runs of each mix."""
    confirm: int = 3
    """Runs at the budget, with fresh seeds."""

    def __post_init__(self) -> None:
        check_engine(self.cost, self.engine)
        for name, value in (("budget", self.budget), ("step", self.step)):
            if not 1.2 <= value <= 64:
                raise RecipeError(
                    f"--{name} must be 1.2x to 64x, got {value:g}x: the base times that is what is built."
                )


def scale(scaling: Scaling, data: str | Path, *, out: str | Path, side_by_side: int = 1) -> dict[str, Any]:
    """Find how to scale a network on the images of `data`, and return what scale.json holds; test images aren't seen.

    `out` is a folder: the same call goes on with one that was stopped. `best.yaml` is the recipe at the budget.
    Raises RecipeError for a network that can't be scaled, or too little, SightlineError when the folder holds another
    search, and KeyboardInterrupt when the user stopped it; the runs' checkpoints are written before.
    """
    contest.check_counts(scaling.repeats, scaling.confirm, side_by_side)
    folder, recipe = Path(out), scaling.recipe
    check_place(folder)
    check_outside(folder, data)
    if recipe.model.width is not None or recipe.model.depth is not None:
        raise RecipeError("model.width and model.depth are what is searched. Leave them out of the recipe.")
    prepared = prepare(data, recipe.data, recipe.seed)
    networks = _built(scaling, folder, len(prepared.table.classes), prepared.fingerprint)
    base, at_step, at_budget = networks
    search = contest.hold(
        [base, *at_step], recipe, data, out=folder / "search", repeats=scaling.repeats, side_by_side=side_by_side
    )
    winner = search.best([each.name for each in at_step])
    best = next(each for each in at_budget if each.name == winner.candidate.name)
    result = _result(scaling, str(data), base, best, search, None)
    contest.write(folder, recipe, best, result)
    if not scaling.confirm:
        return result
    rivals = [each for each in at_budget if each.name in {PAPER.name, *(mix.name for mix in ALONE)} - {best.name}]
    again = contest.hold(
        [best, *rivals, base],
        contest.fresh(recipe, scaling.repeats),
        data,
        out=folder / "confirm",
        repeats=scaling.confirm,
        side_by_side=side_by_side,
        against=best.name,
    )
    result = _result(scaling, str(data), base, best, search, again)
    contest.write(folder, recipe, best, result)
    return result


def _built(
    scaling: Scaling, folder: Path, num_classes: int, images: str
) -> tuple[Candidate, list[Candidate], list[Candidate]]:
    """The base, every mix at the step and at the budget; kept, since latencies differ from one call to the next."""
    asked = {
        "recipe": to_yaml(scaling.recipe),
        "images": images,
        **{name: getattr(scaling, name) for name in ("budget", "step", "cost", "engine")},
    }
    if (stored := contest.read_networks(folder, asked)) is not None:
        base, *networks = (
            Candidate(name=row["name"], settings=tuple(row["settings"]), cost=row["cost"]) for row in stored["networks"]
        )
        return base, networks[: stored["at_step"]], networks[stored["at_step"] :]

    def measure(recipes: Sequence[Recipe]) -> list[float]:
        return costs(recipes, scaling.cost, num_classes=num_classes, engine=scaling.engine)

    [unit] = measure([scaling.recipe])
    base = Candidate(name=BASE, settings=(), cost=unit)
    log.info(f"{scaling.recipe.model.name}: {told(unit, scaling.cost)} an image")
    at_step = built(scaling.recipe, MIXES, unit, scaling.step, measure, tries=_TRIES[scaling.cost])
    same = scaling.budget == scaling.step
    at_budget = (
        at_step if same else built(scaling.recipe, MIXES, unit, scaling.budget, measure, tries=_TRIES[scaling.cost])
    )
    reached = {each.name for each in at_budget}
    at_step = [each for each in at_step if each.name in reached]
    if not at_step:
        raise RecipeError(
            f"{scaling.recipe.model.name} at {scaling.recipe.data.image_size} pixels can't be scaled to "
            f"{scaling.budget:g} times its cost: its roundings are too coarse. Ask for more, or name another network."
        )
    contest.write_networks(folder, asked, [base, *at_step, *at_budget], at_step=len(at_step))
    return base, at_step, at_budget


def built(
    recipe: Recipe,
    mixes: Sequence[Mix],
    unit: float,
    times: float,
    measure: Callable[[Sequence[Recipe]], list[float]],
    *,
    tries: int,
) -> list[Candidate]:
    """Each mix's network whose measured cost lies nearest to `times` that of the base, which is `unit`.

    Leaves out, and says so, a mix that comes no nearer than TOLERANCE, and one that is the same network as another.
    """
    aims = dict.fromkeys(mixes, times)
    nearest: dict[Mix, Candidate] = {}
    known: dict[Any, float] = {}
    for _ in range(tries):
        settings = {mix: each for mix, aim in aims.items() if (each := _settings(recipe, mix, aim)) is not None}
        recipes = {network_of(made): made for made in (override(recipe, each) for each in settings.values())}
        new = [network for network in recipes if network not in known]
        known |= dict(zip(new, measure([recipes[network] for network in new]), strict=True)) if new else {}
        for mix, each in settings.items():
            cost = known[network_of(override(recipe, each))]
            if mix not in nearest or _far(cost, times * unit) < _far(nearest[mix].cost, times * unit):
                nearest[mix] = Candidate(name=mix.name, settings=each, cost=cost)
            aims[mix] *= (times * unit / cost) ** 0.7  # not all the way: it would jump between two roundings
    found: list[Candidate] = []
    for mix in mixes:
        each = nearest.get(mix)
        if each is None or _far(each.cost, times * unit) > math.log1p(TOLERANCE):
            reach = "" if each is None else f"; the nearest has {each.cost / unit:.2f} times the base's"
            log.info(f"{mix.name}: no network of {times:g} times the cost{reach}. Left out.")
        elif twin := next((other for other in found if _is_same(recipe, each, other)), None):
            log.info(f"{mix.name}: the same network as {twin.name}. Left out.")
        else:
            found.append(each)
    return found


def network_of(recipe: Recipe) -> tuple[Any, int]:
    """What is built, roundings done: recipes of which it is equal have the same network on images of the same size."""
    model, (family, variant) = recipe.model, find_variant(recipe.model.name)
    factors = {"width": model.width or 1.0, "depth": model.depth or 1.0}
    return scaled(model.name, family, variant, **factors).config, recipe.data.image_size


def _is_same(recipe: Recipe, one: Candidate, other: Candidate) -> bool:
    return network_of(override(recipe, one.settings)) == network_of(override(recipe, other.settings))


def _far(cost: float, wanted: float) -> float:
    return abs(math.log(cost / wanted))


def _settings(recipe: Recipe, mix: Mix, times: float) -> tuple[str, ...] | None:
    """Of the recipe's network scaled by a mix; None where the architecture takes no image of nearly that size."""
    depth, width, resolution = mix.factors(times)
    settings: list[str] = []
    if mix.depth:
        settings.append(f"model.depth={depth:.3f}")
    if mix.width:
        settings.append(f"model.width={width:.3f}")
    if mix.resolution:
        size = _size(recipe, round(recipe.data.image_size * resolution))
        if size is None:
            return None
        crop = recipe.data.preprocess().resize / recipe.data.image_size
        settings += [f"data.image_size={size}", f"data.resize={max(size, round(size * crop))}"]
    return tuple(settings)


def _size(recipe: Recipe, wanted: int) -> int | None:
    """The side nearest to the wanted one that the architecture takes, at most a tenth away."""
    family, variant = find_variant(recipe.model.name)
    for size in sorted(range(math.ceil(wanted * 0.9), int(wanted * 1.1) + 1), key=lambda size: abs(size - wanted)):
        try:
            family.fit(variant.config, size)
        except ModelError:
            continue
        return size
    return None


def _result(
    scaling: Scaling, data: str, base: Candidate, best: Candidate, search: Contest, confirmed: Contest | None
) -> dict[str, Any]:
    mix = next(each for each in MIXES if each.name == best.name)
    return {
        "kind": "rule",
        "data": data,
        "network": scaling.recipe.model.name,
        "cost": scaling.cost,
        "engine": scaling.engine,
        "base": asdict(base),
        "step": scaling.step,
        "budget": scaling.budget,
        "rule": dict(zip(("alpha", "beta", "gamma"), mix.factors(2.0), strict=True)),
        "best": asdict(best),
        "search": search.to_json(),
        "confirmed": None if confirmed is None else confirmed.to_json(),
    }
