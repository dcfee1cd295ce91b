"""Settings that need compiled loops: refused by name where the machine can't have them."""

from typing import Protocol

from sightline.errors import RecipeError


class Loops(Protocol):
    """A module of sightline.native."""

    def available(self) -> bool:
        """Whether this machine has the loops."""
        ...

    def has_processor(self) -> bool:
        """Whether the processor knows what they are made of."""
        ...


def demand(loops: Loops, setting: str, processor: str) -> None:
    """Raise RecipeError where the loops that a setting asks for can't be had; they need such a processor."""
    if not loops.has_processor():
        raise RecipeError(
            f"{setting} needs Linux and a processor with {processor}, which this machine hasn't. "
            f"Set {setting}=false; the weights will differ in rounding."
        )
    if not loops.available():
        raise RecipeError(
            f"{setting} needs a C compiler with OpenMP, such as gcc, and a cache folder of one's own that libraries "
            "may be loaded from, and one of them is missing here. "
            f"Set $CC or $SIGHTLINE_CACHE, or {setting}=false; the weights will differ in rounding."
        )
