"""Recipes that were run: one file each, binding ENTRY to a Recipe; its docstring says what it reached."""

import importlib
from pathlib import Path
from typing import cast

from sightline import catalog
from sightline.errors import RecipeError, given, unknown_name
from sightline.recipe import Recipe
from sightline.recipe_text import from_yaml


def find_recipe(name: str) -> Recipe:
    """A shipped recipe by its name, or one read from a YAML file.

    Raises RecipeError for an unknown name, with the nearest, or for a file that can't be read.
    """
    if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers needn't check types
        raise RecipeError(f"A recipe is a Recipe, or the name of a shipped one or of a YAML file, got {given(name)}.")
    if not name.endswith((".yaml", ".yml")) and "/" not in name:
        known = catalog.names(__name__)
        if name not in known:
            raise RecipeError(unknown_name("recipe", name, known, listing="`sightline recipes`"))
        return cast(Recipe, catalog.entry(__name__, name))
    try:
        text = Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"The recipe {name!r} can't be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"The recipe {name!r} is not a UTF-8 text.") from error
    return from_yaml(text)


def describe_recipe(name: str) -> str:
    """The first line of a shipped recipe's docstring."""
    documentation = importlib.import_module(f"{__name__}.{name}").__doc__ or ""
    return documentation.strip().splitlines()[0]
