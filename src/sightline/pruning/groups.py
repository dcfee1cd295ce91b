"""Groups: the places in a network's tensors that can only go together, found by torch-pruning and proven by trying.

A channel that a convolution makes is also a place in the batch norm behind it and in every layer that reads it.
torch-pruning's dependency graph follows them (Fang et al., 2023, DepGraph, https://arxiv.org/abs/2301.12900). What it
finds is believed only where the network with the places cut out answers as the network in which their readers are
zero: so a stream that a layer norm averages over, or a reshaping that the graph misread, is left alone.
"""

import copy
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]  # 1d, 2d and 3d

from sightline.deps import require
from sightline.errors import ModelError
from sightline.models import Classifier
from sightline.narrowing import Narrowing, narrowed_shapes

EXACT = 1e-3
"""How far a logit may be off where a group is tried, in units of the largest logit. Rounding stays below 1e-5."""


@dataclass(frozen=True, eq=False)
class Slice:
    """The places that a group has in one dimension of one tensor."""

    tensor: str
    dim: int
    places: Tensor
    """(U, P) int64: P places for each of U units."""
    reads: bool
    """Whether the tensor's layer takes the unit as input: with zeros there the unit has no effect."""


@dataclass(frozen=True, eq=False)
class Group:
    """Units that can be cut out of the network one by one: channels of a layer, or heads of an attention."""

    name: str
    """The layer that makes them."""
    num_units: int
    slices: tuple[Slice, ...]
    attention: str | None = None
    """The module whose `num_heads` counts the units; None for channels."""


Removed = Mapping[Group, Tensor]
"""(U,) bool for each group: the units to cut out."""


@dataclass(frozen=True)
class Found:
    """What of a network can be cut."""

    groups: list[Group]
    refused: list[str]
    """Layers whose channels can't go without changing what the others compute."""


def find_groups(model: Classifier, image_size: int) -> Found:
    """The groups of this network.

    Raises ModelError where the network can't be followed or nothing in it can be cut, and MissingPackageError.
    """
    model = copy.deepcopy(model).eval()
    images = torch.randn(2, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    expected = _outputs(model, images)
    found = Found([], [])
    place = {name: number for number, (name, _) in enumerate(model.named_modules())}
    proposed = [*_channels(model, images), *_heads(model)]
    for group in sorted(proposed, key=lambda group: place[group.attention or group.name]):
        if _is_exact(model, group, images, expected):
            found.groups.append(group)
        else:
            found.refused.append(group.name)
    if not found.groups:
        raise ModelError(
            "No channel of this network can be cut without changing what the others compute: norms over several "
            "channels tie them together. Train it with batch norm, or compress it by quantize or distil."
        )
    return found


def cut(weights: Mapping[str, Tensor], removed: Removed) -> dict[str, Tensor]:
    """The tensors without the removed units."""
    kept = dict(weights)
    for (name, dim), keep in _kept(weights, removed).items():
        kept[name] = kept[name].index_select(dim, keep.nonzero().flatten())
    return kept


def cut_narrowing(plain: Mapping[str, tuple[int, ...]], model: Classifier, removed: Removed) -> Narrowing:
    """The narrowing from the plain network's shapes to those of `model` without the removed units."""
    weights = model.state_dict()
    shapes = {name: list(shape) for name, shape in shapes_of(model).items()}
    for (name, dim), keep in _kept(weights, removed).items():
        shapes[name][dim] = int(keep.sum())
    heads = {
        name: cast(int, module.num_heads) for name, module in model.named_modules() if hasattr(module, "num_heads")
    }
    heads |= {group.attention: int((~units).sum()) for group, units in removed.items() if group.attention is not None}
    ended = narrowed_shapes(plain, {name: tuple(shape) for name, shape in shapes.items()})
    fewer = {name: count for name, count in heads.items() if f"{name}.qkv.weight" in ended}
    return Narrowing(shapes=ended, num_heads=fewer)


def narrowed(model: Classifier, removed: Removed) -> Classifier:
    """A copy of the network without the removed units."""
    twin = copy.deepcopy(model)
    cut_narrowing(shapes_of(model), model, removed).apply(twin)
    twin.load_state_dict(cut(model.state_dict(), removed))
    return twin


def shapes_of(model: Classifier) -> dict[str, tuple[int, ...]]:
    """Of its parameters and buffers, by name."""
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _kept(weights: Mapping[str, Tensor], removed: Removed) -> dict[tuple[str, int], Tensor]:
    """By tensor and dimension: (size,) bool, the places that stay."""
    kept: dict[tuple[str, int], Tensor] = {}
    for group, units in removed.items():
        for part in group.slices:
            size = weights[part.tensor].shape[part.dim]
            kept.setdefault((part.tensor, part.dim), torch.ones(size, dtype=torch.bool))[
                part.places[units].flatten()
            ] = False
    return kept


def _outputs(model: Classifier, images: Tensor) -> list[Tensor]:
    """The logits, auxiliary classifiers' included: those train with the rest."""
    with torch.no_grad():
        return [logits for _, logits in model.training_outputs(images)]


def _is_exact(model: Classifier, group: Group, images: Tensor, expected: list[Tensor]) -> bool:
    """Whether cutting every other unit gives what zeros in their readers give."""
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    if group.num_units < 2 or not any(part.reads for part in group.slices):
        return False
    if any(int(part.places.max()) >= weights[part.tensor].shape[part.dim] for part in group.slices):
        return False  # padding makes channels that no layer has (option A of ResNet)
    units = torch.arange(group.num_units) % 2 == 1
    for part in group.slices:
        if part.reads:
            weights[part.tensor].index_fill_(part.dim, part.places[units].flatten(), 0.0)
    silenced = copy.deepcopy(model)
    silenced.load_state_dict(weights)
    try:
        cut_off = _outputs(narrowed(model, {group: units}), images)
    except (RuntimeError, ValueError, IndexError, ModelError):  # shapes that don't meet: torch's ways to say so
        return False
    largest = max(float(logits.abs().max()) for logits in expected)
    pairs = zip(_outputs(silenced, images), cut_off, strict=True)
    return all(float((one - other).abs().max()) <= EXACT * largest for one, other in pairs)


def _channels(model: Classifier, images: Tensor) -> Iterator[Group]:
    """Channels of convolutions and linear layers, as the dependency graph has them; classes and `begun_layers` stay."""
    pruning = require("torch_pruning", extra="compress", purpose="Pruning")
    names: dict[nn.Module, str] = {module: name for name, module in model.named_modules()}
    heads = [module for name, module in model.named_modules() if name == "head" or name.endswith(".head")]
    inside = [child for module in model.modules() for child in _attention_parts(module)]
    begun = [model.get_submodule(name) for name in model.begun_layers]
    for parameter in model.parameters():
        parameter.requires_grad = True  # the graph is read off autograd's
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of unwrapped parameters, which are left alone
        try:
            graph = pruning.DependencyGraph().build_dependency(
                model, images, forward_fn=_traced, output_transform=None, verbose=False
            )
            roots = [nn.Conv2d, nn.Linear]
            groups = list(graph.get_all_groups(ignored_layers=[*heads, *inside, *begun], root_module_types=roots))
        except (RuntimeError, ValueError, KeyError, AttributeError, IndexError) as error:
            raise ModelError(f"This network can't be followed from layer to layer: {str(error)[:200]}") from error
    for found in groups:
        slices = _slices(graph, found, names) or ()
        yield Group(names[found[0].dep.target.module], len(found[0].idxs), slices)


def _traced(model: Classifier, images: Tensor) -> list[Tensor]:
    return [logits for _, logits in model.training_outputs(images)]


def _slices(graph: Any, found: Any, names: Mapping[nn.Module, str]) -> tuple[Slice, ...] | None:
    """The places of a group; None where some can't be said, as in a grouped convolution."""
    num_units = len(found[0].idxs)
    places: dict[tuple[str, int, bool], dict[int, list[int]]] = {}
    for item in found:
        module = item.dep.target.module
        if isinstance(module, nn.Parameter):
            return None
        if module not in names or not any(True for _ in module.parameters(recurse=False)):
            continue
        is_out = graph.is_out_channel_pruning_fn(item.dep.handler)
        tensors = _tensors(module, is_out=is_out)
        if tensors is None:
            return None
        for leaf, dim in tensors:
            key = (f"{names[module]}.{leaf}", dim, dim == 1)
            by_unit = places.setdefault(key, {})
            for place, unit in zip(item.idxs, item.root_idxs, strict=True):
                if place not in by_unit.setdefault(unit, []):
                    by_unit[unit].append(place)
    slices: list[Slice] = []
    for (tensor, dim, reads), by_unit in places.items():
        if len(by_unit) != num_units or len({len(row) for row in by_unit.values()}) != 1:
            return None
        rows = torch.tensor([by_unit[unit] for unit in range(num_units)])
        slices.append(Slice(tensor, dim, rows, reads))
    return tuple(slices)


def _tensors(module: nn.Module, *, is_out: bool) -> list[tuple[str, int]] | None:
    """A layer's tensors that have a place for each channel, with the dimension; None for one that isn't known."""
    bias = [("bias", 0)] if getattr(module, "bias", None) is not None else []
    if isinstance(module, nn.Conv2d) and module.groups > 1:
        return [("weight", 0), *bias] if module.groups == module.in_channels == module.out_channels else None
    if isinstance(module, nn.Conv2d | nn.Linear):
        return [("weight", 0), *bias] if is_out else [("weight", 1)]
    if isinstance(module, _BatchNorm):
        return [("weight", 0), ("bias", 0), ("running_mean", 0), ("running_var", 0)] if module.affine else None
    if isinstance(module, nn.PReLU):
        return [] if module.num_parameters == 1 else [("weight", 0)]
    return None


def _attention_parts(module: nn.Module) -> list[nn.Module]:
    """The query-key-value layer of an attention, whose rows go by heads and not one by one."""
    is_attention = isinstance(getattr(module, "num_heads", None), int)
    qkv = getattr(module, "qkv", None)
    return [qkv] if is_attention and isinstance(qkv, nn.Linear) else []


def _heads(model: Classifier) -> Iterator[Group]:
    """Heads of attentions that compute query, key and value in one layer, `qkv`, and join them by another, `proj`."""
    for name, module in model.named_modules():
        count, projection = getattr(module, "num_heads", None), getattr(module, "proj", None)
        if not _attention_parts(module) or not isinstance(projection, nn.Linear) or not isinstance(count, int):
            continue
        qkv = cast(nn.Linear, module.qkv)
        width = projection.in_features
        own = torch.arange(width).view(count, -1)  # (N, C / N)
        rows = torch.cat([own + part * width for part in range(3)], 1)
        if qkv.out_features != 3 * width:
            continue
        slices = [Slice(f"{name}.qkv.weight", 0, rows, reads=False), Slice(f"{name}.proj.weight", 1, own, reads=True)]
        if getattr(qkv, "bias", None) is not None:
            slices.append(Slice(f"{name}.qkv.bias", 0, rows, reads=False))
        if "relative_position_bias_table" in dict(module.named_parameters(recurse=False)):
            table = f"{name}.relative_position_bias_table"
            slices.append(Slice(table, 1, torch.arange(count)[:, None], reads=False))
        yield Group(f"{name} (heads)", count, tuple(slices), attention=name)
