"""Ctrl-C and SIGTERM end a run between two steps, after a checkpoint; a second Ctrl-C ends it at once."""

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def watch_for_interruption() -> Generator[Callable[[], bool]]:
    """Yield a function that says whether the user has asked to stop.

    Handlers can be set in the main thread only; in another one nothing is watched.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def note(number: int, _frame: FrameType | None) -> None:
        asked.set()
        signal.signal(number, previous[signal.Signals(number)])

    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in previous:
        signal.signal(number, note)
    try:
        yield asked.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
