"""Counts and names, worded for people."""

from collections.abc import Sequence


def counted(number: int, noun: str, plural: str = "") -> str:
    """The number with its noun, "1 image" or "1,797 images"; `plural` where an s is not enough ("classes")."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def listed(names: Sequence[str], limit: int = 5) -> str:
    """The first `limit` names, quoted, and how many more there are."""
    shown = ", ".join(repr(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit:,} more"


def printable(text: str) -> str:
    """One line that can't steer a terminal: names of files and classes may hold line ends, and worse."""
    return "".join(character if character.isprintable() else "�" for character in text)
