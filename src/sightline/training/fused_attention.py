"""Attention's gradients in bfloat16 on a CPU by compiled loops. The forward pass stays torch's own, to the bit."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from sightline.native import attention
from sightline.training.attention_calls import answer_attention
from sightline.training.attention_gradients import attention_layers, learned
from sightline.training.compiled import demand
from sightline.training.mixed_attention import has_learned_bias


def has_attention(model: nn.Module) -> bool:
    """Whether there is attention without a learned bias, and this machine can compute its gradients so."""
    return bool(attention_layers(model)) and not has_learned_bias(model) and attention.available()


def check_attention() -> None:
    """Raise RecipeError where this machine can't compute attention's gradients so."""
    demand(attention, "train.fused_attention", "AMX")


def fuse_attention(model: nn.Module) -> int:
    """Have every layer of attention do so where torch's fused kernel would; the number of such layers.

    Raises RecipeError where this machine can't.
    """
    check_attention()
    found = attention_layers(model)
    for module in found:
        answer_attention(module, "Fused", _answer)
    return len(found)


def _answer(*args: Any, attn_mask: Tensor | None = None, scale: float | None = None, **rest: Any) -> Tensor | None:
    given = learned(args, attn_mask, rest)
    if given is None or not attention.takes(*given):
        return None
    output: Tensor = _Attention.apply(*given, given[0].shape[-1] ** -0.5 if scale is None else scale)  # pyright: ignore[reportUnknownMemberType, reportAssignmentType]
    return output


class _Attention(torch.autograd.Function):
    """Query (B, N, T, C), key and value (B, N, S, C) -> (B, N, T, C), bfloat16."""

    @staticmethod
    def forward(ctx: FunctionCtx, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        output, logsumexp = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, scale=scale)
        ctx.save_for_backward(query, key, value, output, logsumexp)
        ctx.scale = scale  # pyright: ignore[reportAttributeAccessIssue]
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        query, key, value, output, logsumexp = ctx.saved_tensors
        return *attention.gradients(query, key, value, output, logsumexp, grad, ctx.scale), None
