"""What the Inception papers share: parallel branches, their stem, its form for small images, initial values.

Sources: Going Deeper with Convolutions (Szegedy et al., 2014), https://arxiv.org/abs/1409.4842; Rethinking the
Inception Architecture (2015), https://arxiv.org/abs/1512.00567; the authors' published code for the rest.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sightline.errors import ModelError
from sightline.layers.conv_norm_act import ConvNormAct

conv = partial(ConvNormAct, eps=1e-3)
"""A convolution with batch norm and ReLU; its epsilon is the authors'. Padding 0 must be asked for."""


class Branches(nn.Module):
    """Parallel paths over the same input, joined along the channels: the Inception module."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        for index, branch in enumerate(branches):
            self.add_module(f"branch{index}", branch)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, sum of the branches' channels, H', W')."""
        return torch.cat([branch(x) for branch in self.children()], dim=1)


def stem(in_channels: int, *, small: bool) -> dict[str, nn.Module]:
    """The layers in front of the first Inception module of Inception-v3 and Inception-ResNet-v2, by name.

    (B, C, 299, 299) -> (B, 192, 35, 35), without padding at first, since every border lost makes the network
    cheaper. The form for small images keeps the borders and halves twice instead of three times.
    """
    stride, padding = (1, 1) if small else (2, 0)
    return {
        "conv1a": conv(in_channels, 32, 3, stride, padding),
        "conv2a": conv(32, 32, 3, 1, padding),
        "conv2b": conv(32, 64, 3),
        "pool1": nn.MaxPool2d(3, 2, padding),
        "conv3b": conv(64, 80, 1),
        "conv4a": conv(80, 192, 3, 1, padding),
        "pool2": nn.MaxPool2d(3, 2, padding),
    }


def fit_small(config: Any, image_size: int) -> tuple[Any, str]:
    """The config with its field `small` set for images below 128 pixels, and the sentence that says so.

    The native forms make 2x2 of 128 pixels, and Inception-v3 to v4 nothing of less than 75; the small forms make
    2x2 of 32. Raises ModelError below 16, where modules would see less than 4x4.
    """
    if image_size < 16:
        raise ModelError(
            f"Images of {image_size} pixels are too small for an Inception network, which takes 16 or more. "
            "Set data.image_size (data.resize, too, if it is less) or --image-size to at least 16."
        )
    if image_size >= 128:
        return replace(config, small=False), ""
    return replace(config, small=True), "the first convolution has stride 1 instead of 2, and no layer crops the border"


def initialise_truncated_he(module: nn.Module) -> None:
    """Kernels and matrices: a normal distribution cut at two standard deviations, of variance 2 / fan-in.

    The authors' code for Inception-v4 and Inception-ResNet-v2 does so (TF-slim's variance scaling, whose
    factor 1.3 makes up for the cut tails).
    """
    if isinstance(module, nn.Conv2d | nn.Linear):
        std = (1.3 * 2 / module.weight[0].numel()) ** 0.5
        nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
