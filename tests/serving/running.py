"""What the fixtures of served models give."""

import subprocess
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
