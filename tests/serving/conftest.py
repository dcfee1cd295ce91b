"""A served model: in this process for the contract, in a process of its own for what signals and sockets do."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from formats.filled import make_filled
from running import Running, Serving
from starlette.testclient import TestClient

from sightline.model_folder import ModelFolder
from sightline.serving.app import App
from sightline.serving.limits import Settings


@pytest.fixture(scope="session")
def served_model(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return make_filled(tmp_path_factory.mktemp("served") / "photos")


@pytest.fixture
def serving(served_model: ModelFolder) -> Generator[Serving]:
    opened: list[TestClient] = []

    def open_client(**settings: object) -> TestClient:
        given = {"models": (str(served_model.path),), "watch_seconds": 0.0, "access_log": False} | settings
        client = TestClient(App(Settings(**given)), raise_server_exceptions=False)  # type: ignore[arg-type]
        client.__enter__()
        opened.append(client)
        return client

    yield open_client
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def client(serving: Serving) -> TestClient:
    return serving()


@pytest.fixture
def photo(photos: Path) -> bytes:
    return (photos / "red" / "000.jpg").read_bytes()


@pytest.fixture(scope="session")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Callable[..., Running]]:
    """Servers that live until the tests end."""
    yield from _servers(tmp_path_factory.mktemp("server"))


@pytest.fixture
def run_server(tmp_path: Path) -> Generator[Callable[..., Running]]:
    """Servers that live until the test ends."""
    yield from _servers(tmp_path)


def _servers(folder: Path) -> Generator[Callable[..., Running]]:
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str | Path) -> Running:
        with (folder / "server.log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "sightline", "serve", *map(str, arguments), "--port", "0"],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
        started.append(process)
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found is not None, (folder / "server.log").read_text()
        return Running(process, found[0])

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
