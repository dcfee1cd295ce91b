"""Depthwise convolutions on a CPU: float32 inside a bfloat16 pass, and large kernels' weight gradients by adding up.

In bfloat16 their backward pass is slower than in float32; and oneDNN has fast weight gradients for 3x3 kernels only. On
small planes adding up shifted products takes a fraction of its time (docs/log.md has the figures).
The layer's class is swapped on the network that trains; its parameters and its state's names stay as they are.
"""

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn.grad import conv2d_input

from sightline.training.planes import Pair, pair, places

# Found by timing EfficientNet-B0's layers (docs/log.md): kernels from 5 wide, planes of at most 8x8.
_LARGE_KERNEL, _SMALL_PLANE = 5, 64


class Float32Depthwise(nn.Conv2d):
    """A convolution that computes in float32 whatever autocast says, and gives back the precision it was given."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.Conv2d's own name for it
        """(B, C, H, W) -> (B, C, H', W') of the same type."""
        return self.convolved(input, self.weight)

    def convolved(self, images: Tensor, weight: Tensor) -> Tensor:
        """Images (B, C, H, W) by a weight that stands for the layer's own -> (B, C, H', W') of the images' type."""
        with torch.autocast(images.device.type, enabled=False):
            if not self._adds_up_shifts(images):
                return self._conv_forward(images.float(), weight, self.bias).to(images.dtype)
            stride, padding = pair(self.stride), pair(self.padding)
            output: Tensor = _ShiftedProducts.apply(images.float(), weight, stride, padding)  # pyright: ignore[reportUnknownMemberType, reportAssignmentType]
            return output.to(images.dtype)

    def _adds_up_shifts(self, images: Tensor) -> bool:
        plain = self.bias is None and self.padding_mode == "zeros" and self.dilation == (1, 1)
        if not plain or isinstance(self.padding, str) or self.out_channels != self.in_channels:
            return False
        if images.device.type != "cpu" or min(self.kernel_size) < _LARGE_KERNEL:
            return False
        return places(images.shape, self.kernel_size, self.stride, pair(self.padding)) <= _SMALL_PLANE


class _ShiftedProducts(torch.autograd.Function):
    """A depthwise convolution, whose weight gradient is a sum of products for each offset of the kernel."""

    @staticmethod
    def forward(ctx: FunctionCtx, images: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.geometry = stride, padding  # pyright: ignore[reportAttributeAccessIssue]
        return torch.conv2d(images, weight, None, stride, padding, groups=len(weight))

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        images, weight = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType]
        stride, padding = ctx.geometry  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType]
        grad_images = conv2d_input(images.shape, weight, grad, stride, padding, groups=len(weight))
        return grad_images, weight_gradient(images, grad, weight.shape[2:], stride, padding), None, None


def weight_gradient(images: Tensor, grad: Tensor, kernel: Pair, stride: Pair, padding: Pair) -> Tensor:
    """Gradient (C, 1, kH, kW) of a depthwise kernel from input (B, C, H, W) and output gradient (B, C, H', W').

    For each offset of the kernel: the sum, over images and places, of the output's gradient times the pixel that it saw
    there. Places that saw the padding add nothing, so no image is padded.
    """
    channels_last, grad_last = images.permute(0, 2, 3, 1), grad.permute(0, 2, 3, 1)
    gradient = images.new_zeros(*kernel, images.shape[1])
    rows = [_seen(grad.shape[2], images.shape[2], stride[0], offset - padding[0]) for offset in range(kernel[0])]
    columns = [_seen(grad.shape[3], images.shape[3], stride[1], offset - padding[1]) for offset in range(kernel[1])]
    for y, (out_rows, in_rows) in enumerate(rows):
        for x, (out_columns, in_columns) in enumerate(columns):
            products = channels_last[:, in_rows, in_columns] * grad_last[:, out_rows, out_columns]
            torch.sum(products, (0, 1, 2), out=gradient[y, x])
    return gradient.permute(2, 0, 1).unsqueeze(1)


def _seen(outputs: int, inputs: int, stride: int, shift: int) -> tuple[slice, slice]:
    """Which outputs saw a pixel rather than padding, and which pixels those were: output o saw o * stride + shift."""
    first = max(0, -(shift // stride))
    last = min(outputs, (inputs - 1 - shift) // stride + 1)
    if last <= first:
        return slice(0, 0), slice(0, 0)
    return slice(first, last), slice(first * stride + shift, (last - 1) * stride + shift + 1, stride)


def has_depthwise(model: nn.Module) -> bool:
    """Whether there is a convolution with a group for each channel."""
    return any(_is_depthwise(module) for module in model.modules())


def keep_depthwise_float32(model: nn.Module) -> int:
    """Have every depthwise convolution compute in float32, and return how many there are."""
    found = [module for module in model.modules() if _is_depthwise(module)]
    for module in found:
        module.__class__ = Float32Depthwise
    return len(found)


def _is_depthwise(module: nn.Module) -> bool:
    # Only torch's own class: a subclass has a forward of its own, which the swap would lose.
    if not isinstance(module, nn.Conv2d) or type(module) not in (nn.Conv2d, Float32Depthwise):
        return False
    return module.groups == module.in_channels > 1
