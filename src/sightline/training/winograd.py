"""3x3 convolutions by minimal filtering, in float32 on a CPU: output and gradients by compiled loops.

The layer's class is swapped on the network that trains; its parameters and its state's names stay as they are. Images
that the loops don't take are left to those of packed gradients, or to torch.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from sightline.native import winograd
from sightline.training.compiled import demand
from sightline.training.packed_gradients import PackedConv2d


class WinogradConv2d(PackedConv2d):
    """A 3x3 convolution of one group without a stride, padded by one, that the loops compute where they can."""

    def convolved(self, images: Tensor, weight: Tensor) -> Tensor:
        """Images (B, C, H, W) by a weight that stands for the layer's own -> (B, C', H, W)."""
        theirs = torch.compiler.is_compiling() or torch.is_autocast_enabled(images.device.type)
        if theirs or not winograd.takes(images, weight):
            return super().convolved(images, weight)
        output: Tensor = _Filtered.apply(images, weight, self.bias)  # pyright: ignore[reportUnknownMemberType, reportAssignmentType]
        return output


class _Filtered(torch.autograd.Function):
    """Images (B, C, H, W) by a weight (C', C, 3, 3) and a bias (C',) or None -> (B, C', H, W)."""

    @staticmethod
    def forward(ctx: FunctionCtx, images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(images, weight)
        output = winograd.convolved(images, weight)
        return output if bias is None else output.add_(bias[:, None, None])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        images, weight = ctx.saved_tensors
        of_images, of_weight, of_bias = ctx.needs_input_grad
        grad = grad.contiguous(memory_format=torch.channels_last)  # once for both
        return (
            winograd.image_gradient(grad, weight) if of_images else None,
            winograd.weight_gradient(images, grad) if of_weight else None,
            grad.sum((0, 2, 3)) if of_bias else None,
        )


def has_filterable(model: nn.Module) -> bool:
    """Whether there is a convolution that this machine can compute so."""
    return any(_can_be_filtered(module) for module in model.modules()) and winograd.available()


def check_filtering() -> None:
    """Raise RecipeError where this machine can't compute convolutions so."""
    demand("train.winograd", "AVX2", has_processor=winograd.has_processor, is_available=winograd.available)


def filter_minimally(model: nn.Module) -> int:
    """Have every convolution that can be compute so, and return how many there are.

    Raises RecipeError where this machine can't.
    """
    check_filtering()
    found = [module for module in model.modules() if _can_be_filtered(module)]
    for module in found:
        module.__class__ = WinogradConv2d
    return len(found)


def _can_be_filtered(module: nn.Module) -> bool:
    # Only torch's own class, and the one that is swapped in before: another has a forward of its own.
    if not isinstance(module, nn.Conv2d) or type(module) not in (nn.Conv2d, PackedConv2d, WinogradConv2d):
        return False
    of_kernel = module.kernel_size == (3, 3) and module.stride == module.padding == module.dilation == (1, 1)
    wide = min(module.in_channels, module.out_channels) >= winograd.FEWEST_CHANNELS
    return of_kernel and wide and module.groups == 1 and module.padding_mode == "zeros"
