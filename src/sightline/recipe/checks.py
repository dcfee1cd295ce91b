"""Checks that several settings share."""

from sightline.errors import RecipeError

MOST = 1_000_000_000
"""Of epochs, images in a batch and the like: beyond it lies a slip of the finger."""


def at_least(name: str, value: int, least: int, *, most: int | None = None) -> None:
    """Raise RecipeError unless the value is `least` to `most`."""
    if value < least:
        raise RecipeError(f"{name} must be at least {least}, got {value}.")
    if most is not None and value > most:
        raise RecipeError(f"{name} must be at most {most:,}, got {value}.")


def share(name: str, value: float) -> None:
    """Raise RecipeError unless the value lies between 0 and 1."""
    if not 0 < value < 1:
        raise RecipeError(f"{name} must be greater than 0 and less than 1, got {value}.")
