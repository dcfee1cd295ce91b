"""How much a unit matters: four measures of which no one is best everywhere.

Each gives every unit of a group a number, divided by the group's mean so that layers can be ranked together.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from sightline.errors import ModelError, unknown_name
from sightline.pruning.groups import Group, Slice

Importance = Literal["magnitude", "group_norm", "taylor", "batch_norm"]
"""magnitude: the L1 norm of the weights that make the unit (Li et al., 2016, https://arxiv.org/abs/1608.08710).
group_norm: the L2 norm of all weights that make or read it (Fang et al., 2023, https://arxiv.org/abs/2301.12900).
taylor: the squared change of the loss without it, to first order, measured on training images (Molchanov et al., 2019,
https://arxiv.org/abs/1906.10771). batch_norm: its batch norm's scale (Liu et al., 2017, https://arxiv.org/abs/1708.06519).
"""


def check_importance(name: str) -> None:
    """Raise ModelError for an unknown measure."""
    if name not in get_args(Importance):
        raise ModelError(unknown_name("importance", name, get_args(Importance), listing="`sightline compress --help`"))


def score(
    model: nn.Module, groups: Sequence[Group], importance: Importance, losses: Iterable[Tensor] = ()
) -> dict[Group, Tensor]:
    """(U,) float64 for each group, with a mean of 1.

    `losses` are needed for taylor: the loss of each batch of training images, one at a time. Raises ModelError for
    batch_norm where a group has none, by name.
    """
    weights = {name: tensor.detach().double() for name, tensor in model.state_dict().items()}
    if importance == "taylor":
        return _taylor(model, groups, weights, losses)
    scores: dict[Group, Tensor] = {}
    for group in groups:
        if importance == "batch_norm":
            scores[group] = _batch_norm(model, group, weights)
        else:
            parts = [part for part in group.slices if weights[part.tensor].ndim > 1]
            power = 1 if importance == "magnitude" else 2
            used = [part for part in parts if not part.reads] if importance == "magnitude" else parts
            scores[group] = torch.stack([_norm(part, weights[part.tensor], power) for part in used]).sum(0)
    return {group: values / values.mean().clamp_min(1e-30) for group, values in scores.items()}


def _rows(part: Slice, tensor: Tensor) -> Tensor:
    """(U, ...) the values of each unit."""
    rows = tensor.index_select(part.dim, part.places.flatten()).movedim(part.dim, 0)
    return rows.reshape(len(part.places), -1)


def _norm(part: Slice, tensor: Tensor, power: int) -> Tensor:
    return _rows(part, tensor).abs().pow(power).sum(1)


def _batch_norm(model: nn.Module, group: Group, weights: Mapping[str, Tensor]) -> Tensor:
    names = [part.tensor for part in group.slices if part.tensor.endswith(".running_var")]
    scales = [part for part in group.slices if part.tensor.removesuffix("weight") + "running_var" in names]
    if not scales:
        kind = type(model).__name__
        raise ModelError(
            f"importance 'batch_norm' needs a batch norm behind each layer, and {group.name!r} of {kind} has none. "
            "Use magnitude or group_norm."
        )
    return torch.stack([_norm(part, weights[part.tensor], 1) for part in scales]).sum(0)


def _taylor(
    model: nn.Module, groups: Sequence[Group], weights: Mapping[str, Tensor], losses: Iterable[Tensor]
) -> dict[Group, Tensor]:
    """The mean over the batches of (sum of weight times gradient over the unit's weights) squared."""
    scores = {group: torch.zeros(group.num_units, dtype=torch.float64) for group in groups}
    parameters = dict(model.named_parameters())
    for loss in losses:
        model.zero_grad()
        loss.backward()
        for group in groups:
            changes = [
                _rows(part, weights[part.tensor] * gradient.double()).sum(1)
                for part in group.slices
                if part.tensor in parameters and (gradient := parameters[part.tensor].grad) is not None
                if not part.reads  # what it makes and what is read of it are the same change, once is enough
            ]
            scores[group] += torch.stack(changes).sum(0).square()
    model.zero_grad()
    return {group: values / values.mean().clamp_min(1e-30) for group, values in scores.items()}
