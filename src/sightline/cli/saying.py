"""What the verbs say while they work goes to the standard error stream, as plain lines."""

import logging
import sys


def say() -> None:
    """Print what Sightline's functions report from now on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("sightline")
    logger.setLevel(logging.INFO)
    logger.handlers = [handler]
    logger.propagate = False
