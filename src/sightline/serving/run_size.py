"""How many images a run of the model should take: on a processor whose cache a large batch leaves, fewer are faster."""

import sys
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sightline.devices import cores, pick_device

REPEATS = 5
FEWEST = 2
"""Repeats of a size that takes long; one that takes longer is not tried."""

HANDING_OVER = 5e-4
"""Seconds of a core that a run costs besides the model: threads take turns, and find the caches filled by others."""

GAIN = 0.98
"""A larger run has to take less than this share of a smaller one's time for an image: it also makes clients wait."""


def clock_of_runs(device: str) -> Callable[[], float]:
    """What tells how long a run takes: on a single core the processor's own time, which others on it don't lengthen."""
    computes_here = "torch" not in sys.modules or pick_device(device).type == "cpu"
    return time.process_time if cores() == 1 and computes_here else time.perf_counter


def fastest_run(
    probabilities: Callable[[NDArray[np.uint8]], object],
    image_size: int,
    most: int,
    *,
    seconds: float = 2.5,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[int, float]:
    """The number of images, a power of 2 up to `most`, of which one costs the least, and the seconds of such a run.

    Every size tried is warm then.

    `probabilities` takes (B, 3, image_size, image_size). Sizes whose trying would take longer than about `seconds` in
    all are left out.
    """
    best, best_took, least, size, repeats, end = 1, float("inf"), float("inf"), 1, REPEATS, clock() + seconds
    while size <= most:
        pixels = np.zeros((size, 3, image_size, image_size), np.uint8)
        probabilities(pixels)  # engines set themselves up at the first run of a shape
        took = min(_timed(probabilities, pixels, clock) for _ in range(repeats))
        cost = (took + HANDING_OVER) / size
        if cost < GAIN * least:
            best, best_took, least = size, took, cost
        size, repeats = 2 * size, min(REPEATS, int((end - clock()) / (2 * took)) - 1)
        if repeats < FEWEST:
            break
    return best, best_took


def _timed(
    probabilities: Callable[[NDArray[np.uint8]], object], pixels: NDArray[np.uint8], clock: Callable[[], float]
) -> float:
    begun = clock()
    probabilities(pixels)
    return clock() - begun
