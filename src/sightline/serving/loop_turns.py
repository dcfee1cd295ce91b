"""When an event loop that runs a model itself should run it: not before everything else had its turn.

A turn of the loop may accept one connection only, and a run takes as long as hundreds of turns.
"""

import time
from collections.abc import Callable

QUIET_TURN = 2e-5
"""Seconds: a turn of an event loop that takes no longer had nothing else to do."""


class Turns:
    """Asked once in each turn of the loop while there is something to run."""

    def __init__(self, patience: float, *, clock: Callable[[], float] = time.perf_counter) -> None:
        """`patience` are the seconds that other things may take before the first run; later, what the last run took."""
        self._patience, self._clock = patience, clock
        self._begun: float | None = None  # when the first of the turns before this run was
        self._asked_at = 0.0
        self._ready = 0
        self._quickest = QUIET_TURN

    def should_run(self, ready: int) -> bool:
        """Whether the turn since the last question brought nothing, or others had as long as a run takes.

        `ready` images wait to be run: more of them than in the last turn are something that it brought.
        """
        now = self._clock()
        turn, self._asked_at = now - self._asked_at, now
        seen, self._ready = self._ready, ready
        if self._begun is None:
            self._begun = now
            return False
        self._quickest = min(self._quickest, turn)
        is_quiet = ready == seen and turn < max(QUIET_TURN, 3 * self._quickest)
        return is_quiet or now - self._begun > self._patience

    def ran(self, seconds: float) -> None:
        """A run ended that took so long."""
        self._begun, self._patience = None, seconds

    def rest(self) -> None:
        """There is nothing to run."""
        self._begun = None
