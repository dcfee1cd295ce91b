"""Attention by compiled loops on a CPU, also with a learned bias, as Swin's.

In float32 both passes. In bfloat16 the gradients alone: the forward pass is torch's fused kernel, without a bias to the
bit what it is otherwise, with one in place of the plain composition by which torch goes where a bias has a gradient.
"""

from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from sightline.native import attention, attention_float32
from sightline.native.heads import Forward
from sightline.training.attention_calls import Answer, answer_attention
from sightline.training.attention_gradients import attention_layers, learned
from sightline.training.compiled import demand


class _Loops(NamedTuple):
    """What computes in a precision."""

    module: ModuleType
    dtype: torch.dtype
    processor: str


_LOOPS = {
    "bf16": _Loops(attention, torch.bfloat16, "AMX"),
    "float32": _Loops(attention_float32, torch.float32, "AVX2"),
}


def has_attention(model: nn.Module, precision: str) -> bool:
    """Whether there is attention, and this machine can compute it so in that precision."""
    return precision in _LOOPS and bool(attention_layers(model)) and _LOOPS[precision].module.available()


def check_attention(precision: str) -> None:
    """Raise RecipeError where this machine can't compute attention so, in bf16 or float32."""
    loops = _LOOPS[precision]
    demand(
        "train.fused_attention", loops.processor,
        has_processor=loops.module.has_processor, is_available=loops.module.available,
    )  # fmt: skip


def fuse_attention(model: nn.Module, precision: str) -> int:
    """Have every layer of attention do so where torch's fused kernel would; the number of such layers.

    `precision` is bf16 or float32. Raises RecipeError where this machine can't.
    """
    check_attention(precision)
    found = attention_layers(model)
    for module in found:
        answer_attention(module, "Fused", _ANSWERS[precision])
    return len(found)


def _answer(
    loops: _Loops, *args: Any, attn_mask: Tensor | None = None, scale: float | None = None, **rest: Any
) -> Tensor | None:
    given = learned(args, rest, loops.dtype)
    if given is None or not loops.module.takes(*given) or not _is_bias(attn_mask, *given[:2]):
        return None
    factor = given[0].shape[-1] ** -0.5 if scale is None else scale
    bias = None if attn_mask is None else attn_mask.reshape(attn_mask.shape[-3:])
    output: Tensor = _Attention.apply(*given, bias, factor, loops.module)  # pyright: ignore[reportUnknownMemberType, reportAssignmentType]
    return output


_ANSWERS: dict[str, Answer] = {precision: partial(_answer, loops) for precision, loops in _LOOPS.items()}


def _is_bias(mask: Tensor | None, query: Tensor, key: Tensor) -> bool:
    """Whether what is added is nothing, or learned: one (N, T, S), or (1, N, T, S), for all images."""
    if mask is None:
        return True
    shape = *query.shape[1:3], key.shape[2]
    return mask.requires_grad and mask.is_floating_point() and mask.shape in (shape, (1, *shape))


class _Attention(torch.autograd.Function):
    """Query (B, N, T, C), key and value (B, N, S, C), and a bias (N, T, S) or None -> (B, N, T, C)."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float, loops: Any
    ) -> Tensor:
        given: Forward = loops.forward(query, key, value, bias, scale)
        ctx.save_for_backward(*given)  # pyright: ignore[reportArgumentType]
        ctx.scale, ctx.loops = scale, loops  # pyright: ignore[reportAttributeAccessIssue]
        return given.output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return *ctx.loops.gradients(Forward(*ctx.saved_tensors), grad, ctx.scale), None, None
