"""Processes: one that serves, or a parent that starts several on one socket and replaces any that dies."""

import asyncio
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import SpawnProcess
from multiprocessing.process import parent_process
from multiprocessing.synchronize import Event
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn
import uvloop

from sightline.errors import SightlineError
from sightline.model_folder import read_description
from sightline.serving.limits import Settings
from sightline.serving.protocol import bounded_by
from sightline.serving.served import named_paths

if TYPE_CHECKING:
    from sightline.serving.app import App

USERS_MISTAKE = 2
"""Exit code of a worker that can't open its models; none is started again unless the server has been ready."""

SHORT_LIFE = 10.0
"""Seconds; a worker that ends sooner is started again after a pause, which doubles each time."""

JUST_TAKEN = 0.25
"""Seconds that a connection has for its first request when the server stops."""

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds."""

LAST_READING = 1.0
"""Seconds that a client has to read its last answer when the server stops."""

_log = logging.getLogger("sightline.serving")


def run(settings: Settings, on_listening: Callable[[str], None]) -> None:
    """Serve until told to stop. Raises SightlineError."""
    for path in named_paths(settings.models).values():
        read_description(path)
    listening = bind(settings)
    _set_up_logging()
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host

    def on_ready() -> None:
        on_listening(f"http://{shown}:{port}")

    with listening:
        if settings.workers == 1:
            serve_here(settings, listening, on_ready)
        else:
            _Supervisor(settings, listening, on_ready).run()


def bind(settings: Settings) -> socket.socket:
    """A socket at the address. Raises SightlineError when it can't be had."""
    try:
        family, _, _, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except (OSError, UnicodeError) as error:  # a host that can't be a name is the latter
        raise _cannot_serve(settings, error) from error
    return listening


def _cannot_serve(settings: Settings, error: Exception) -> SightlineError:
    where, reason = f"{settings.host}:{settings.port}", getattr(error, "strerror", None) or error
    return SightlineError(f"Can't serve at {where}: {reason}. Choose another --port or --host.")


def serve_here(settings: Settings, listening: socket.socket, on_ready: Callable[[], None]) -> None:
    """Open the models and serve in this process; `on_ready` is called between the two. Raises SightlineError."""
    from sightline.serving.app import App

    async def main() -> None:
        app = App(settings)
        await app.open()
        server = Server(_config(app, settings), app, on_ready)
        parent = parent_process()
        if parent is not None:
            asyncio.get_running_loop().add_reader(parent.sentinel, server.drain)
        try:
            await server.serve([listening])
        finally:
            await app.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


class Server(uvicorn.Server):
    """Told to stop it first drains: clients are told to leave, and what they still send is answered."""

    def __init__(self, config: uvicorn.Config, app: "App", on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._app = app
        self._on_ready = on_ready
        self._loop = asyncio.get_running_loop()
        self._signals = 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so. Raises SightlineError where another has begun to since the address was taken."""
        for each in sockets or ():
            try:
                each.listen(self.config.backlog)  # the event loop would not say that it can't
            except OSError as error:
                raise _cannot_serve(self._app.settings, error) from error
        await super().startup(sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, wait for the requests of those just taken, answer everything.

        A client that doesn't read its answers is waited for no longer than a request may take.
        """
        for server in self.servers:
            server.close()
        await asyncio.sleep(JUST_TAKEN)
        patience = self._app.settings.limits.deadline_seconds + LAST_READING
        timer = self._loop.call_later(patience, self._abort)
        await super().shutdown(sockets)
        timer.cancel()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """At the first signal drain; at a second one stop as soon as everything accepted is answered; then at once.

        A worker is told by its parent, and leaves alone a Ctrl-C, which reaches both.
        """
        del frame
        if sig == signal.SIGINT and parent_process() is not None:
            return
        self._signals += 1
        if self._signals == 1:
            self._loop.call_soon_threadsafe(self.drain)
        else:
            self.should_exit = True
        if self._signals > 2:
            self.force_exit = True
            self._loop.call_soon_threadsafe(self._abort)

    def drain(self) -> None:
        """End each connection with its next answer, begin no reload, and stop a moment later."""
        parent = parent_process()
        if parent is not None:
            self._loop.remove_reader(parent.sentinel)
        self._app.door.draining = True
        self._app.served.stop_reloading()
        self._loop.call_later(self._app.settings.limits.drain_seconds, self._stop)

    def _stop(self) -> None:
        self.should_exit = True

    def _abort(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()


@dataclass
class _Place:
    """One worker after another."""

    worker: SpawnProcess | None
    """None after one has ended, until the next is started."""
    started: float
    """When the last one was, on time.monotonic's clock."""
    pause_seconds: float = 0.0
    due: float = 0.0
    """When the next one is to be started, on the same clock."""


class _Supervisor:
    """Starts the workers, watches them, ends them."""

    def __init__(self, settings: Settings, listening: socket.socket, on_ready: Callable[[], None]) -> None:
        self._on_ready = on_ready
        self._settings = settings
        self._listening = listening
        self._context = multiprocessing.get_context("spawn")
        self._ready = self._context.Event()
        self._places: list[_Place] = []
        self._signals = 0

    def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._count_signal)
        with tempfile.TemporaryDirectory(prefix="sightline-metrics-") as folder:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder  # read by prometheus_client in each worker
            try:
                for _ in range(self._settings.workers):
                    self._places.append(_Place(self._start(), time.monotonic()))
                while not self._signals:
                    multiprocessing.connection.wait([worker.sentinel for worker in self._workers()], timeout=0.5)
                    for place in self._places:
                        self._tend(place)
                    self._announce()
            finally:
                self._end()

    def _workers(self) -> list[SpawnProcess]:
        return [place.worker for place in self._places if place.worker is not None]

    def _announce(self) -> None:
        """Once, when the first worker answers."""
        if self._ready.is_set():
            self._on_ready()
            self._on_ready = _nothing

    def _count_signal(self, _signal: int, _frame: FrameType | None) -> None:
        self._signals += 1

    def _start(self) -> SpawnProcess:
        worker = self._context.Process(
            target=_work, args=(self._settings, self._listening, self._ready), name="sightline-worker"
        )
        worker.start()
        return worker

    def _tend(self, place: _Place) -> None:
        """Start the next worker where one has ended and its pause is over."""
        if self._signals:
            return
        if place.worker is not None and not place.worker.is_alive():
            self._note_end(place, place.worker)
            place.worker = None
        if place.worker is None and time.monotonic() >= place.due:
            place.worker, place.started = self._start(), time.monotonic()

    def _note_end(self, place: _Place, worker: SpawnProcess) -> None:
        """Say when the next one is to be started. Raises SystemExit where no worker could open the models yet."""
        can_t_open = worker.exitcode == USERS_MISTAKE
        if can_t_open and not self._ready.is_set():
            raise SystemExit(USERS_MISTAKE)
        _forget_gauges(worker.pid)
        now = time.monotonic()
        short = can_t_open or now - place.started < SHORT_LIFE
        place.pause_seconds = min(LONGEST_PAUSE, max(FIRST_PAUSE, 2 * place.pause_seconds)) if short else 0.0
        place.due = now + place.pause_seconds
        pid, code, seconds = worker.pid, worker.exitcode, place.pause_seconds
        _log.error("worker %s ended with %s; another takes its place in %g seconds", pid, code, seconds)

    def _end(self) -> None:
        """Tell the workers to stop, once more with each further signal, and wait until all have."""
        told = -1
        while living := [worker for worker in self._workers() if worker.is_alive()]:
            if told != self._signals:
                told = self._signals
                for worker in living:
                    worker.terminate()
            multiprocessing.connection.wait([worker.sentinel for worker in living], timeout=0.5)


def _work(settings: Settings, listening: socket.socket, ready: Event) -> None:
    """What a worker process does."""
    _set_up_logging()
    try:
        serve_here(settings, listening, ready.set)
    except SightlineError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(USERS_MISTAKE)
    except KeyboardInterrupt:
        sys.exit(0)


def _nothing() -> None: ...


def _forget_gauges(pid: int | None) -> None:
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(pid)


def _config(app: "App", settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=bounded_by(settings.limits.header_seconds),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )


def _set_up_logging() -> None:
    """Our own lines, and what uvicorn warns of, on the standard error stream."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("sightline").setLevel(logging.INFO)
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # clients that break the protocol
