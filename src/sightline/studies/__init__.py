"""Shipped studies: one file each, binding ENTRY to a Study; its docstring asks the question.

A study varies one factor, or two crossed, and holds everything else: each arm is trained with the same seeds.
"""

from dataclasses import dataclass
from itertools import product
from typing import cast

from sightline import catalog
from sightline.errors import RecipeError, unknown_name
from sightline.recipe import Recipe
from sightline.recipe_text import override


@dataclass(frozen=True, kw_only=True)
class Level:
    """One choice of a factor: a name, and the settings that make it."""

    label: str
    settings: tuple[str, ...]
    """As --set takes them: "optim.name=sgd", "optim.lr=0.1"."""


@dataclass(frozen=True, kw_only=True)
class Factor:
    """What is varied."""

    name: str
    levels: tuple[Level, ...]
    """The first is the baseline that the others are compared with."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One choice of every factor."""

    labels: tuple[str, ...]
    """Of the level that was chosen, for each factor."""
    settings: tuple[str, ...]

    @property
    def name(self) -> str:
        """The labels as one line."""
        return " · ".join(self.labels)


@dataclass(frozen=True, kw_only=True)
class Study:
    """A question that training can answer."""

    question: str
    recipe: Recipe
    """What is held."""
    factors: tuple[Factor, ...]
    """One, or two that are crossed."""
    repeats: int = 3
    """Runs of each arm, with the seeds recipe.seed, recipe.seed + 1, ..."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.factors) <= 2:
            raise RecipeError(f"A study varies one factor or two, got {len(self.factors)}. Vary less at a time.")
        if self.repeats < 1:
            raise RecipeError(f"--repeats must be at least 1, got {self.repeats}.")
        for factor in self.factors:
            labels = [level.label for level in factor.levels]
            if len(labels) < 2:
                raise RecipeError(f"A study compares two values or more; of {factor.name} it was given {len(labels)}.")
            twice = next((label for label in labels if labels.count(label) > 1), None)
            if twice is not None:
                raise RecipeError(f"{factor.name} names {twice!r} twice. Name each value once.")

    @property
    def arms(self) -> tuple[Arm, ...]:
        """Every combination of levels; the first is the baseline."""
        return tuple(
            Arm(
                labels=tuple(level.label for level in levels),
                settings=tuple(setting for level in levels for setting in level.settings),
            )
            for levels in product(*(factor.levels for factor in self.factors))
        )

    @property
    def seeds(self) -> tuple[int, ...]:
        """The same in each arm."""
        return tuple(self.recipe.seed + repeat for repeat in range(self.repeats))

    def recipe_of(self, arm: Arm, seed: int) -> Recipe:
        """What one run trains. Raises RecipeError that names the arm."""
        try:
            return override(self.recipe, [*arm.settings, f"seed={seed}"])
        except RecipeError as error:
            raise RecipeError(f"The arm {arm.name!r} is no valid recipe: {error}") from error


def find_study(name: str) -> Study:
    """A shipped study. Raises RecipeError with the nearest name when there is none."""
    known = catalog.names(__name__)
    if name not in known:
        raise RecipeError(unknown_name("study", name, known, listing="`sightline study --list`"))
    return cast(Study, catalog.entry(__name__, name))
