"""Which parameters decay, and how fast each layer learns."""

from collections.abc import Iterator
from typing import Any

from torch import nn

from sightline.recipe import OptimConfig

FACTOR = "factor"
"""A group's own setting: its learning rate as a multiple of the schedule's."""


def parameter_groups(model: nn.Module, config: OptimConfig) -> list[dict[str, Any]]:
    """Every parameter that is not frozen, in groups of one decay and one factor on the learning rate.

    Kernels and matrices decay: parameters of two dimensions or more that are some layer's weight. Biases, norms and
    scales have one dimension and do not: shrinking them limits what the network can say without making
    it simpler. Nor do position tables and class tokens, which are added and not multiplied; they are nobody's
    weight.
    """
    factors = rate_factors(model, config)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim > 1 and name.endswith("weight")
            key = (config.weight_decay if decays else 0.0, factors[name])
            groups.setdefault(key, []).append(parameter)
    ordered = sorted(groups.items(), key=lambda item: (-item[0][1], -item[0][0]))
    return [{"params": params, "weight_decay": decay, FACTOR: factor} for (decay, factor), params in ordered]


def rate_factors(model: nn.Module, config: OptimConfig) -> dict[str, float]:
    """By parameter: its learning rate as a multiple of the schedule's.

    A layer's is `layer_decay` to the power of its distance from the head. Source: BEiT, BERT Pre-Training of Image
    Transformers (Bao et al., 2022), appendix H, and its code, which puts class token and positions with the stem.
    Auxiliary classifiers are heads, and the norm before the head belongs to it.
    """
    layers = layer_names(model)
    depth = {name: number for number, names in enumerate(layers) for name in names}
    decay = config.own("layer_decay")
    factors: dict[str, float] = {}
    for name, _ in model.named_parameters():
        factor = decay ** (len(layers) - 1 - depth[name])
        factors[name] = factor * config.head_lr if name.startswith("head.") else factor
    return factors


def layer_names(model: nn.Module) -> list[list[str]]:
    """The parameters' names, layer by layer from the stem to the head.

    A layer is a block where the network has blocks, and else a module with a kernel or a matrix; what stands
    between two layers and has neither, such as a norm, counts to the one before.
    """
    layers: list[list[str]] = [[]]
    head: list[str] = []
    pending: list[str] = []
    for place, module in _units(model, ""):
        names = [f"{place}{name}" for name, _ in module.named_parameters()]
        if place.startswith(("head.", "auxiliary.")):
            head += names
        elif any(parameter.ndim > 1 for parameter in module.parameters()):
            layers[-1] += pending
            pending = []
            layers.append(names)
        else:
            pending += names
    placed = {name for names in (*layers, pending, head) for name in names}
    tables = [name for name, _ in model.named_parameters() if name not in placed]  # no module's but the network's own
    stem, *blocks = layers[1:] or [[]]
    return [tables + layers[0] + stem, *blocks, pending + head]


def _units(module: nn.Module, place: str) -> Iterator[tuple[str, nn.Module]]:
    """(its name with a dot behind, the module) for every block; lists of modules are gone into."""
    for name, child in module.named_children():
        inside = f"{place}{name}."
        plain = type(child) in (nn.Sequential, nn.ModuleList)
        if plain or name == "network" or hasattr(child, "blocks"):  # how timm's networks and their stages are named
            yield from _units(child, inside)
        else:
            yield inside, child
