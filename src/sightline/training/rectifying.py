"""ReLU of bfloat16 on a CPU by comparing whole numbers: the same values, in a quarter of the time.

torch makes float32 of each value and rounds it back. But a bfloat16 is below zero just where the whole number of its 16
bits is, and those a processor compares 32 at a time. The layer's class is swapped on the network that trains.
"""

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

ACTIVATED = "is_activated"
"""The attribute of a tensor whose activation is done: by the batch norm before it (fused_norms.py)."""


class FusedReLU(nn.ReLU):
    """A ReLU that leaves alone what a batch norm has activated."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.ReLU's own name for it
        """Any shape."""
        return input.view_as(input) if is_activated(input) else super().forward(input)


class IntegerReLU(FusedReLU):
    """A ReLU that compares integers where it trains and is given bfloat16 on a CPU."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.ReLU's own name for it
        """Any shape whose first dimension is the batch."""
        whole = self.training and input.dtype == torch.bfloat16 and input.device.type == "cpu" and input.ndim > 0
        if not whole or is_activated(input) or torch.compiler.is_compiling():
            return super().forward(input)
        values = input if self.inplace else input.clone()
        output: Tensor = _Rectified.apply(values)  # pyright: ignore[reportUnknownMemberType, reportAssignmentType]
        return output


def is_activated(values: Tensor) -> bool:
    """Whether the activation that asks has nothing left to do.

    It gives a view, which isn't marked: another activation behind it has. What it was given stays marked, for a block
    that begins with the activation may be computed a second time, from the same tensor.
    """
    return hasattr(values, ACTIVATED)


class _Rectified(torch.autograd.Function):
    """In place."""

    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor) -> Tensor:
        # Processors make NaN with the sign of what is below zero. A network that diverged has it in every image: if not
        # in this step, where an infinity makes the weights' gradient NaN, then in the next. The first tells the loss.
        torch.relu_(values[:1])
        values[1:].view(torch.int16).clamp_(min=0)
        ctx.mark_dirty(values)
        ctx.save_for_backward(values)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (output,) = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType]
        bits = torch.ops.aten.threshold_backward(grad.view(torch.int16), output.view(torch.int16), 0)
        return bits.view(torch.bfloat16)


def rectify_by_integers(model: nn.Module) -> int:
    """Have every ReLU compare integers where it can, and return how many there are."""
    found = [module for module in model.modules() if type(module) in (nn.ReLU, FusedReLU, IntegerReLU)]
    for module in found:
        module.__class__ = IntegerReLU
    return len(found)
