"""Which images an epoch is made of, when classes of few images shall be seen as often as the others."""

import numpy as np
from numpy.typing import NDArray

from sightline.randomness import permutation


def balanced(targets: NDArray[np.int64], seed: int, epoch: int) -> NDArray[np.int64]:
    """(M,) places in `targets` (M,) that make up an epoch in which each class comes equally often, to one image.

    Each class walks through its own images in an order that is shuffled anew whenever it has been through, and
    goes on in the next epoch where it was, so that all of a large class's images come in turn.
    The result depends on the seed and the epoch alone, whatever epochs came before. Shuffle it before use.
    """
    classes = np.unique(targets)
    quotas = np.full(len(classes), len(targets) // len(classes))
    extra = permutation(len(classes), seed, epoch, "balanced extra")[: len(targets) % len(classes)]
    quotas[extra] += 1
    most = -(-len(targets) // len(classes))
    chosen: list[NDArray[np.int64]] = []
    for label, quota in zip(classes.tolist(), quotas.tolist(), strict=True):
        own = np.flatnonzero(targets == label)
        steps = epoch * most + np.arange(quota)  # of the class's walk
        laps, places = np.divmod(steps, len(own))
        for lap in np.unique(laps).tolist():
            order = permutation(len(own), seed, label, lap, "balanced walk")
            chosen.append(own[order[places[laps == lap]]])
    return np.concatenate(chosen)


def repeats(targets: NDArray[np.int64]) -> tuple[int, float]:
    """The class with the fewest images, and how often each of them comes in a balanced epoch."""
    numbers, counts = np.unique(targets, return_counts=True)
    rarest = int(counts.argmin())
    return int(numbers[rarest]), len(targets) / len(numbers) / int(counts[rarest])


def appearances(places: NDArray[np.int64]) -> NDArray[np.int64]:
    """(M,) how often each place has come before in the row: 0 for the first time, 1 for the second."""
    order = np.argsort(places, kind="stable")
    ordered = places[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    counts = np.diff(np.r_[starts, len(ordered)])
    result = np.empty(len(places), dtype=np.int64)
    result[order] = np.arange(len(places)) - np.repeat(starts, counts)
    return result
