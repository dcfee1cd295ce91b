"""Gradients cut to size: by norm, by value, or by each unit's own size."""

import torch
from torch import Tensor, nn

from sightline.recipe import OptimConfig

SMALLEST = 1e-3
"""Adaptive clipping takes a unit's norm as at least this, so that a unit of zeros can grow (the paper's epsilon)."""


def clip_gradients(model: nn.Module, config: OptimConfig) -> None:
    """Shorten the gradients in place as the recipe says; they must be whole (accumulated) and unscaled."""
    if config.clip_norm is None and config.clip_value is None and config.clip_adaptive is None:
        return
    parameters = [parameter for parameter in model.parameters() if parameter.grad is not None]
    if config.clip_norm is not None:
        nn.utils.clip_grad_norm_(parameters, config.clip_norm)
    if config.clip_value is not None:
        nn.utils.clip_grad_value_(parameters, config.clip_value)
    if config.clip_adaptive is not None:
        head = {id(parameter) for name, parameter in model.named_parameters() if name.startswith("head.")}
        clip_adaptive([parameter for parameter in parameters if id(parameter) not in head], config.clip_adaptive)


@torch.no_grad()
def clip_adaptive(parameters: list[nn.Parameter], limit: float) -> None:
    """Shorten each unit's gradient to `limit` times the unit's norm.

    Source: High-Performance Large-Scale Image Recognition Without Normalization (Brock et al., 2021), equation 3,
    which leaves the final linear layer out (section 4.1).
    """
    for parameter in parameters:
        gradient = parameter.grad
        assert gradient is not None
        longest = _unit_norms(parameter).clamp(min=SMALLEST).mul(limit)
        norms = _unit_norms(gradient)
        gradient.mul_(torch.where(norms > longest, longest / norms.clamp(min=1e-12), 1.0))


def _unit_norms(tensor: Tensor) -> Tensor:
    """(O, ...) -> (O, 1, ...), a norm for each output unit; for a vector, one of all of it."""
    if tensor.ndim <= 1:
        return torch.linalg.vector_norm(tensor)
    return torch.linalg.vector_norm(tensor, dim=tuple(range(1, tensor.ndim)), keepdim=True)
