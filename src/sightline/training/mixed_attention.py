"""Attention with a learned bias, as Swin's, in mixed precision on a CPU: products in bfloat16, softmax in float32.

torch has fused kernels for a bias without a gradient. One that is learned goes by its plain composition, which computes
all of it in float32 (docs/log.md has the figures). The class of the layers that hold such a bias is swapped on the
network that trains; their parameters and their state's names stay as they are.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

BIAS = "relative_position_bias_table"
"""What Swin's authors and those after them call it."""


class _MixedLayer(nn.Module):
    """Put before the class of a layer: its attention is computed in mixed precision where its bias is learned."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        with _Mixing():
            return super().forward(*args, **kwargs)


class _Mixing(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        rest = dict(kwargs or {})
        if func is F.scaled_dot_product_attention and _learned(*args, **rest):
            return attention(*args, **rest)
        return func(*args, **rest)


def attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor, scale: float | None = None) -> Tensor:
    """Query (..., T, C), key and value (..., S, C), a bias that broadcasts to (..., T, S) -> (..., T, C)."""
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    logits = (query * factor) @ key.transpose(-2, -1)
    weights = (logits.float() + attn_mask).softmax(-1)
    return weights.to(value.dtype) @ value


def _learned(*args: Any, attn_mask: Tensor | None = None, **rest: Any) -> bool:
    """Whether a call of torch's attention adds a bias that is learned, and does nothing that `attention` doesn't."""
    plain = len(args) == 3 and not any(value for name, value in rest.items() if name != "scale")
    return plain and attn_mask is not None and attn_mask.requires_grad and args[0].dtype == torch.bfloat16


def has_learned_bias(model: nn.Module) -> bool:
    """Whether there is attention with a learned bias."""
    return any(_holds_bias(module) for module in model.modules())


def mix_attention(model: nn.Module) -> int:
    """Have every layer of attention with a learned bias compute in mixed precision, and return how many there are."""
    found = [module for module in model.modules() if _holds_bias(module)]
    for module in found:
        if not isinstance(module, _MixedLayer):
            module.__class__ = _mixed(type(module))
    return len(found)


def _holds_bias(module: nn.Module) -> bool:
    return any(name == BIAS for name, _ in module.named_parameters(recurse=False))


@cache
def _mixed(layer: type[nn.Module]) -> type[nn.Module]:
    return type(f"Mixed{layer.__name__}", (_MixedLayer, layer), {})
