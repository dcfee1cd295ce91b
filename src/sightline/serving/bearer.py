"""Where the server's token comes from: never a command line, which every user of the machine can read."""

import os
from pathlib import Path

from sightline.errors import SightlineError


def find_token(file: Path | None) -> str | None:
    """From the file, or else from SIGHTLINE_TOKEN; None where neither has one.

    Raises SightlineError for a file that can't be read or is empty.
    """
    if file is None:
        return os.environ.get("SIGHTLINE_TOKEN") or None
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise SightlineError(f"The token file {str(file)!r} can't be read: {error}.") from error
    if not token:
        raise SightlineError(f"The token file {str(file)!r} is empty.")
    return token
