"""How a server ends that is told to: one in a thread, told what signals would tell it."""

import asyncio
import http.client
import signal
import socket
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import replace

import numpy as np
import pytest
import uvicorn
import uvloop
from numpy.typing import NDArray
from running import until

from sightline.errors import SightlineError
from sightline.model_folder import ModelFolder
from sightline.serving import workers
from sightline.serving.app import App
from sightline.serving.decoding import Source
from sightline.serving.limits import Limits, Settings
from sightline.serving.protocol import bounded_by
from sightline.serving.workers import Server, bind

SOON = 8.0
"""Seconds; less than a request may take."""


class Stoppable:
    """A server that listens."""

    def __init__(self, settings: Settings) -> None:
        self.server: Server
        self.app: App
        self._listening = threading.Event()
        self._socket = bind(settings)
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._run, args=(settings,), daemon=True)
        self._thread.start()
        assert self._listening.wait(20)

    def _run(self, settings: Settings) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve(settings))

    async def _serve(self, settings: Settings) -> None:
        self.app = App(settings)
        await self.app.open()
        http = bounded_by(settings.limits.header_seconds)
        config = uvicorn.Config(self.app, http=http, ws="none", lifespan="off", log_config=None, access_log=False)
        self.server = Server(config, self.app, self._listening.set)
        await self.server.serve([self._socket])
        await self.app.close()

    def signal(self, times: int = 1, number: signal.Signals = signal.SIGTERM) -> None:
        for _ in range(times):
            self.server.handle_exit(number, None)

    def ends(self) -> bool:
        self._thread.join(SOON)
        return not self._thread.is_alive()


Start = Callable[..., Stoppable]


@pytest.fixture
def start(served_model: ModelFolder) -> Start:
    def start_server(*, drain_seconds: float = 0.1, deadline_seconds: float = 30.0) -> Stoppable:
        limits = Limits(drain_seconds=drain_seconds, deadline_seconds=deadline_seconds)
        models = (str(served_model.path),)
        return Stoppable(Settings(models=models, port=0, watch_seconds=0, access_log=False, limits=limits))

    return start_server


@pytest.fixture
def clog() -> Generator[Callable[[Stoppable], None]]:
    """Clients that ask for much and read nothing."""
    clients: list[socket.socket] = []

    def connect(running: Stoppable) -> None:
        client = socket.socket()
        clients.append(client)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", running.port))
        client.sendall(b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n" * 3000)
        connections = running.server.server_state.connections
        until(lambda: any(connection.flow.write_paused for connection in list(connections)))  # type: ignore[union-attr]

    yield connect
    for client in clients:
        client.close()


def test_a_client_that_reads_nothing_is_left_after_the_deadline(start: Start, clog: Callable[..., None]) -> None:
    running = start(deadline_seconds=0.5)
    clog(running)
    running.signal()
    assert running.ends()


def test_a_third_signal_ends_it_at_once(start: Start, clog: Callable[..., None]) -> None:
    running = start()
    clog(running)
    running.signal(times=3)
    assert running.ends()


def test_a_second_signal_still_has_all_that_was_accepted_answered(
    start: Start, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sightline.serving.served.cores", lambda: 2)  # this decoding would hold a single core's loop
    running = start(drain_seconds=30)
    batcher = next(iter(running.app.served)).batcher
    model, may_decode = batcher._model, threading.Event()

    def decode(source: Source) -> NDArray[np.uint8]:
        assert may_decode.wait(20)
        return model.decode(source)

    batcher._model = replace(model, decode=decode)
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)
    connection.request("POST", "/v1/predict", photo, {"content-type": "image/jpeg"})
    until(lambda: batcher.waiting == 1)
    running.signal(times=2)
    until(lambda: not running.server.servers[0].is_serving())
    may_decode.set()
    assert connection.getresponse().status == 200
    connection.close()
    assert running.ends()


def test_a_server_that_is_stopping_begins_no_reload(start: Start) -> None:
    running = start(drain_seconds=1)
    running.signal()
    until(lambda: running.app.door.draining)
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)
    connection.request("POST", "/v1/models/photos/reload")
    answer = connection.getresponse()
    assert (answer.status, b'"code":"stopping"' in answer.read()) == (503, True)
    connection.close()
    assert running.ends()


def test_a_worker_leaves_ctrl_c_to_its_parent(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    running = start()
    with monkeypatch.context() as patch:
        patch.setattr(workers, "parent_process", object)
        running.signal(number=signal.SIGINT)
    time.sleep(0.2)
    assert not running.app.door.draining
    running.signal(times=2)
    assert running.ends()


def test_a_server_whose_address_another_listens_at_by_now_says_so(served_model: ModelFolder) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        settings = Settings(models=(str(served_model.path),), port=other.getsockname()[1])
        with bind(settings) as listening:  # as the other does not listen yet
            other.listen()
            with pytest.raises(SightlineError, match=r"Can't serve at 127.0.0.1:\d+: Address already in use"):
                workers.serve_here(settings, listening, lambda: None)


def test_a_host_that_can_t_be_one_is_a_sentence() -> None:
    with pytest.raises(SightlineError, match=r"Can't serve at a\.\.b:8000: "):
        bind(Settings(models=("photos",), host="a..b"))
