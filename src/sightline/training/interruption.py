"""Ctrl-C and SIGTERM end a run between two steps, after a checkpoint; a Ctrl-C after that ends it at once.

Another SIGTERM changes nothing: a terminal's Ctrl-C reaches a study and its runs alike, and the study then asks the
runs once more.
"""

import logging
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType

log = logging.getLogger("sightline")

NOTHING_KEPT = "Nothing was kept."

_told = ContextVar("told", default="The same call goes on (`train`: with --resume) from {last}.")
"""What a user who stopped a run is told; whatever else trains goes on without that option, unless it says so."""


@contextmanager
def told_of_a_stop(sentence: str) -> Generator[None]:
    """Runs in this block that the user stops say this, with the checkpoint in the place of "{last}"."""
    token = _told.set(sentence)
    try:
        yield
    finally:
        _told.reset(token)


def way_on(last: str) -> str:
    """What a user who stopped a run is told, whose checkpoint is `last`."""
    return _told.get().replace("{last}", last)


class _StopAtOnce(BaseException):
    """A KeyboardInterrupt that Lightning doesn't take for its own: it would end the process with exit code 1."""


@contextmanager
def watch_for_interruption() -> Generator[Callable[[], bool]]:
    """Yield a function that says whether the user has asked to stop; each call watches anew.

    Lightning puts its own handler in the place of ours when a run begins, and ends it with exit code 0.

    Raises KeyboardInterrupt at a Ctrl-C when asked already; the last checkpoint stays as it is.

    Handlers can be set in the main thread only; in another one nothing is watched.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def note(number: int, _frame: FrameType | None) -> None:
        if asked.is_set() and number == signal.SIGINT:
            raise _StopAtOnce
        asked.set()

    def look() -> bool:
        for number in previous:
            if signal.getsignal(number) is not note:
                signal.signal(number, note)
        return asked.is_set()

    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    look()
    try:
        yield look
    except _StopAtOnce:
        log.info(f"Stopped at once. {way_on('the last checkpoint')}")
        raise KeyboardInterrupt from None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
