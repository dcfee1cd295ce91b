"""Depthwise convolutions on a CPU, their gradients by pieces that oneDNN has fast kernels for.

It has them for the weights of at most three columns, on planes no lower than the kernel: wider kernels are taken three
columns at a time, lower planes padded first. For the images it has none in bfloat16 under a stride, and slow ones for
large kernels: there the gradient is float32's. Of a kernel that is larger than what it sees the rim is left off
(docs/log.md has the figures). The layer's class is swapped on the network that trains; its parameters and its state's
names stay as they are.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

from sightline.native import depthwise
from sightline.training.planes import Pair, autocasted, pair

_COLUMNS = 3
"""Of a kernel whose weights' gradient is fast."""
_LARGE_KERNEL = 7
"""Kernels from this wide on have a faster gradient of the images in float32 than in bfloat16."""


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution whose gradients are computed by pieces, where it computes on a CPU."""

    by_loops = False
    """In float32, where compiled loops take its images, by them."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.Conv2d's own name for it
        """(B, C, H, W) -> (B, C, H', W')."""
        return self.convolved(input, self.weight)

    def convolved(self, images: Tensor, weight: Tensor) -> Tensor:
        """Images (B, C, H, W) by a weight that stands for the layer's own -> (B, C, H', W')."""
        if images.device.type != "cpu" or not self._is_plain():
            return self._conv_forward(images, weight, self.bias)
        images, weight, bias = autocasted(images, weight, self.bias)
        stride, (vertical, horizontal) = pair(self.stride), pair(self.padding)
        above, left = _rim(images, weight, 0, stride[0], vertical), _rim(images, weight, 1, stride[1], horizontal)
        height, width = weight.shape[2:]
        centre = weight[:, :, above : height - above, left : width - left]
        padding = vertical - above, horizontal - left
        output: Tensor = _Depthwise.apply(images, centre, bias, self, padding)  # pyright: ignore[reportUnknownMemberType, reportAssignmentType]
        return output

    def _is_plain(self) -> bool:
        same = self.padding_mode == "zeros" and self.dilation == (1, 1) and self.out_channels == self.in_channels
        return same and not isinstance(self.padding, str)


class Float32Depthwise(DepthwiseConv2d):
    """The same, which computes in float32 whatever autocast says, and gives back the precision it was given."""

    def convolved(self, images: Tensor, weight: Tensor) -> Tensor:
        """Images (B, C, H, W) by a weight that stands for the layer's own -> (B, C, H', W') of the images' type."""
        with torch.autocast(images.device.type, enabled=False):
            return super().convolved(images.float(), weight).to(images.dtype)


class _Depthwise(torch.autograd.Function):
    """Images (B, C, H, W) by a weight (C, 1, kH, kW) and a bias (C,) or None -> (B, C, H', W')."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, images: Tensor, weight: Tensor, bias: Tensor | None, layer: DepthwiseConv2d, padding: Pair
    ) -> Tensor:
        ctx.save_for_backward(images, weight)
        stride = pair(layer.stride)
        ctx.settings = stride, padding, layer.by_loops and depthwise.takes(images, weight)  # pyright: ignore[reportAttributeAccessIssue]
        return torch.conv2d(images, weight, bias, stride, padding, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        images, weight = ctx.saved_tensors
        stride, padding, by_loops = ctx.settings
        wanted, kernel = ctx.needs_input_grad, pair(weight.shape[2:])
        grad_images = grad_weight = None
        if wanted[0] and by_loops:
            grad_images = depthwise.image_gradient(images.shape, weight, grad, stride, padding)
        elif wanted[0]:
            grad_images = image_gradient(images, weight, grad, stride, padding)
        if wanted[1]:
            way = depthwise.weight_gradient if by_loops else weight_gradient
            grad_weight = way(images, grad, kernel, stride, padding)
        grad_bias = grad.sum((0, 2, 3)) if wanted[2] else None
        return grad_images, grad_weight, grad_bias, None, None


def image_gradient(images: Tensor, weight: Tensor, grad: Tensor, stride: Pair, padding: Pair) -> Tensor:
    """Gradient of a depthwise convolution's images (B, C, H, W) from its weight (C, 1, kH, kW) and its output's."""
    slow = stride != (1, 1) or max(weight.shape[2:]) >= _LARGE_KERNEL
    exact = torch.float32 if slow and grad.dtype == torch.bfloat16 else grad.dtype
    like = torch.empty_like(images, dtype=exact)  # its values are not looked at
    return _gradients(grad.to(exact), like, weight.to(exact), stride, padding, of=0).to(images.dtype)


def weight_gradient(images: Tensor, grad: Tensor, kernel: Pair, stride: Pair, padding: Pair) -> Tensor:
    """Gradient (C, 1, kH, kW) of a depthwise kernel from input (B, C, H, W) and output gradient (B, C, H', W')."""
    channels, width = images.shape[1], images.shape[3]
    low = images.shape[2] < kernel[0]
    if kernel[1] <= _COLUMNS and not low:
        return _gradients(grad, images, images.new_empty(channels, 1, *kernel), stride, padding, of=1)
    above, within = (padding[0], 0) if low else (0, padding[0])
    begin, end = _seeing(grad.shape[3], width, kernel[1], stride[1], padding[1])
    parts: list[Tensor] = []
    for first in range(begin, end, _COLUMNS):
        columns = min(_COLUMNS, end - first)
        seen = (grad.shape[3] - 1) * stride[1] + columns  # pixels of a row, from the first that these columns meet
        left = padding[1] - first
        around = F.pad(images, (left, seen - left - width, above, above))
        like = images.new_empty(channels, 1, kernel[0], columns)
        parts.append(_gradients(grad, around, like, stride, (within, 0), of=1))
    return F.pad(torch.cat(parts, 3), (begin, kernel[1] - end))


def _gradients(grad: Tensor, images: Tensor, weight: Tensor, stride: Pair, padding: Pair, *, of: int) -> Tensor:
    """Torch's own, of the images (0) or of the weight (1), laid out as they are."""
    mask = [of == 0, of == 1, False]
    settings: tuple[Any, ...] = (None, stride, padding, (1, 1), False, (0, 0), len(weight))
    return torch.ops.aten.convolution_backward(grad, images, weight, *settings, mask)[of]


def _seeing(outputs: int, inputs: int, kernel: int, stride: int, padding: int) -> tuple[int, int]:
    """Which offsets of a kernel meet a pixel anywhere, along one axis: output o meets o * stride + offset - padding."""
    return max(0, padding - (outputs - 1) * stride), min(kernel, inputs + padding)


def _rim(images: Tensor, weight: Tensor, axis: int, stride: int, padding: int) -> int:
    """How many offsets of a kernel meet nothing but padding, at either of its ends."""
    inputs, kernel = images.shape[2 + axis], weight.shape[2 + axis]
    outputs = (inputs + 2 * padding - kernel) // stride + 1
    begin, end = _seeing(outputs, inputs, kernel, stride, padding)
    return min(begin, kernel - end)


def has_depthwise(model: nn.Module) -> bool:
    """Whether there is a convolution with a group for each channel."""
    return any(is_depthwise(module) for module in model.modules())


def differentiate_by_pieces(model: nn.Module, *, in_float32: bool = False) -> int:
    """Have every depthwise convolution compute its gradients by pieces, and return how many there are."""
    found = [module for module in model.modules() if is_depthwise(module)]
    for module in found:
        module.__class__ = Float32Depthwise if in_float32 else DepthwiseConv2d
    return len(found)


def is_depthwise(module: nn.Module) -> bool:
    """Whether it is such a convolution of torch's own class, or of these: another has a forward of its own."""
    if not isinstance(module, nn.Conv2d) or type(module) not in (nn.Conv2d, DepthwiseConv2d, Float32Depthwise):
        return False
    return module.groups == module.in_channels > 1
