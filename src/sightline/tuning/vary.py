"""What the user typed after --vary and --arm, as factors; and the words and values of --search."""

from collections.abc import Sequence

from sightline.errors import RecipeError
from sightline.recipe_text import explain
from sightline.studies import Factor, Level


def factor_of(text: str) -> Factor:
    """From "optim.name=sgd,adamw", or "activation=relu,gelu" where one setting alone ends so.

    Values may be lists: commas inside brackets don't separate. Raises RecipeError for anything else.
    """
    name, equals, values = text.partition("=")
    if not equals or not values.strip():
        raise RecipeError(f"--vary takes name=value,value,..., got {text!r}.")
    setting = full_name(name.strip(), option="--vary")
    levels = tuple(
        Level(label=value, settings=(f"{setting}={value}",)) for value in choices_of(values, option="--vary")
    )
    return Factor(name=setting, levels=levels)


def factor_of_arms(texts: Sequence[str]) -> Factor:
    """Each "label: setting=value setting=value ..." is a level; "label:" alone is the recipe as it is."""
    levels: list[Level] = []
    for text in texts:
        label, colon, settings = text.partition(":")
        if not colon or not label.strip():
            raise RecipeError(f"--arm takes 'label: setting=value ...', got {text!r}.")
        levels.append(Level(label=label.strip(), settings=tuple(words_of(settings))))
    return Factor(name="arm", levels=tuple(levels))


def full_name(name: str, *, option: str) -> str:
    """The one setting that ends in `.name`, where there is one; else the name itself, which --set then judges."""
    endings = [dotted for dotted, _, _ in explain() if dotted.endswith(f".{name}") and not dotted.startswith("augment")]
    if len(endings) > 1:
        raise RecipeError(f"{option} {name}: several settings end so ({', '.join(endings)}). Name one in full.")
    return endings[0] if endings else name


def choices_of(text: str, *, option: str) -> list[str]:
    """The values between commas; those inside of brackets don't separate. Raises RecipeError, naming the option."""
    values = [value.strip() for value in _split(text, ",")]
    if not all(values):
        raise RecipeError(f"{option}: a value is missing in {text!r}; a comma stands between two values.")
    return values


def words_of(text: str) -> list[str]:
    """What stands between spaces; those inside of brackets don't separate."""
    return [word for word in _split(text, " ") if word]


def _split(text: str, separator: str) -> list[str]:
    """Cut at separators that stand outside of brackets and braces."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "[{") - (character in "]}")
        if character == separator and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts
