"""What the fixtures of served models give."""

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.testclient import TestClient

Serving = Callable[..., TestClient]
"""(**settings) -> a client of an application with the session's model."""


@dataclass
class Running:
    """`sightline serve` in a process of its own."""

    process: subprocess.Popen[str]
    address: str

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])


def until(met: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for it."""
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end
        time.sleep(0.01)
