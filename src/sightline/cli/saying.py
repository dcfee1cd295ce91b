"""What the verbs say while they work goes to the standard error stream, as plain lines."""

import logging
import sys


class _Handler(logging.Handler):
    """Writes to what the standard error stream is at the moment: a bar or a table that is drawn there makes room."""

    def emit(self, record: logging.LogRecord) -> None:
        """One line."""
        print(self.format(record), file=sys.stderr, flush=True)


def write_for_programs() -> None:
    """JSON and CSV on the standard output are UTF-8, whatever the terminal speaks."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(encoding="utf-8", errors="backslashreplace")  # of a name that is no text: JSON reads it so


def say() -> None:
    """Print what Sightline's functions report from now on."""
    handler = _Handler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("sightline")
    logger.setLevel(logging.INFO)
    logger.handlers = [handler]
    logger.propagate = False
