"""Attention's gradients in bfloat16 on a CPU by compiled loops, also those of a learned bias, as Swin's.

The forward pass is torch's fused kernel: without a bias to the bit what it is otherwise, with one in place of the plain
composition by which torch goes where a bias has a gradient.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from sightline.native import attention
from sightline.training.attention_calls import answer_attention
from sightline.training.attention_gradients import attention_layers, learned
from sightline.training.compiled import demand


def has_attention(model: nn.Module) -> bool:
    """Whether there is attention, and this machine can compute its gradients so."""
    return bool(attention_layers(model)) and attention.available()


def check_attention() -> None:
    """Raise RecipeError where this machine can't compute attention's gradients so."""
    demand("train.fused_attention", "AMX", has_processor=attention.has_processor, is_available=attention.available)


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
    given = learned(args, rest)
    if given is None or not attention.takes(*given) or not _is_bias(attn_mask, *given[:2]):
        return None
    factor = given[0].shape[-1] ** -0.5 if scale is None else scale
    bias = None if attn_mask is None else attn_mask.reshape(attn_mask.shape[-3:])
    output: Tensor = _Attention.apply(*given, bias, factor)  # pyright: ignore[reportUnknownMemberType, reportAssignmentType]
    return output


def _is_bias(mask: Tensor | None, query: Tensor, key: Tensor) -> bool:
    """Whether what is added is nothing, or learned: one (N, T, S), or (1, N, T, S), for all images."""
    if mask is None:
        return True
    shape = *query.shape[1:3], key.shape[2]
    return mask.requires_grad and mask.is_floating_point() and mask.shape in (shape, (1, *shape))


class _Attention(torch.autograd.Function):
    """Query (B, N, T, C), key and value (B, N, S, C), bfloat16, and a bias (N, T, S) or None -> (B, N, T, C)."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float
    ) -> Tensor:
        fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        mask = None if bias is None else bias.float()[None]
        output, logsumexp = fused(query, key, value, attn_mask=mask, scale=scale)
        ctx.save_for_backward(query, key, value, bias, output, logsumexp)  # pyright: ignore[reportArgumentType]
        ctx.scale = scale  # pyright: ignore[reportAttributeAccessIssue]
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return *attention.gradients(attention.Forward(*ctx.saved_tensors), grad, ctx.scale), None
