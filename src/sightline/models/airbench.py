"""airbench: seven convolutions that learn CIFAR-10 in ten epochs, because the first of them needn't learn.

Paper: 94% on CIFAR-10 in 3.29 Seconds on a Single GPU (Jordan, 2024), https://arxiv.org/abs/2404.00498
It follows How to Train Your ResNet (Page, 2018), https://myrtle.ai/learn/how-to-train-your-resnet/

Section 3.1: a 2x2 convolution without padding, three blocks of two 3x3 convolutions, each block halving the
resolution after its first, a maximum over what is left, a linear head without bias whose input is scaled down by 9.
Section 3.2: the first convolution's 24 kernels are the directions in which 2x2 patches of training images vary, each
divided by how much (whitening), and their negatives. Section 3.3: each other kernel begins as a partial identity.
`airbench95` is wider, `airbench96` wider still, with blocks of three convolutions and a shortcut over the last two.

Differs from the paper: batch norms learn their scales, too, and keep torch's momentum and epsilon; the whitening
convolution goes on learning, where the paper freezes it. The paper's training (Lookahead, biases at 64 times the rate)
is no part of the network; `cifar10_speed` has Muon, which the author's later records were set with.

Initialisation: as said; batch norm at 1 and 0. Without `begin_from` the first convolution is as torch makes it.
Shapes: B batch, C channels, H and W height and width.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sightline.errors import ModelError
from sightline.models import Classifier, Family, Stage, Variant

WHITENING_EPS = 5e-4
"""Added to each direction's variance, as by the paper's code."""
SCALE = 1 / 9
"""Of the head's input."""


@dataclass(frozen=True, kw_only=True)
class AirbenchConfig:
    """A network of section 3.1, or one of its larger kin."""

    widths: tuple[int, int, int]
    """Channels of the blocks."""
    depth: int = 2
    """Convolutions of each block; from three on a shortcut passes all but the first."""


class AirbenchBlock(nn.Module):
    """A convolution, a max pool, and the other convolutions, each with its norm and activation."""

    def __init__(self, in_channels: int, channels: int, depth: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.pool = nn.MaxPool2d(2)
        self.norm1 = nn.BatchNorm2d(channels)
        self.act1 = nn.GELU()
        layers: list[nn.Module] = []
        for _ in range(depth - 1):
            conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            layers += [conv, nn.BatchNorm2d(channels), nn.GELU()]
        self.act2 = layers.pop()
        self.layers = nn.Sequential(*layers)
        self.has_shortcut = depth > 2

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C, H // 2, W // 2)."""
        x = self.act1(self.norm1(self.pool(self.conv1(x))))
        return self.act2(self.layers(x) + x if self.has_shortcut else self.layers(x))


class Airbench(Classifier):
    """A whitening convolution, three blocks, a global maximum, a scaled linear head."""

    num_first_pixels = 5000 * 32 * 32  # section 3.2: 5,000 images
    begun_layers = ("whiten",)

    def __init__(self, config: AirbenchConfig, num_classes: int, in_channels: int) -> None:
        super().__init__()
        channels = 2 * 2 * 2 * in_channels  # each direction of a patch, and its negative
        self.whiten = nn.Conv2d(in_channels, channels, 2)
        self.whiten_act = nn.GELU()
        stages: list[Stage] = []
        for number, width in enumerate(config.widths, start=1):
            self.add_module(f"block{number}", AirbenchBlock(channels, width, config.depth))
            stages.append(Stage(f"block{number}", width, 2**number))
            channels = width
        self.stages = tuple(stages)
        self.num_features = channels
        self.head_dropout = nn.Dropout(0.0)
        self.head = nn.Linear(channels, num_classes, bias=False)
        self.apply(_initialise)

    def begin_from(self, images: Tensor) -> None:
        """Whiten 2x2 patches of some normalised training images (B, C, H, W)."""
        kernels, (height, width) = self.whiten.weight, self.whiten.kernel_size
        moments, count = torch.zeros(()).double(), 0
        for part in images.split(100):  # a part's patches are eight times its size
            patches = part.unfold(2, height, 1).unfold(3, width, 1).movedim(1, 3).flatten(0, 2).flatten(1).double()
            moments, count = moments + patches.T @ patches, count + len(patches)
        variances, directions = torch.linalg.eigh(moments / count)
        whitening = (directions / (variances + WHITENING_EPS).sqrt()).T.reshape(-1, *kernels.shape[1:])
        with torch.no_grad():
            kernels.copy_(torch.cat((whitening, -whitening)))
            nn.init.zeros_(self.whiten.bias)  # pyright: ignore[reportArgumentType]

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) -> a map (B, C_i, H_i, W_i) after each block."""
        x = self.whiten_act(self.whiten(images))
        maps: list[Tensor] = []
        for stage in self.stages:
            x = self.get_submodule(stage.name)(x)
            maps.append(x)
        return maps

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D), the last map's maximum, scaled."""
        return self.feature_maps(images)[-1].amax((2, 3)) * SCALE


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
        with torch.no_grad():
            nn.init.dirac_(module.weight[: module.in_channels])


def _fit(config: Any, image_size: int) -> tuple[Any, str]:
    """Any size of which the three max pools leave something."""
    if image_size < 9:
        raise ModelError(
            f"Images of {image_size} pixels are too small for airbench, which halves them three times and takes 9 or "
            "more. Set data.image_size (data.resize, too, if it is less) or --image-size to at least 9."
        )
    return config, ""


def _variant(widths: tuple[int, int, int], depth: int, num_params: int, counted_macs: int, top1: float) -> Variant:
    return Variant(
        config=AirbenchConfig(widths=widths, depth=depth),
        num_params=num_params,
        counted_macs=counted_macs,
        top1=top1,
        source="paper, section 1, mean of runs, several views of each image",
        image_size=32,
        num_classes=10,
    )


ENTRY = Family(
    title="94% on CIFAR-10 in 3.29 Seconds on a Single GPU",
    paper="https://arxiv.org/abs/2404.00498",
    year=2024,
    model=Airbench,
    fit=_fit,
    variants={
        "airbench94": _variant((64, 256, 256), 2, 1_972_792, 118_147_360, 94.01),
        "airbench95": _variant((128, 384, 384), 2, 4_606_520, 301_560_864, 95.01),
        "airbench96": _variant((128, 512, 512), 3, 12_721_208, 615_201_056, 96.05),
    },
)
