"""Activation checkpointing: keep a block's input alone, and compute the rest again in the backward pass.

Source: Training Deep Nets with Sublinear Memory Cost (Chen et al., 2016), https://arxiv.org/abs/1604.06174
"""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]  # 1d, 2d, 3d and synchronised
from torch.utils.checkpoint import checkpoint

from sightline.errors import ModelError

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def checkpoint_activations(model: nn.Module) -> int:
    """Recompute each block's activations in the backward pass, and return the number of blocks.

    A block is a module with several layers that have weights, outermost but below the network and its chains of
    blocks; in a chain of single layers (VGG) it is what lies between two pools or stages. Training takes about a
    third longer, its result is the same: random draws are repeated, and batch norms count each batch once.
    Nothing changes in evaluation. Raises ModelError when there is nothing to recompute.
    """
    largest = max(2, _num_weighted(model) // 2)
    blocks = _wrap(model, largest, stops={stage.name for stage in getattr(model, "stages", ())}, prefix="")
    if blocks == 0:
        raise ModelError("train.checkpoint_activations: this network has no blocks that could be computed again.")
    return blocks


def _wrap(parent: nn.Module, largest: int, *, stops: set[str], prefix: str) -> int:
    """Let each block below `parent` compute itself again; one with more than `largest` layers is taken apart."""
    blocks = 0
    if isinstance(parent, nn.Sequential):
        blocks += _wrap_runs_of_layers(parent, stops=stops, prefix=prefix)
    for name, child in parent.named_children():
        if isinstance(child, _CONTAINERS) or _num_weighted(child) > largest:
            blocks += _wrap(child, largest, stops=stops, prefix=f"{prefix}{name}.")
        elif _num_weighted(child) >= 2:
            child.forward = partial(_recomputed, [child])
            blocks += 1
    return blocks


def _wrap_runs_of_layers(chain: nn.Sequential, *, stops: set[str], prefix: str) -> int:
    """Let the first layer of each run compute the whole run, and the others pass its result on."""
    runs: list[list[nn.Module]] = [[]]
    for name, layer in chain.named_children():
        if list(layer.children()):
            runs.append([])
            continue
        runs[-1].append(layer)
        if f"{prefix}{name}" in stops or isinstance(layer, nn.MaxPool2d):
            runs.append([])
    runs = [run for run in runs if sum(map(_num_weighted, run)) >= 1 and len(run) >= 2]
    for run in runs:
        run[0].forward = partial(_recomputed, run)
        for layer in run[1:]:
            layer.forward = _pass_on
    return len(runs)


def _num_weighted(module: nn.Module) -> int:
    return sum(1 for layer in module.modules() if any(True for _ in layer.parameters(recurse=False)))


def _pass_on(x: Tensor) -> Tensor:
    return x


def _recomputed(layers: list[nn.Module], *inputs: Any, **named: Any) -> Any:
    """Run the layers one after the other; in training, forget what they did until the backward pass."""
    run: Callable[..., Any] = partial(_run, layers, **named)
    if not (torch.is_grad_enabled() and layers[0].training):
        return run(*inputs)
    return checkpoint(run, *map(_own, inputs), use_reentrant=False, context_fn=partial(_contexts, layers))


def _own(value: Any) -> Any:
    """A list of the block's own: HRNet's put results in place of inputs, from which the second time would begin."""
    return list(value) if isinstance(value, list) else value


def _run(layers: list[nn.Module], *inputs: Any, **named: Any) -> Any:
    outputs = type(layers[0]).forward(layers[0], *map(_own, inputs), **named)
    for layer in layers[1:]:
        outputs = type(layer).forward(layer, outputs)
    return outputs


def _contexts(layers: list[nn.Module]) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Around the first computation, and around the second."""
    return nullcontext(), _without_statistics(layers)


@contextmanager
def _without_statistics(layers: list[nn.Module]) -> Generator[None]:
    """Batch norms leave their running statistics alone: they have seen this batch already."""
    norms = [module for layer in layers for module in layer.modules() if isinstance(module, _BatchNorm)]
    kept = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, momentum, num_batches in kept:
            norm.momentum, norm.num_batches_tracked = momentum, num_batches
