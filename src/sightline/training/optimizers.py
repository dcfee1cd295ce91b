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

    Kernels and matrices decay: parameters of two dimensions or more that are some layer's weight. Biases, norms and
    scales have one dimension and do not: shrinking them limits what the network can say without making
    it simpler. Nor do position tables and class tokens, which are added and not multiplied; they are nobody's
    weight.
    """
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (decayed if parameter.ndim > 1 and name.endswith("weight") else kept).append(parameter)
    groups = [(decayed, weight_decay), (kept, 0.0)]
    return [{"params": parameters, "weight_decay": decay} for parameters, decay in groups if parameters]
