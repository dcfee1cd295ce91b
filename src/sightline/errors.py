"""What a user can mend: one clear sentence, exit code 2, never a traceback."""

import difflib
from collections.abc import Iterable


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


def unknown_name(kind: str, name: str, known: Iterable[str], *, listing: str) -> str:
    """The sentence for a name that does not exist: the nearest one, and where the list is.

    `kind` is the thing in words ("setting", "model"); `listing` the command that prints the list.
    """
    names = list(known)
    last = [each for each in names if each.rpartition(".")[2] == name]  # "lr" of optim.lr
    nearest = last or difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    return f"Unknown {kind} {name!r}.{hint} {listing} lists them all."
