"""Costs as the user types them: 2x, 5ms, 60M."""

from typing import TYPE_CHECKING

from sightline.errors import RecipeError

if TYPE_CHECKING:
    from sightline.tuning.costs import Cost


def times_of(text: str, option: str) -> float:
    """2x as a number. Raises RecipeError that names the option."""
    value = _number(text.removesuffix("x")) if text.endswith("x") else None
    if value is None:
        raise RecipeError(f"--{option} says how many times the base's cost, such as 2x, got {text!r}.")
    return value


def cost_of(text: str, option: str) -> tuple["Cost", float]:
    """5ms as seconds, 60M or 4G as multiply-accumulates. Raises RecipeError that begins with the option."""
    for unit, size in (("ms", 1e-3), ("M", 1e6), ("G", 1e9)):
        value = _number(text.removesuffix(unit)) if text.endswith(unit) else None
        if value is not None:
            return ("latency" if unit == "ms" else "macs"), value * size
    raise RecipeError(
        f"{option} is the time of an image, such as 5ms, or its multiply-accumulates, such as 60M or 4G; got {text!r}."
    )


def _number(text: str) -> float | None:
    """A number greater than 0; None of anything else."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 < value < float("inf") else None
