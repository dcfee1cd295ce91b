"""The mean over height and width."""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable


def spatial_mean(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, 1, 1), with a gradient that lies in memory as x does.

    torch gives the gradient of a plain mean with the channel outermost. To add it to one that has it innermost, as a
    layer does whose input goes two ways, takes two to six times as long.
    """
    if not x.is_contiguous(memory_format=torch.channels_last):
        return x.mean((2, 3), keepdim=True)
    if x.dtype == torch.bfloat16 and x.device.type == "cpu" and not torch.compiler.is_compiling():
        mean: Tensor = _MeanByProduct.apply(x)  # pyright: ignore[reportUnknownMemberType, reportAssignmentType]
        return mean
    return x.permute(0, 2, 3, 1).mean((1, 2), keepdim=True).permute(0, 3, 1, 2)


class _MeanByProduct(torch.autograd.Function):
    """A row of ones times the pixels: as exact as torch's mean of bfloat16, which takes four times as long on a CPU.

    Its gradient is the same at every place and isn't written out.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        batch, channels, height, width = ctx.shape = x.shape  # pyright: ignore[reportAttributeAccessIssue]
        pixels = x.permute(0, 2, 3, 1).flatten(1, 2)
        ones = x.new_ones(()).expand(batch, 1, height * width)
        nothing = x.new_zeros(()).expand(batch, 1, channels)
        mean = x.new_empty(batch, channels, 1, 1)  # no view of what was computed: those may not be changed in place
        row = mean.view(batch, 1, channels)
        torch.baddbmm(nothing, ones, pixels, beta=0, alpha=1 / (height * width), out=row)
        return mean

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        height, width = ctx.shape[2:]  # pyright: ignore[reportAttributeAccessIssue]
        return (grad / (height * width)).expand(ctx.shape)  # pyright: ignore[reportAttributeAccessIssue]
