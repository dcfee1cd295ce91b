"""What a user can mend: one clear sentence, exit code 2, never a traceback."""

import difflib
import operator
import os
from collections.abc import Iterable
from pathlib import Path


class SightlineError(Exception):
    """Something the user can mend; the command prints it as `error: ...` and exits with 2."""


class DataError(SightlineError):
    """The images, the folder that holds them, or their labels."""


class UnreadableImageError(DataError):
    """One image that can't be decoded; the message is the reason alone, without the file's name."""


class RecipeError(SightlineError):
    """A setting that is unknown, of the wrong type, or contradicts another."""


class ModelError(SightlineError):
    """A model folder, a checkpoint, or an architecture."""


class MissingPackageError(SightlineError):
    """An optional package that could not be imported."""


def given(value: object) -> str:
    """What a caller gave, in words: its type, for its content may be long."""
    return "None" if value is None else f"an object of type {type(value).__name__}"


def path_of(value: object, what: str) -> Path:
    """The path of what a caller named; `what` begins the sentence. Raises SightlineError for what names nothing."""
    if not isinstance(value, str | os.PathLike):
        raise SightlineError(f"{what} is named by text or a Path, got {given(value)}.")
    return Path(value)


def check_whole(least: int = 1, error: type[SightlineError] = SightlineError, **numbers: object) -> None:
    """Raise the error unless each number, `name=value`, is a whole one of at least `least`, or None."""
    for name, value in numbers.items():
        if value is None:
            continue
        try:
            number = operator.index(value)  # pyright: ignore[reportArgumentType]  # callers needn't check types
        except TypeError:
            raise error(f"{name} must be a whole number, got {given(value)}.") from None
        if number < least:
            raise error(f"{name} must be at least {least}, got {number}.")


def unknown_name(kind: str, name: str, known: Iterable[str], *, listing: str) -> str:
    """The sentence for a name that does not exist: the nearest one, and where the list is.

    `kind` is the thing in words ("setting", "model"); `listing` the command that prints the list.
    """
    if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers needn't check types
        return f"A {kind}'s name is text, got {given(name)}. {listing} lists them all."
    names = list(known)
    last = [each for each in names if each.rpartition(".")[2] == name]  # "lr" of optim.lr
    nearest = last or difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    return f"Unknown {kind} {name!r}.{hint} {listing} lists them all."
