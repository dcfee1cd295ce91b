"""Where the server's token comes from: never a command line, which every user of the machine can read."""

import os
from pathlib import Path

from sightline.errors import SightlineError


def find_token(file: Path | None) -> str | None:
    """From the file, or else from SIGHTLINE_TOKEN; None where neither has one.

    White space around it is left out. Raises SightlineError for a file that can't be read or is empty, and for a token
    that isn't printable ASCII.
    """
    if file is None:
        given = os.environ.get("SIGHTLINE_TOKEN")
        return _checked(given, "SIGHTLINE_TOKEN") if given else None
    try:
        given = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise SightlineError(f"The token file {str(file)!r} can't be read: {error}.") from error
    return _checked(given, f"The token file {str(file)!r}")


def _checked(given: str, where: str) -> str:
    token = given.strip()
    if not token:
        raise SightlineError(f"{where} is empty.")
    if not (token.isascii() and token.isprintable()):
        raise SightlineError(f"{where} holds a token that isn't printable ASCII, which clients could not send.")
    return token
