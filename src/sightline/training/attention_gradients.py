"""Attention's gradients in float32 on a CPU, where it computes in bfloat16: nearer the true ones, and sooner.

torch's fused backward pass in bfloat16 takes up to ten times as long as its float32, and 1.7 times at the 197 tokens of
a ViT (docs/log.md). The forward pass stays torch's own, to the bit.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from sightline.training.attention_calls import answer_attention

MOST_TOKENS = 512
"""With more of them torch's bfloat16 may be the faster."""


def differentiate_attention_in_float32(model: nn.Module) -> int:
    """Have every layer of attention do so where torch's fused kernel would; the number of such layers."""
    found = attention_layers(model)
    for module in found:
        answer_attention(module, "Differentiated", _answer)
    return len(found)


def attention_layers(model: nn.Module) -> list[nn.Module]:
    """The layers that are known by their `num_heads`, as this package's and timm's are."""
    return [module for module in model.modules() if isinstance(getattr(module, "num_heads", None), int)]


def learned(args: Sequence[Any], rest: Mapping[str, Any], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor] | None:
    """Query, key and value of a call that learns, of that type on a CPU, where torch's fused kernel would compute."""
    if len(args) != 3 or any(rest.values()):  # dropout, causal attention, grouped heads
        return None
    query, key, value = args
    learns = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in args)
    same = query.shape[-1] == key.shape[-1] == value.shape[-1] and query.shape[:2] == key.shape[:2] == value.shape[:2]
    fused = all(t.ndim == 4 and t.dtype == dtype and t.device.type == "cpu" and t.numel() for t in args)
    dense = fused and all(t.stride(3) == 1 for t in args)  # torch's kernel gives nonsense otherwise, and isn't asked
    if not (learns and dense and same) or torch.compiler.is_compiling():
        return None
    return query, key, value


def _answer(*args: Any, attn_mask: Tensor | None = None, scale: float | None = None, **rest: Any) -> Tensor | None:
    given = learned(args, rest, torch.bfloat16) if attn_mask is None else None
    if given is None or max(given[0].shape[-2], given[1].shape[-2]) > MOST_TOKENS:
        return None
    output: Tensor = _Attention.apply(*given, scale)  # pyright: ignore[reportUnknownMemberType, reportAssignmentType]
    return output


class _Attention(torch.autograd.Function):
    """Query (B, N, T, C), key and value (B, N, S, C) -> (B, N, T, C), bfloat16."""

    @staticmethod
    def forward(ctx: FunctionCtx, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        output, logsumexp = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, scale=scale)
        ctx.save_for_backward(query, key, value, output, logsumexp)
        ctx.scale = scale  # pyright: ignore[reportAttributeAccessIssue]
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        *saved, logsumexp = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType]
        wide = [tensor.float() for tensor in (grad, *saved)]
        slopes = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            *wide,
            logsumexp,
            0.0,
            False,  # noqa: FBT003 - not causal
            scale=ctx.scale,  # pyright: ignore[reportAttributeAccessIssue]
        )
        return *(slope.to(grad.dtype) for slope in slopes), None
