"""Which 64-bit hashes lie within a few bits of each other, without comparing all with all."""

from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


def near_pairs(hashes: NDArray[np.uint64], distance: int) -> NDArray[np.int64]:
    """(M, 2) places i < j of (N,) hashes, all different, that differ in at most `distance` bits; sorted.

    Pigeonhole: cut into distance + 1 bands, two such hashes have one band in common. So only hashes that
    share a band are compared, which is exact, and quick as long as no band has one value for most of them.
    """
    found: set[tuple[int, int]] = set()
    edges = np.linspace(0, 64, distance + 2).astype(np.uint64)
    for low, high in pairwise(edges):
        band = (hashes >> low) & np.uint64((1 << int(high - low)) - 1)
        order = np.argsort(band, kind="stable")
        for first, second in _sharing(band[order]):
            left, right = order[first], order[second]
            near = np.bitwise_count(hashes[left] ^ hashes[right]) <= distance
            found.update(zip(*(np.sort([left[near], right[near]], axis=0).tolist()), strict=True))
    return np.array(sorted(found), dtype=np.int64).reshape(-1, 2)


def _sharing(band: NDArray[np.uint64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """From a sorted band: every pair of places with equal values, those at one gap from each other at a time."""
    first = np.arange(len(band))
    gap = 1
    while len(first):
        first = first[first + gap < len(band)]
        first = first[band[first] == band[first + gap]]
        yield first, first + gap
        gap += 1


def connected(count: int, links: Iterable[tuple[int, int]]) -> list[list[int]]:
    """The groups of two or more of the numbers 0 to count - 1 that links connect, each sorted."""
    parent = list(range(count))

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]  # halve the way for the next time
            number = parent[number]
        return number

    for left, right in links:
        parent[root(right)] = root(left)
    groups: dict[int, list[int]] = {}
    for number in range(count):
        groups.setdefault(root(number), []).append(number)
    return [group for group in groups.values() if len(group) > 1]
