"""Weights that mix images with each other, and targets likewise."""

import torch
from torch import Tensor

from sightline.randomness import Draws


def mixing_weights(draws: Draws, operation: str, alpha: float) -> Tensor:
    """(B,) float64, from Beta(alpha, alpha): the share that each image keeps of itself."""
    from scipy.special import betaincinv

    return torch.from_numpy(betaincinv(alpha, alpha, _open(draws.uniform(operation))[:, 0].numpy()))


def dirichlet(draws: Draws, operation: str, alpha: float, count: int) -> Tensor:
    """(B, count) float64, from Dirichlet(alpha, ..., alpha): weights that sum to 1."""
    from scipy.special import gammaincinv

    gammas = torch.from_numpy(gammaincinv(alpha, _open(draws.uniform(operation, count)).numpy()))
    return gammas / gammas.sum(1, keepdim=True)


def mix_targets(targets: Tensor, partners: Tensor, keep: Tensor) -> Tensor:
    """Targets (B, K): `keep` (B,) of each row's own, and the rest of its partner's."""
    weights = keep.to(targets)[:, None]
    return weights * targets + (1 - weights) * targets[partners]


def _open(uniform: Tensor) -> Tensor:
    """Draws of [0, 1) as float64 in (0, 1): no distribution's end may be reached."""
    return uniform.double() + 2.0**-25
