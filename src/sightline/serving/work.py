"""What goes through a batcher: requests' images on their way to an answer, and the model that gives it."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from sightline.serving.decoding import Source
from sightline.serving.problems import Problem

Answer = NDArray[np.float64] | Problem
"""(K,) probabilities of one image, or why there are none."""


@dataclass(frozen=True)
class Model:
    """What a batcher runs."""

    name: str
    decode: Callable[[Source], NDArray[np.uint8]]
    """-> (3, S, S); raises UnreadableImageError."""
    probabilities: Callable[[NDArray[np.uint8]], NDArray[np.float64]]
    """(B, 3, S, S) -> (B, K)."""
    run_seconds: float = inf
    """Of a run of as many images as a run has at most."""


@dataclass(eq=False, slots=True)
class Ticket:
    """A request's images on their way."""

    future: "asyncio.Future[list[Answer]]"
    deadline: float
    """On time.monotonic's clock."""
    answers: list[Answer]
    remaining: int
    background: bool = False
    """Whether its images are run only when nothing else is: a heat map's."""
    dropped: bool = False


@dataclass(eq=False, slots=True)
class Work:
    """One image."""

    ticket: Ticket
    place: int
    source: Source | None = None
    pixels: NDArray[np.uint8] | None = None
    ready_at: float = 0.0

    def over(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.ticket.dropped or time.monotonic() > self.ticket.deadline
