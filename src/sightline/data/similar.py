"""Which 64-bit hashes lie within a few bits of each other, without comparing all with all."""

from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


def near_groups(hashes: NDArray[np.uint64], distance: int) -> NDArray[np.int64]:
    """(N,) for each of (N,) hashes, all different, the smallest place in its group.

    A group is what steps of at most `distance` bits lead to. Pigeonhole: cut into distance + 1 bands, two hashes so
    near have one band in common. So only hashes that share a band are compared, which is exact, and quick as long as no
    band has one value for most of them. No pair is kept: look-alike images have millions.
    """
    groups = np.arange(len(hashes))
    edges = np.linspace(0, 64, distance + 2).astype(np.uint64)
    for low, high in pairwise(edges):
        band = (hashes >> low) & np.uint64((1 << int(high - low)) - 1)
        order = np.argsort(band, kind="stable")
        for first, second in _sharing(band[order]):
            left, right = order[first], order[second]
            near = (groups[left] != groups[right]) & (np.bitwise_count(hashes[left] ^ hashes[right]) <= distance)
            if near.any():
                groups = _joined(groups, groups[left[near]], groups[right[near]])
    return groups


def _joined(groups: NDArray[np.int64], left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """The groups after each of `left` has become one with that of `right`."""
    names, links = np.unique([left, right], return_inverse=True)
    renamed = np.arange(len(groups))
    for group in connected(len(names), zip(*links.reshape(2, -1).tolist(), strict=True)):
        renamed[names[group]] = names[group[0]]
    return renamed[groups]


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
