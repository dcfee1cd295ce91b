"""Quantisation-aware training: what int8 will round is rounded in the forward pass, and the weights learn to bear it.

Inputs of convolutions and matrices are rounded to 256 levels between the batch's least and greatest value, weights to
255 levels around 0 for each output channel, whose scale a batch norm that is folded in later multiplies: the levels
are then those of the folded network. Gradients pass as if nothing were rounded. What is kept are the float32 weights;
`compress --quantize` makes the int8 network of them.

The layers' classes are swapped on the network that trains; its parameters and its state's names stay as they are. There
is no state besides, so that a run which goes on repeats.

Source: Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference (Jacob et al.,
2018), https://arxiv.org/abs/1712.05877, section 3; weights by channel are Krishnamoorthi's (2018),
https://arxiv.org/abs/1806.08342, section 2.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.training.depthwise import DepthwiseConv2d, Float32Depthwise
from sightline.training.packed_gradients import PackedConv2d
from sightline.training.products import ProductConv2d
from sightline.training.winograd import WinogradConv2d

_LEAST = 1e-8
"""Smallest step between two levels: of a tensor of zeros."""


class RoundedConv2d(nn.Conv2d):
    """A convolution of rounded images by rounded kernels."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.Conv2d's own name for it
        """(B, C, H, W) -> (B, C, H', W')."""
        return self._conv_forward(rounded_input(input), rounded_weight(self.weight), self.bias)


class RoundedLinear(nn.Linear):
    """A matrix product of rounded rows by rounded weights."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """(..., C) -> (..., K)."""
        return F.linear(rounded_input(input), rounded_weight(self.weight), self.bias)


class RoundedDepthwise(DepthwiseConv2d):
    """The same of a depthwise convolution."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """(B, C, H, W) -> (B, C, H', W')."""
        return self.convolved(rounded_input(input), rounded_weight(self.weight))


class RoundedFloat32Depthwise(RoundedDepthwise, Float32Depthwise):
    """The same of a depthwise convolution that computes in float32."""


class RoundedProductConv2d(ProductConv2d):
    """The same of a convolution that is a matrix product."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """(B, C, H, W) -> (B, C', H', W')."""
        return self.convolved(rounded_input(input), rounded_weight(self.weight))


class RoundedPackedConv2d(PackedConv2d):
    """The same of a convolution whose weights' gradient compiled loops compute."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """(B, C, H, W) -> (B, C', H', W')."""
        return self.convolved(rounded_input(input), rounded_weight(self.weight))


class RoundedWinogradConv2d(WinogradConv2d, RoundedPackedConv2d):
    """The same of a convolution by minimal filtering."""


_ROUNDED: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: RoundedConv2d,
    nn.Linear: RoundedLinear,
    DepthwiseConv2d: RoundedDepthwise,
    Float32Depthwise: RoundedFloat32Depthwise,
    ProductConv2d: RoundedProductConv2d,
    PackedConv2d: RoundedPackedConv2d,
    WinogradConv2d: RoundedWinogradConv2d,
}
_PLAIN = {rounded: plain for plain, rounded in _ROUNDED.items()}


def rounded_input(values: Tensor) -> Tensor:
    """The tensor at 256 evenly spaced levels, of which one is 0; in the type that it came in."""
    exact = values.float()
    low, high = torch.aminmax(exact.detach())
    low, high = low.clamp(max=0), high.clamp(min=0)
    step = ((high - low) / 255).clamp(min=_LEAST)
    zero = (-low / step).round().to(torch.int32)
    return torch.fake_quantize_per_tensor_affine(exact, step, zero, 0, 255).to(values.dtype)


def rounded_weight(weight: Tensor) -> Tensor:
    """A weight (K, ...) at 255 levels around 0 for each of its K outputs."""
    step = (weight.detach().flatten(1).abs().amax(1) / 127).clamp(min=_LEAST)
    return torch.fake_quantize_per_channel_affine(weight, step, torch.zeros_like(step), 0, -127, 127)


def fake_quantize(model: nn.Module) -> int:
    """Have every convolution and matrix compute as int8 would, and return how many there are.

    Only torch's own classes, and those of `settle_layers`: another subclass has a forward of its own, which the
    swap would lose.
    """
    return _swap(model, _ROUNDED)


def stop_fake_quantizing(model: nn.Module) -> int:
    """Have them compute in full precision again, and return how many there are."""
    return _swap(model, _PLAIN)


def _swap(model: nn.Module, classes: dict[type[nn.Module], type[nn.Module]]) -> int:
    found = [module for module in model.modules() if type(module) in classes]
    for module in found:
        module.__class__ = classes[type(module)]
    return len(found)
