"""Optimisers by name: torch's own where it has one."""

from typing import Any

import torch
from torch import nn

from sightline.recipe import OptimConfig
from sightline.training.muon import MuonWithAdamW, hidden_matrices
from sightline.training.parameter_groups import FACTOR, parameter_groups

_WITH_L2 = ("sgd", "rmsprop", "adagrad")
"""Torch gives these no decoupled form."""


def build_optimizer(model: nn.Module, config: OptimConfig, *, unscales: bool = False) -> torch.optim.Optimizer:
    """The optimiser for every parameter that is not frozen; its `step()` takes a closure.

    `unscales` says that gradients are scaled (float16): then nothing is fused, since a fused step unscales
    gradients itself, after they were clipped.
    """
    groups = parameter_groups(model, config)
    fused = None if unscales else _can_fuse(model)
    if config.name in _WITH_L2:
        return _with_l2(groups, config, fused=fused)
    if config.name == "muon":
        return MuonWithAdamW(
            groups, hidden_matrices(model), lr=config.lr, momentum=config.own_momentum, betas=config.own_betas
        )
    return _with_betas(groups, config, fused=fused)


def set_rates(optimizer: torch.optim.Optimizer, config: OptimConfig, rate: float, momentum: float) -> None:
    """Give each group its learning rate, and its momentum (or first beta) where the schedule moves that."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group[FACTOR]
        if config.low_momentum is None:
            continue
        if "momentum" in group:
            group["momentum"] = momentum
        elif config.name != "muon":  # whose AdamW keeps its own
            group["betas"] = (momentum, group["betas"][1])


def _with_l2(groups: list[dict[str, Any]], config: OptimConfig, *, fused: bool | None) -> torch.optim.Optimizer:
    if config.decay == "decoupled":
        groups = [group | {"weight_decay": 0.0, "shrinks": group["weight_decay"]} for group in groups]
    optimizer: torch.optim.Optimizer
    if config.name == "sgd":
        optimizer = torch.optim.SGD(
            groups, lr=config.lr, momentum=config.own_momentum, nesterov=config.nesterov, fused=fused
        )
    elif config.name == "rmsprop":
        optimizer = torch.optim.RMSprop(groups, lr=config.lr, momentum=config.own_momentum)
    else:
        optimizer = torch.optim.Adagrad(groups, lr=config.lr, fused=fused)
    if config.decay == "decoupled":
        optimizer.register_step_pre_hook(_shrink_first)
    return optimizer


def _with_betas(groups: list[dict[str, Any]], config: OptimConfig, *, fused: bool | None) -> torch.optim.Optimizer:
    lr, betas = config.lr, config.own_betas
    decoupled = config.decay == "decoupled"
    match config.name:
        case "adam" | "adamw":
            l2 = config.decay == "l2" or (config.name == "adam" and not decoupled)
            return (torch.optim.Adam if l2 else torch.optim.AdamW)(groups, lr=lr, betas=betas, fused=fused)
        case "nadam":
            return torch.optim.NAdam(groups, lr=lr, betas=betas, decoupled_weight_decay=decoupled)
        case "radam":
            return torch.optim.RAdam(groups, lr=lr, betas=betas, decoupled_weight_decay=decoupled)
        case "lion":
            from pytorch_optimizer import Lion  # two seconds; only who asks for it waits

            return Lion(groups, lr=lr, betas=betas, weight_decouple=config.decay != "l2")
        case "lamb":
            from pytorch_optimizer import Lamb

            # The decay is part of what the ratio scales; a bias corrected behind the ratio would be a larger rate.
            return Lamb(groups, lr=lr, betas=betas, weight_decouple=False, adam_debias=True)
        case _:
            from schedulefree import AdamWScheduleFree

            optimizer = AdamWScheduleFree(groups, lr=lr, betas=betas)
            optimizer.train()
            return optimizer


def _can_fuse(model: nn.Module) -> bool | None:
    """True where torch has one kernel for a whole step: AdamW takes 16 ms on ResNet-18 in place of 104, on one core."""
    devices = {parameter.device.type for parameter in model.parameters()}
    return True if devices <= {"cpu", "cuda"} else None


@torch.no_grad()
def _shrink(optimizer: torch.optim.Optimizer) -> None:
    """Decoupled Weight Decay Regularization (Loshchilov and Hutter, 2019), Algorithm 1, line 9, in torch's form."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                parameter.mul_(1 - group["lr"] * group["shrinks"])


def _shrink_first(
    optimizer: torch.optim.Optimizer, arguments: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Shrink the weights after the gradients were computed and before the step.

    Lightning computes them in the closure, within the step; with float16 before it, and then there is no closure.
    """
    itself, *rest = arguments
    closure = named.get("closure", rest[0] if rest else None)
    if closure is None:
        _shrink(optimizer)
        return None

    def closure_then_shrink() -> Any:
        loss = closure()
        _shrink(optimizer)
        return loss

    return (itself,), {"closure": closure_then_shrink}
