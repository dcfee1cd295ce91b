"""Timing networks side by side: each in a process of its own, in turns, so that a busy moment hits all of them alike.

One process a network, since the thread pools of two runtimes in one process wait for each other's cores.
"""

import time
from collections.abc import Iterator, Mapping
from statistics import median
from typing import TypeVar

from sightline.errors import SightlineError
from sightline.measuring.process import Worker

Key = TypeVar("Key")

WARM_UP_SECONDS = 0.5
"""Of calls that are not counted, at least one: the first ones choose kernels and take memory."""

MIN_ROUNDS = 3
"""So many there are however long they take."""


class Rounds:
    """What was measured of one network: seconds for each call, round by round; or why it could not be."""

    def __init__(self) -> None:
        self.rounds: list[list[float]] = []
        self.failure: str | None = None

    @property
    def calls(self) -> list[float]:
        """Seconds of every call."""
        return [seconds for calls in self.rounds for seconds in calls]

    @property
    def median(self) -> float:
        """Seconds of a call; infinite where there was none."""
        return median(self.calls) if self.rounds else float("inf")


def in_turns(
    workers: Mapping[Key, Worker],
    *,
    rounds: int,
    seconds: float,
    hopeless: float | None = None,
    limit: float | None = None,
) -> Iterator[dict[Key, Rounds]]:
    """Warm all up, then let each call its network for so many seconds, one after another, `rounds` times.

    Yields what there is after each turn, warm-ups included: `len(workers) * (rounds + 1)` times. A network that fails
    has its reason and no more turns; so has one more than `hopeless` times slower than the best, without a reason.
    After `limit` seconds there are no more than MIN_ROUNDS rounds.
    """
    found = {key: Rounds() for key in workers}
    began = time.monotonic()
    for turn in range(rounds + 1):
        if limit is not None and turn > MIN_ROUNDS and time.monotonic() - began > limit:
            return
        best = min((measured.median for measured in found.values()), default=float("inf"))
        for key, worker in workers.items():
            measured = found[key]
            late = hopeless is not None and measured.rounds and measured.median > hopeless * best
            if measured.failure is None and not late:
                try:
                    calls = worker.run(WARM_UP_SECONDS if turn == 0 else seconds)
                except SightlineError as error:
                    measured.failure = str(error)
                    measured.rounds = []
                else:
                    measured.rounds += [calls] if turn else []
            yield found
