"""A parent of workers that end by themselves: doubles, each a process of one call."""

import contextlib
import multiprocessing
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pytest
from running import until

from sightline.serving import workers
from sightline.serving.limits import Settings
from sightline.serving.workers import USERS_MISTAKE, _Supervisor, bind

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Generator[_Supervisor]:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))  # set anew by the parent, and put back
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    settings = Settings(models=("photos",), port=0, workers=2)
    with bind(settings) as listening:
        yield _Supervisor(settings, listening, lambda: None)
    for number, handler in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
        signal.signal(number, handler)


class Workers:
    """The first sleeps, those after it exit at once."""

    def __init__(self, code: int) -> None:
        self.started: list[SpawnProcess] = []
        self._code = code

    def __call__(self) -> SpawnProcess:
        call: Callable[[int], object] = sys.exit if self.started else time.sleep
        self.started.append(SPAWN.Process(target=call, args=(self._code if self.started else 60,)))
        self.started[-1].start()
        return self.started[-1]


@pytest.mark.parametrize("code", [1, USERS_MISTAKE])
def test_a_signal_ends_the_pause_before_a_replacement(
    supervisor: _Supervisor, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    started = Workers(code)
    monkeypatch.setattr(supervisor, "_start", started)
    monkeypatch.setattr(workers, "FIRST_PAUSE", 30.0, raising=False)
    supervisor._ready.set()

    def stop() -> None:
        until(lambda: len(started.started) == 2 and not started.started[1].is_alive())
        time.sleep(0.7)  # its end has been seen
        signal.raise_signal(signal.SIGTERM)

    stopping = threading.Thread(target=stop)
    stopping.start()
    begun = time.monotonic()
    supervisor.run()
    stopping.join()
    assert time.monotonic() - begun < 15
    assert [process.exitcode for process in started.started] == [-signal.SIGTERM, code]


def test_a_first_worker_that_can_t_open_the_models_ends_the_others(
    supervisor: _Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = Workers(USERS_MISTAKE)
    monkeypatch.setattr(supervisor, "_start", started)
    with pytest.raises(SystemExit) as stopped:
        supervisor.run()
    assert stopped.value.code == USERS_MISTAKE
    living = [process for process in started.started if process.is_alive()]
    for process in living:  # so that this process can end
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    assert not living
