"""Depthwise convolutions in float32 inside a bfloat16 pass: on a CPU bfloat16 makes their backward pass slower.

The layer's class is swapped on the network that trains; its parameters and its state's names stay as they are.
"""

import torch
from torch import Tensor, nn


class Float32Depthwise(nn.Conv2d):
    """A convolution that computes in float32 whatever autocast says, and gives back the precision it was given."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.Conv2d's own name for it
        """(B, C, H, W) -> (B, C, H', W') of the same type."""
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.float()).to(input.dtype)


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
