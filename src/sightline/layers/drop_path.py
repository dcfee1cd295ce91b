"""Stochastic depth: skip a residual branch, sample by sample, in training.

Source: Deep Networks with Stochastic Depth (Huang et al., 2016), https://arxiv.org/abs/1603.09382
"""

import torch
from torch import Tensor, nn


class DropPath(nn.Module):
    """Zero a whole sample's branch with probability `rate`, and scale the others by 1 / (1 - rate)."""

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> (B, ...)."""
        if not self.training or self.rate == 0:
            return x
        kept = torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device) >= self.rate
        return x * kept.to(x.dtype) / (1 - self.rate)

    def extra_repr(self) -> str:
        """The rate, for printing."""
        return f"rate={self.rate}"


def linear_rates(last: float, count: int) -> list[float]:
    """Rates that climb in equal steps from 0 at the first of `count` blocks to `last` (section 3, equation 4)."""
    return [last * index / max(count - 1, 1) for index in range(count)]
