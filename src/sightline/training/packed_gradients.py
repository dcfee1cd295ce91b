"""Convolutions whose weights' gradient is computed by compiled loops, in float32 on a CPU; depthwise ones' images' too.

The layer's class is swapped on the network that trains; its parameters and its state's names stay as they are.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn.grad import conv2d_input

from sightline.native import convolution, depthwise
from sightline.training.compiled import demand
from sightline.training.depthwise import DepthwiseConv2d, is_depthwise
from sightline.training.planes import Pair, pair


class PackedConv2d(nn.Conv2d):
    """A convolution of one group whose weights' gradient the loops compute, where they take its images."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.Conv2d's own name for it
        """(B, C, H, W) -> (B, C', H', W')."""
        return self.convolved(input, self.weight)

    def convolved(self, images: Tensor, weight: Tensor) -> Tensor:
        """Images (B, C, H, W) by a weight that stands for the layer's own -> (B, C', H', W')."""
        theirs = torch.compiler.is_compiling() or torch.is_autocast_enabled(images.device.type)
        if theirs or not convolution.takes(images, weight):
            return self._conv_forward(images, weight, self.bias)
        stride, padding = pair(self.stride), pair(self.padding)
        output: Tensor = _Packed.apply(images, weight, self.bias, stride, padding)  # pyright: ignore[reportUnknownMemberType, reportAssignmentType]
        return output


class _Packed(torch.autograd.Function):
    """Images (B, C, H, W) by a weight (C', C, kH, kW) and a bias (C',) or None -> (B, C', H', W')."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, images: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair
    ) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.geometry = stride, padding  # pyright: ignore[reportAttributeAccessIssue]
        return torch.conv2d(images, weight, bias, stride, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        images, weight = ctx.saved_tensors
        stride, padding = ctx.geometry
        of_images, of_weight, of_bias, *_ = ctx.needs_input_grad
        return (
            conv2d_input(images.shape, weight, grad, stride, padding) if of_images else None,  # pyright: ignore[reportArgumentType]
            convolution.weight_gradient(images, grad, weight.shape[2:], stride, padding) if of_weight else None,
            grad.sum((0, 2, 3)) if of_bias else None,
            None,
            None,
        )


def has_packable(model: nn.Module) -> bool:
    """Whether there is a convolution whose gradients this machine can compute so."""
    return any(_can_be_packed(module) or is_depthwise(module) for module in model.modules()) and _available()


def check_packing() -> None:
    """Raise RecipeError where this machine can't compute weights' gradients so."""
    demand(
        "train.packed_gradients", "AVX2",
        has_processor=convolution.has_processor, is_available=_available,
    )  # fmt: skip


def pack_gradients(model: nn.Module) -> int:
    """Have every convolution that can be compute its gradients so, and return how many there are.

    Depthwise ones can where `differentiate_by_pieces` came before. Raises RecipeError where this machine can't.
    """
    check_packing()
    found = [module for module in model.modules() if _can_be_packed(module)]
    for module in found:
        module.__class__ = PackedConv2d
    by_pieces = [module for module in model.modules() if isinstance(module, DepthwiseConv2d)]
    for module in by_pieces:
        module.by_loops = True
    return len(found) + len(by_pieces)


def _available() -> bool:
    return convolution.available() and depthwise.available()


def _can_be_packed(module: nn.Module) -> bool:
    # Only torch's own class: a subclass has a forward of its own, which the swap would lose.
    if not isinstance(module, nn.Conv2d) or type(module) not in (nn.Conv2d, PackedConv2d):
        return False
    plain = module.padding_mode == "zeros" and module.dilation == (1, 1) and not isinstance(module.padding, str)
    wide = module.in_channels >= convolution.FEWEST_CHANNELS and module.kernel_size != (1, 1)
    return plain and wide and module.groups == 1
