"""DenseNet: each layer reads all the feature maps before it, and adds a few of its own.

Paper: Densely Connected Convolutional Networks (Huang et al., 2016), https://arxiv.org/abs/1608.06993

A layer's output is appended to its input, x_l = H_l([x_0, x_1, ..., x_(l-1)]) (equation 2), so that what was
computed once stays readable and a layer needs only `growth` new channels. Table 1 gives the ImageNet networks:
a 7x7 stem, four dense blocks, between them a transition that halves channels and resolution. Section 3 gives the
CIFAR networks (Table 2, "DenseNet-BC"): a 3x3 stem of two growths, three dense blocks.

Differs from the paper:
- Dropout, used by the paper at 0.2 on sets without augmentation, sits after a layer's 3x3 convolution alone, as in
  torchvision, and its rate is 0; the paper has it after the 1x1 convolution too.
- DenseNet-161 (growth 48) is a network of the authors' published code; the paper's last version tabulates 264 instead.
- The CIFAR stem is a convolution alone, without batch norm or ReLU, as in the authors' code: 769,162 parameters.

Initialisation: He normal over the fan-in, batch norm at 1 and 0, the head's bias 0 (section 4.2 cites He et al. 2015;
torchvision's choice of fan). The head's weights are PyTorch's own.
Shapes: B batch, C channels so far, k growth, H and W the map's height and width.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from sightline.errors import ModelError
from sightline.layers.spatial_mean import spatial_mean
from sightline.models import Classifier, Family, Stage, Variant, rounded


@dataclass(frozen=True, kw_only=True)
class DenseNetConfig:
    """A column of Table 1, or a row of Table 2."""

    depths: tuple[int, ...]
    """Layers in each dense block."""
    growth: int = 32
    """Channels that each layer adds (the paper's k)."""
    stem_width: int = 64
    """Channels before the first dense block."""
    bottleneck: int = 4
    """Width of a layer's 1x1 convolution, in growths ("B" in DenseNet-BC)."""
    compression: float = 0.5
    """Part of the channels that a transition keeps (the paper's theta; below 1 is "C" in DenseNet-BC)."""
    small_stem: bool = False
    """A 3x3 convolution without max pool, for images of some 32 pixels."""


class DenseLayer(nn.Module):
    """BN-ReLU-Conv(1x1), BN-ReLU-Conv(3x3): the composite function H of section 3."""

    def __init__(self, in_channels: int, growth: int, bottleneck: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.act1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(in_channels, bottleneck * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(bottleneck * growth)
        self.act2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(bottleneck * growth, growth, 3, padding=1, bias=False)
        self.dropout = nn.Dropout(0.0)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, k, H, W), the new channels alone."""
        x = self.conv1(self.act1(self.norm1(x)))
        return self.dropout(self.conv2(self.act2(self.norm2(x))))


class DenseBlock(nn.Module):
    """Layers of which each reads the block's input and the output of every layer before it (Figure 1)."""

    def __init__(self, in_channels: int, depth: int, growth: int, bottleneck: int) -> None:
        super().__init__()
        for index in range(depth):
            layer = DenseLayer(in_channels + index * growth, growth, bottleneck)
            self.add_module(f"denselayer{index + 1}", layer)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C + depth k, H, W), of which the first C channels are the input."""
        for layer in self.children():
            x = torch.cat((x, layer(x)), 1)
        return x


class Transition(nn.Module):
    """BN-ReLU-Conv(1x1), then a 2x2 average pool, between two dense blocks."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.act = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.pool = nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H / 2, W / 2)."""
        return self.pool(self.conv(self.act(self.norm(x))))


class DenseNet(Classifier):
    """A stem, dense blocks with transitions between them, a global average pool, a linear head."""

    def __init__(self, config: DenseNetConfig, num_classes: int, in_channels: int) -> None:
        super().__init__()
        channels = config.stem_width
        kernel, stride, padding = (3, 1, 1) if config.small_stem else (7, 2, 3)
        self.conv0 = nn.Conv2d(in_channels, channels, kernel, stride, padding, bias=False)
        self.norm0 = nn.Identity() if config.small_stem else nn.BatchNorm2d(channels)
        self.act0 = nn.Identity() if config.small_stem else nn.ReLU(inplace=True)
        self.pool0 = nn.Identity() if config.small_stem else nn.MaxPool2d(3, 2, 1)
        map_stride = 1 if config.small_stem else 4
        stages: list[Stage] = []
        for index, depth in enumerate(config.depths):
            if index > 0:
                kept = int(channels * config.compression)
                self.add_module(f"transition{index}", Transition(channels, kept))
                channels = kept
                map_stride *= 2
            name = f"denseblock{index + 1}"
            self.add_module(name, DenseBlock(channels, depth, config.growth, config.bottleneck))
            channels += depth * config.growth
            stages.append(Stage(name, channels, map_stride))
        self.norm = nn.BatchNorm2d(channels)
        self.act = nn.ReLU(inplace=True)
        self.stages = tuple(stages)
        self.num_features = channels
        self.head_dropout = nn.Dropout(0.0)
        self.head = nn.Linear(channels, num_classes)
        self.apply(_initialise)

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) -> a map (B, C_i, H_i, W_i) after each dense block, before its batch norm."""
        x = self.pool0(self.act0(self.norm0(self.conv0(images))))
        maps: list[Tensor] = []
        for index, stage in enumerate(self.stages):
            if index > 0:
                x = self.get_submodule(f"transition{index}")(x)
            x = self.get_submodule(stage.name)(x)
            maps.append(x)
        return maps

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D), the average of the last map after batch norm and ReLU."""
        return spatial_mean(self.act(self.norm(self.feature_maps(images)[-1]))).flatten(1)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight)
    elif isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


def _fit(config: Any, image_size: int) -> tuple[Any, str]:
    """Below 128 pixels Table 1's stem leaves the last block under 4x4: use the CIFAR stem."""
    smallest = 2 ** (len(config.depths) - 1)
    if image_size < smallest:
        raise ModelError(
            f"DenseNet's transitions halve the image {len(config.depths) - 1} times, and nothing would be left of "
            f"{image_size} pixels. Use at least {smallest}."
        )
    if image_size >= 128 or config.small_stem:
        return config, ""
    note = "a 3x3 stem of stride 1 without batch norm and max pool replaces the 7x7 stem"
    return replace(config, small_stem=True), note


def _scale(config: Any, width: float, depth: float) -> Any:
    """The growth and the stem, in even numbers of channels, by one factor, each block's layers by the other."""
    return replace(
        config,
        depths=tuple(max(1, round(layers * depth)) for layers in config.depths),
        growth=rounded(config.growth * width, 2),
        stem_width=rounded(config.stem_width * width, 2),
    )


def _imagenet(config: DenseNetConfig, num_params: int, num_macs: int, top1: float) -> Variant:
    source = "torchvision IMAGENET1K_V1, its table of models"
    return Variant(config=config, num_params=num_params, num_macs=num_macs, top1=top1, source=source)


RENAMING = (
    (r"^features\.norm5\.", "norm."),
    (r"^features\.", ""),
    (r"^classifier\.", "head."),
    # torchvision's files were written before its layers had names without a dot: "denselayer1.norm.1.weight".
    (r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2."),
)

ENTRY = Family(
    title="Densely Connected Convolutional Networks",
    paper="https://arxiv.org/abs/1608.06993",
    year=2016,
    model=DenseNet,
    variants={
        "densenet121": _imagenet(DenseNetConfig(depths=(6, 12, 24, 16)), 7_978_856, 2_834_000_000, 74.434),
        "densenet161": _imagenet(
            DenseNetConfig(depths=(6, 12, 36, 24), growth=48, stem_width=96), 28_681_000, 7_728_000_000, 77.138
        ),
        "densenet169": _imagenet(DenseNetConfig(depths=(6, 12, 32, 32)), 14_149_480, 3_360_000_000, 75.600),
        "densenet201": _imagenet(DenseNetConfig(depths=(6, 12, 48, 32)), 20_013_928, 4_291_000_000, 76.896),
        "densenet_bc_100_12": Variant(
            config=DenseNetConfig(depths=(16, 16, 16), growth=12, stem_width=24, small_stem=True),
            num_params=769_162,
            counted_macs=287_929_692,
            top1=95.49,
            source="Table 2, C10+",
            image_size=32,
            num_classes=10,
        ),
    },
    fit=_fit,
    scale=_scale,
    renamings={"torchvision": RENAMING, "timm": RENAMING},
)
