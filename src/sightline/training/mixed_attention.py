"""Attention with a learned bias, as Swin's, in mixed precision on a CPU: products in bfloat16, softmax in float32.

torch has fused kernels for a bias without a gradient. One that is learned goes by its plain composition, which computes
all of it in float32 (docs/log.md has the figures).
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from sightline.training.attention_calls import answer_attention

BIAS = "relative_position_bias_table"
"""What Swin's authors and those after them call it."""


def attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor, scale: float | None = None) -> Tensor:
    """Query (..., T, C), key and value (..., S, C), a bias that broadcasts to (..., T, S) -> (..., T, C)."""
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    logits = (query * factor) @ key.transpose(-2, -1)
    weights = (logits.float() + attn_mask).softmax(-1)
    return weights.to(value.dtype) @ value


def has_learned_bias(model: nn.Module) -> bool:
    """Whether there is attention with a learned bias."""
    return any(_holds_bias(module) for module in model.modules())


def mix_attention(model: nn.Module) -> int:
    """Have every layer of attention with a learned bias compute in mixed precision, and return how many there are."""
    found = [module for module in model.modules() if _holds_bias(module)]
    for module in found:
        answer_attention(module, "Mixed", _mixed)
    return len(found)


def _mixed(*args: Any, attn_mask: Tensor | None = None, scale: float | None = None, **rest: Any) -> Tensor | None:
    """Where a bias is added that is learned, and nothing is asked for that `attention` doesn't do."""
    if len(args) != 3 or any(rest.values()) or attn_mask is None or not attn_mask.requires_grad:
        return None
    query, key, value = args
    return attention(query, key, value, attn_mask, scale) if query.dtype == torch.bfloat16 else None


def _holds_bias(module: nn.Module) -> bool:
    return any(name == BIAS for name, _ in module.named_parameters(recurse=False))
