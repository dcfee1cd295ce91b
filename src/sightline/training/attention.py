"""Attention transfer: a student learns where its teacher's feature maps are strong.

The map of a stage is the mean of its squared channels at each place, so networks of any width, and convolutions and
transformers, can be compared.

Source: Paying More Attention to Attention (Zagoruyko and Komodakis, ICLR 2017, https://arxiv.org/abs/1612.03928),
equation 2. Differs from the paper: the squared difference is averaged over places, as in the authors' code, and maps of
different sizes are averaged to the smaller one.
"""

from collections.abc import Sequence
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.models import Classifier


class Maps:
    """The stages' maps of a network's newest forward pass."""

    def __init__(self, model: Classifier) -> None:
        self._maps: dict[str, Tensor] = {}
        for stage in model.stages:
            model.get_submodule(stage.name).register_forward_hook(self._hook(stage.name, stage.channels))

    def take(self) -> list[Tensor]:
        """(B, h, w) of each stage, from the finest to the coarsest; they are forgotten here."""
        maps = list(self._maps.values())
        self._maps = {}
        return maps

    def _hook(self, name: str, channels: int) -> Any:
        def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            self._maps[name] = attention(output, channels)

        return keep


def attention(features: Tensor, channels: int) -> Tensor:
    """(B, h, w) from maps (B, C, h, w) or (B, h, w, C), or from tokens (B, N, C), where one may stand for the class."""
    if features.ndim == 3:
        side = isqrt(features.shape[1])
        return attention(features[:, features.shape[1] - side * side :].unflatten(1, (side, side)), channels)
    return features.float().square().mean(1 if features.shape[1] == channels else 3)


def difference(given: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """How far the maps are apart, each of length 1: summed over stages, the coarsest beside the coarsest."""
    pairs = list(zip(reversed(given), reversed(wanted), strict=False))
    return torch.stack([(_unit(mine, theirs) - _unit(theirs, mine)).square().mean() for mine, theirs in pairs]).sum()


def _unit(places: Tensor, other: Tensor) -> Tensor:
    """(B, h * w) of length 1, on the smaller of the two grids."""
    size = (min(places.shape[1], other.shape[1]), min(places.shape[2], other.shape[2]))
    return F.normalize(F.adaptive_avg_pool2d(places, size).flatten(1))
