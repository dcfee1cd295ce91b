"""Optimisers by name, with weight decay only where it belongs."""

from typing import Any

import torch
from torch import nn

from sightline.recipe import OptimConfig


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """The optimiser for every parameter that is not frozen.

    Decay is SGD's L2 term or AdamW's decoupled one, as torch implements each.
    """
    groups = parameter_groups(model, config.weight_decay)
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov)
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: what decays, and what does not.

    Matrices and kernels decay. Biases, norms and scales have one dimension and do not: shrinking them
    limits what the network can say without making it simpler. Nor do embeddings of position.
    """
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        group = kept if parameter.ndim <= 1 or _is_embedding(name) else decayed
        group.append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _is_embedding(name: str) -> bool:
    """By name: position tables and class tokens have the shape of matrices, but are added, not multiplied."""
    return any(part in name for part in ("position", "pos_embed", "class_token", "cls_token", "relative_bias"))
