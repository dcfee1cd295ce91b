"""Convolutions of a CPU as matrix products, where those are faster: 1x1 kernels, and kernels on small planes.

With oneDNN, bfloat16 weight gradients of a plane of 4x4 pixels take five times a matrix product of the patches that
the kernel saw, or those of images laid side by side (docs/log.md has the figures). The layer's class is swapped on the
network that trains; its parameters and its state's names stay as they are.
"""

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F
from torch.nn.grad import conv2d_input

from sightline.training.planes import Pair, autocasted, pair, places
from sightline.training.side_by_side import weight_gradient

# Found by timing the layers of ResNet-18, ResNet-50 and EfficientNet-B0 (docs/log.md), in places of the output.
_SMALL_PLANE, _TINY_PLANE = 64, 16


class ProductConv2d(nn.Conv2d):
    """A convolution with one group whose passes are matrix products where its output's plane is small.

    At most 8x8 places: the weights' gradient, or by images side by side. At most 4x4: the output and, without a stride,
    the input's gradient, too. A 1x1 kernel is a product everywhere.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.Conv2d's own name for it
        """(B, C, H, W) -> (B, C', H', W') with the channel innermost."""
        return self.convolved(input, self.weight)

    def convolved(self, images: Tensor, weight: Tensor) -> Tensor:
        """Images (B, C, H, W) by a weight that stands for the layer's own -> (B, C', H', W')."""
        images, weight, bias = autocasted(images, weight, self.bias)
        stride, padding = pair(self.stride), pair(self.padding)
        if self.kernel_size == (1, 1) and padding == (0, 0):
            # Cut with the channel last: what torch makes for the images' gradient then has it innermost, too.
            seen = images.permute(0, 2, 3, 1)[:, :: stride[0], :: stride[1]]
            return _by_matrix(seen, weight.flatten(1), bias)
        if places(images.shape, weight.shape[2:], stride, padding) > _SMALL_PLANE:
            return torch.conv2d(images, weight, bias, stride, padding)
        output: Tensor = _Products.apply(images, weight, bias, stride, padding)  # pyright: ignore[reportUnknownMemberType, reportAssignmentType]
        return output


class _Products(torch.autograd.Function):
    """A convolution of small planes: (B, C, H, W) by (C', C, kH, kW) -> (B, C', H', W')."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, images: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair
    ) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.geometry = stride, padding, bias is not None  # pyright: ignore[reportAttributeAccessIssue]
        if places(images.shape, weight.shape[2:], stride, padding) > _TINY_PLANE:
            return torch.conv2d(images, weight, bias, stride, padding)
        return _convolved(images, _matrix(weight), pair(weight.shape[2:]), stride, padding, bias)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        images, weight = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType]
        stride, padding, has_bias = ctx.geometry  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType]
        wanted = ctx.needs_input_grad  # pyright: ignore[reportAttributeAccessIssue]
        grad_images = _input_gradient(images, weight, grad, stride, padding) if wanted[0] else None
        grad_weight = None
        if wanted[1]:
            grad_weight = weight_gradient(images, weight.shape, grad, stride, padding)
            if grad_weight is None:
                grad_weight = _by_patches(images, weight, grad, stride, padding)
        grad_bias = grad.sum((0, 2, 3)) if has_bias and wanted[2] else None
        return grad_images, grad_weight, grad_bias, None, None


def _by_patches(images: Tensor, weight: Tensor, grad: Tensor, stride: Pair, padding: Pair) -> Tensor:
    kernel, channels = pair(weight.shape[2:]), len(weight)
    seen = _patches(images, kernel, stride, padding).flatten(0, 2)
    by_place = grad.permute(0, 2, 3, 1).reshape(-1, channels)
    return (by_place.t() @ seen).view(channels, *kernel, -1).permute(0, 3, 1, 2)


def _input_gradient(images: Tensor, weight: Tensor, grad: Tensor, stride: Pair, padding: Pair) -> Tensor:
    reach = weight.shape[2] - 1 - padding[0], weight.shape[3] - 1 - padding[1]
    if stride == (1, 1) and min(reach) >= 0 and images.shape[2] * images.shape[3] <= _TINY_PLANE:
        turned = weight.flip(2, 3).transpose(0, 1)
        return _convolved(grad, _matrix(turned), pair(weight.shape[2:]), stride, reach, None)
    return conv2d_input(images.shape, weight, grad, stride, padding)  # pyright: ignore[reportArgumentType]


def _convolved(
    images: Tensor, matrix: Tensor, kernel: Pair, stride: Pair, padding: Pair, bias: Tensor | None
) -> Tensor:
    seen, rows = _patches(images, kernel, stride, padding), matrix.t()
    batch, height, width, _ = seen.shape
    shape = (batch, len(matrix), height, width)
    output = torch.empty(shape, dtype=images.dtype, device=images.device, memory_format=torch.channels_last)
    # Into the output itself: autograd lets nobody change a view in place, such as a ReLU after this, that we give back.
    written = output.permute(0, 2, 3, 1).view(-1, len(matrix))
    if bias is None:
        torch.mm(seen.flatten(0, 2), rows, out=written)
    else:
        torch.addmm(bias, seen.flatten(0, 2), rows, out=written)
    return output


def _by_matrix(seen: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
    """What is seen at each place (B, H', W', C) by a matrix (C', C) -> (B, C', H', W')."""
    # One product, told so: where there is nothing to learn, torch else makes one of each row of an image.
    rows = F.linear(seen.flatten(0, 2), matrix, bias)
    return rows.unflatten(0, seen.shape[:3]).permute(0, 3, 1, 2)


def _matrix(weight: Tensor) -> Tensor:
    """(C', C, kH, kW) -> (C', kH * kW * C), as `_patches` orders it."""
    return weight.permute(0, 2, 3, 1).flatten(1)


def _patches(images: Tensor, kernel: Pair, stride: Pair, padding: Pair) -> Tensor:
    """What the kernel sees at each place: (B, C, H, W) -> (B, H', W', kH * kW * C), the channel innermost."""
    vertical, horizontal = padding
    padded = F.pad(images.permute(0, 2, 3, 1), (0, 0, horizontal, horizontal, vertical, vertical))
    windows = padded.unfold(1, kernel[0], stride[0]).unfold(2, kernel[1], stride[1])  # (B, H', W', C, kH, kW)
    return windows.permute(0, 1, 2, 4, 5, 3).flatten(3)


def has_products(model: nn.Module) -> bool:
    """Whether there is a convolution that could be a matrix product."""
    return any(_can_be_product(module) for module in model.modules())


def convolve_by_products(model: nn.Module) -> int:
    """Have every convolution of one group be matrix products where those are faster, and return how many there are."""
    found = [module for module in model.modules() if _can_be_product(module)]
    for module in found:
        module.__class__ = ProductConv2d
    return len(found)


def _can_be_product(module: nn.Module) -> bool:
    # Only torch's own class: a subclass has a forward of its own, which the swap would lose.
    if not isinstance(module, nn.Conv2d) or type(module) not in (nn.Conv2d, ProductConv2d):
        return False
    plain = module.padding_mode == "zeros" and module.dilation == (1, 1) and not isinstance(module.padding, str)
    return plain and module.groups == 1
