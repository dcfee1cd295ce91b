"""What is searched: settings of a recipe, each over a range or a list of choices, read from what the user typed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

from sightline.errors import RecipeError, SightlineError
from sightline.recipe import Recipe
from sightline.recipe_text import override, to_plain
from sightline.tuning.meant import in_full
from sightline.tuning.vary import choices_of, full_name, words_of

_HELP = "--search takes setting=low..high, setting=log:low..high or setting=value,value,..."


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One setting and the values it may take."""

    setting: str
    """Its dotted name."""
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    """Whether the search goes by ratios rather than by differences."""
    whole: bool = False
    """Whether only whole numbers are tried."""
    choices: tuple[str, ...] = ()
    """As --set takes them; where there are any, there is no range."""

    @property
    def text(self) -> str:
        """As the user would type it."""
        if self.choices:
            return f"{self.setting}={','.join(self.choices)}"
        return f"{self.setting}={'log:' if self.log else ''}{self.low:g}..{self.high:g}"

    @property
    def ordered(self) -> bool:
        """Whether the choices are numbers: a search then learns from a choice about its neighbours, too."""
        return bool(self.choices) and all(_is_number(choice) for choice in self.choices)

    @property
    def in_order(self) -> tuple[str, ...]:
        """The choices, numbers by their size."""
        return tuple(sorted(self.choices, key=float)) if self.ordered else self.choices

    @property
    def ends(self) -> tuple[str, ...]:
        """Settings at the ends of the range, or each choice: if these are valid, so is what lies between.

        Settings of several dimensions may still contradict each other, which only their trial shows.
        """
        values = self.choices or (self.value_of(self.low), self.value_of(self.high))
        return tuple(f"{self.setting}={value}" for value in values)

    def own(self, recipe: Recipe) -> float | str | None:
        """The recipe's value where this dimension has it, as a trial holds it: a search begins with what is to beat."""
        own = in_full(recipe, [self.setting])
        value = _at(self.setting, own)
        if self.choices:
            tried = ((each, override(recipe, [f"{self.setting}={each}"])) for each in self.in_order)
            found = next((each for each, made in tried if in_full(made, [self.setting]) == own), None)
            return self.in_order.index(found) if self.ordered and found is not None else found
        is_within = isinstance(value, int | float) and self.low <= value <= self.high
        return value if is_within else None

    def value_of(self, value: float | str) -> str:
        """What a trial holds, as --set takes it: a choice, the place of a number among the choices, or a number."""
        if isinstance(value, str):
            return value
        if self.choices:
            return self.in_order[round(value)]
        return str(round(value)) if self.whole else f"{value:.6g}"


def space_of(texts: Sequence[str], recipe: Recipe) -> tuple[Dimension, ...]:
    """The dimensions of `--search`, each text holding one or several of them.

    Raises RecipeError for an unknown setting, an empty range, the logarithm of zero, or a value the recipe refuses.
    """
    dimensions = tuple(_dimension(word, recipe) for text in texts for word in words_of(text))
    check_space(dimensions, recipe)
    return dimensions


def default_space(recipe: Recipe) -> tuple[Dimension, ...]:
    """What is most often worth searching, around the recipe's own values, as far as its network has it."""
    rate, decay = recipe.optim.lr, recipe.optim.weight_decay
    dimensions = [Dimension(setting="optim.lr", low=rate / 10, high=rate * 10, log=True)]
    if decay > 0:
        dimensions.append(Dimension(setting="optim.weight_decay", low=decay / 10, high=decay * 10, log=True))
    optional = (
        Dimension(setting="loss.label_smoothing", low=0.0, high=0.2),
        Dimension(setting="model.drop_path", low=0.0, high=0.3),
    )
    return tuple(dimensions) + tuple(dimension for dimension in optional if _is_possible(dimension, recipe))


def check_space(dimensions: Sequence[Dimension], recipe: Recipe) -> None:
    """Raise RecipeError, before anything starts, for a space that is empty or holds what can't be trained here."""
    from sightline.training.job import check_job

    if not dimensions:
        raise RecipeError(f"There is nothing to search. {_HELP}.")
    names = [dimension.setting for dimension in dimensions]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise RecipeError(f"--search names {twice} twice. Give each setting once.")
    if "seed" in names:
        raise RecipeError("--search seed: the best of several seeds is luck. Leave seed out.")
    for dimension in dimensions:
        for setting in dimension.ends:
            try:
                check_job(override(recipe, [setting]))
            except SightlineError as error:
                raise RecipeError(f"--search {dimension.text}: {setting} can't be trained: {error}") from error


def _dimension(word: str, recipe: Recipe) -> Dimension:
    name, equals, values = word.partition("=")
    if not equals or not name.strip() or not values.strip():
        raise RecipeError(f"{_HELP}, got {word!r}.")
    setting = full_name(name.strip(), option="--search")
    if ".." not in values:
        return _of_choices(setting, values)
    log = values.startswith("log:")
    low, high = (_number(text, word) for text in values.removeprefix("log:").split("..", 1))
    if not low < high:
        raise RecipeError(f"--search {word}: the range is empty, since {low:g} is not less than {high:g}.")
    if log and low <= 0:
        raise RecipeError(f"--search {word}: {low:g} has no logarithm. Begin above 0, or leave log: out.")
    whole = _is_whole(setting, recipe)
    if whole and not (low.is_integer() and high.is_integer()):
        raise RecipeError(f"--search {word}: {setting} takes whole numbers alone.")
    return Dimension(setting=setting, low=low, high=high, log=log, whole=whole)


def _of_choices(setting: str, values: str) -> Dimension:
    choices = tuple(choices_of(values, option="--search"))
    if len(set(choices)) < len(choices):
        raise RecipeError(f"--search {setting}={values} names a value twice.")
    if len(choices) < 2:
        raise RecipeError(f"--search {setting}={values}: one value is no choice. Use --set to hold it.")
    return Dimension(setting=setting, choices=choices)


def _number(text: str, word: str) -> float:
    if not _is_number(text):
        raise RecipeError(f"--search {word}: {text!r} is no number.")
    return float(text)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _is_whole(setting: str, recipe: Recipe) -> bool:
    """Whether the setting takes whole numbers alone."""
    kind: Any = type(recipe)
    for part in setting.split("."):
        kind = get_type_hints(kind).get(part) if isinstance(kind, type) else None
    if kind is None:  # of an augmentation, which the recipe may have or not
        value = _at(setting, to_plain(recipe))
        return isinstance(value, int) and not isinstance(value, bool)
    kinds = get_args(kind) or (kind,)
    return int in kinds and float not in kinds


def _at(setting: str, plain: dict[str, Any]) -> Any:
    """The value of a setting in a recipe as YAML would hold it; None where there is none."""
    value: Any = plain
    for part in setting.split("."):
        entries = value if isinstance(value, list) else [value]  # augmentations are a list, each under its name
        value = next((entry[part] for entry in entries if isinstance(entry, dict) and part in entry), None)
    return value


def _is_possible(dimension: Dimension, recipe: Recipe) -> bool:
    try:
        check_space((dimension,), recipe)
    except RecipeError:
        return False
    return True
