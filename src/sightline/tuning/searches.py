"""What a search is, and what it found: plain values, as tune.json holds them."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from sightline.errors import RecipeError
from sightline.recipe import Recipe
from sightline.tuning.costs import Cost, check_engine
from sightline.tuning.results import StudyResult
from sightline.tuning.space import Dimension

Sampler = Literal["gp", "tpe", "random"]
State = Literal["complete", "pruned", "failed", "running"]


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is searched, and how long."""

    recipe: Recipe
    """What is held, and what the trials are compared with in the end."""
    space: tuple[Dimension, ...]
    trials: int = 20
    """In all, those of earlier calls on the same folder counted."""
    hours: float | None = None
    """No trial begins after so many hours of this call; None is no limit."""
    sampler: Sampler = "gp"
    """How values are proposed: by a Gaussian process, by the tree-structured Parzen estimator, or at random."""
    storage: str | None = None
    """Where trials are kept that several machines share: "journal:PATH" on a file system that all see, or a database's
    address. None is a file in the search's folder. The runs stay in each machine's own folder."""
    prune: bool = True
    """End trials early that do worse than others did at the same epoch, in runs of nine epochs or more."""
    against: Cost | None = None
    """A second aim: networks that cost little. Then no trial is ended early: Optuna doesn't weigh two aims midway."""
    under: float | None = None
    """The best must cost no more: multiply-accumulates or seconds of an image."""
    engine: str = "torch"
    """What latency is measured with."""

    def __post_init__(self) -> None:
        check_engine(self.against, self.engine)
        if self.under is not None and self.against is None:
            raise RecipeError("--under limits a cost: say which with --against macs or --against latency.")
        if self.trials < 1:
            raise RecipeError(f"--trials must be at least 1, got {self.trials}.")
        if self.hours is not None and not self.hours > 0:
            raise RecipeError(f"--hours must be greater than 0, got {self.hours}.")


@dataclass(frozen=True, kw_only=True)
class TrialFigures:
    """One trial."""

    number: int
    state: State
    settings: tuple[str, ...]
    value: float | None
    """The judged validation figure, 0 to 1, at the end or, of a pruned trial, where it ended; None of a failed one."""
    epochs: int
    seconds: float
    """Of training."""
    cost: float | None = None
    """Of an image, where the search weighs it: multiply-accumulates or seconds."""
    reason: str = ""
    """Why it failed."""


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What `tune` returns and tune.json holds."""

    data: str
    space: list[dict[str, Any]]
    """Each dimension's fields, and its text."""
    trials: list[TrialFigures]
    best: TrialFigures | None
    """The highest figure, of those within the limit where there is one."""
    importance: dict[str, float]
    """Each setting's share in the variance of the finished trials' figures (fANOVA, Hutter et al., 2014)."""
    against: Cost | None = None
    under: float | None = None
    front: tuple[int, ...] = ()
    """Trials that no other beats in both figure and cost, where the search weighs both."""
    recipe_is_best: bool = False
    """Whether the best settings are the recipe's own."""
    confirmed: StudyResult | None = None
    """The best settings and the recipe as it was, trained anew with seeds that no trial saw."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        plain = asdict(replace(self, confirmed=None))
        plain["confirmed"] = None if self.confirmed is None else self.confirmed.to_json()
        return plain
