"""Pareto's front: what no other is ahead of in both of two things."""

from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def unbeaten(items: Sequence[Item], cost: Callable[[Item], float], quality: Callable[[Item], float]) -> list[Item]:
    """Those whose quality no other reaches for less or the same, by rising cost."""
    front: list[Item] = []
    for item in sorted(items, key=lambda item: (cost(item), -quality(item))):
        if not front or quality(item) > quality(front[-1]):
            front.append(item)
    return front
