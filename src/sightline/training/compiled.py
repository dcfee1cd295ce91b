"""Settings that need compiled loops: refused by name where the machine can't have them."""

from collections.abc import Callable

from sightline.errors import RecipeError


def demand(
    setting: str, processor: str, *, has_processor: Callable[[], bool], is_available: Callable[[], bool]
) -> None:
    """Raise RecipeError where the loops that a setting asks for can't be had; they need such a processor."""
    if not has_processor():
        raise RecipeError(
            f"{setting} needs Linux and a processor with {processor}, which this machine hasn't. "
            f"Set {setting}=false, or train.fast=auto for what is fastest here; the weights will differ in rounding."
        )
    if not is_available():
        raise RecipeError(
            f"{setting} needs a C compiler with OpenMP, such as gcc, and a cache folder of one's own that libraries "
            "may be loaded from, and one of them is missing here. "
            f"Set $CC or $SIGHTLINE_CACHE, or {setting}=false, or train.fast=auto for what is fastest here; "
            "the weights will differ in rounding."
        )
