"""Which units go: the least important ones of the whole network, as many as the target asks for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sightline.errors import ModelError
from sightline.pruning.groups import Group, Removed

LEAST = 0.1
"""Share of a group's units that always stay: below it a layer becomes a bottleneck that training doesn't widen."""

_STEPS = 12
"""Halvings of the share of units that go."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """How units are chosen."""

    ranking: Literal["global", "layer"] = "global"
    """global: all layers' units together; layer: the same share of each layer."""
    round_to: int = 8
    """Channels that stay are a multiple of it, which kernels like; 1 rounds nothing."""

    def removed(self, scores: Mapping[Group, Tensor], share: float) -> Removed:
        """The units to cut where `share` of them should go; heads and channels are ranked apart."""
        counts: dict[Group, int] = {}
        for heads in (False, True):
            alike = {group: values for group, values in scores.items() if (group.attention is not None) is heads}
            counts |= self._counts(alike, share)
        removed: dict[Group, Tensor] = {}
        for group, count in counts.items():
            going = torch.zeros(group.num_units, dtype=torch.bool)
            going[scores[group].argsort(stable=True)[: group.num_units - self._staying(group, count)]] = True
            if going.any():
                removed[group] = going
        return removed

    def _counts(self, scores: Mapping[Group, Tensor], share: float) -> dict[Group, int]:
        """How many units of each group stay before rounding."""
        if self.ranking == "layer" or not scores:
            return {group: round(group.num_units * (1 - share)) for group in scores}
        ranked = torch.cat(list(scores.values())).sort().values
        going = round(len(ranked) * share)
        threshold = ranked[going] if going < len(ranked) else ranked[-1] + 1
        return {group: int((values >= threshold).sum()) for group, values in scores.items()}

    def _staying(self, group: Group, count: int) -> int:
        count = max(count, 1, round(group.num_units * LEAST))
        if group.attention is None:
            count = -(-count // self.round_to) * self.round_to
        return min(count, group.num_units)


def reach(
    choice: Choice,
    scores: Mapping[Group, Tensor],
    cost: Callable[[Removed], float],
    *,
    target: float,
    words: str,
) -> Removed:
    """The fewest units whose removal brings `cost` down to `target`, both as shares of the whole network's.

    Raises ModelError when not even cutting all that may go does.
    """
    most = choice.removed(scores, 1.0)
    least = cost(most)
    if least > target:
        rounds = choice.round_to > 1
        raise ModelError(
            f"{words}={target:g} can't be reached: with every channel cut that may go, {least:.3g} of the {words} are "
            f"left (at least {LEAST:.0%} of each layer stay{f', in multiples of {choice.round_to}' if rounds else ''})."
            f" Ask for more than that{', or lower --round-to' if rounds else ''}."
        )
    low, high, best = 0.0, 1.0, most
    for _ in range(_STEPS):
        middle = (low + high) / 2
        tried = choice.removed(scores, middle)
        if cost(tried) <= target:
            high, best = middle, tried
        else:
            low = middle
    return best
