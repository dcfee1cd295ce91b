"""Weights set to zero, the smallest first: anywhere, or N of every M that stay.

Sources: Learning both Weights and Connections for Efficient Neural Networks (Han et al., 2015,
https://arxiv.org/abs/1506.02626) for magnitudes; Learning N:M Fine-grained Structured Sparse Neural Networks From
Scratch (Zhou et al., 2021, https://arxiv.org/abs/2102.04010) for the pattern. Differs from the former: one threshold
for all layers, not one for each.
"""

import torch
from torch import Tensor, nn

SPARSE = 0.01
"""Share of zeros from which on they are taken for meant; training leaves next to none."""


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Matrices and kernels by name: what sparsity is about. Biases, norms and tables stay as they are."""
    layers = ((name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d))
    return {f"{name}.weight": module.weight.detach() for name, module in layers}


def sparsity(model: nn.Module) -> float:
    """The share of the weights that are zero."""
    weights = weights_of(model).values()
    return sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)


def smallest_to_zero(weights: dict[str, Tensor], share: float) -> None:
    """Set that share of all weights to zero, in place, the smallest magnitudes of all layers together."""
    magnitudes = torch.cat([weight.abs().flatten() for weight in weights.values()])
    stays = torch.ones_like(magnitudes, dtype=torch.bool)
    stays[magnitudes.argsort(stable=True)[: round(share * len(magnitudes))]] = False
    parts = stays.split([weight.numel() for weight in weights.values()])
    for weight, part in zip(weights.values(), parts, strict=True):
        weight.mul_(part.view(weight.shape))


def keep_n_of_m(weights: dict[str, Tensor], kept: int, of: int) -> list[str]:
    """Of every `of` weights that follow each other along a unit's inputs keep the `kept` largest, in place.

    Returns the names of the layers whose inputs don't divide by `of`: they stay as they are.
    """
    left: list[str] = []
    for name, weight in weights.items():
        if weight.shape[1] % of:
            left.append(name)
            continue
        rows = weight.movedim(1, -1)  # (units, ..., inputs)
        groups = rows.reshape(-1, of).abs()
        largest = groups.argsort(dim=1, descending=True, stable=True)[:, :kept]
        mask = torch.zeros_like(groups).scatter_(1, largest, 1.0).view(rows.shape)
        weight.mul_(mask.movedim(-1, 1))
    return left
