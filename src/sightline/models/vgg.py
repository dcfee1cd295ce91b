"""VGG: nothing but 3x3 convolutions, and more of them.

Paper: Very Deep Convolutional Networks for Large-Scale Image Recognition (Simonyan and Zisserman, 2014),
https://arxiv.org/abs/1409.1556

Table 1 gives the networks: five stages of 3x3 convolutions, a max pool after each, three fully connected layers.
Two 3x3 convolutions see as much of the image as one 5x5, with fewer parameters and a ReLU between (section 2.3).

The layers of `features` are numbered as in torchvision, since courses and style-transfer code name them so:
a stage's map is the last ReLU in front of a max pool ("features.29" is VGG-16's conv5_3).

Differs from the paper: the `_bn` networks have batch norm, which was published after it.
Initialisation: as torchvision: He normal over the fan-out in convolutions, N(0, 0.01) in fully connected layers,
biases 0. The paper starts the deeper networks from the trained layers of VGG-11 (section 3.1).
"""

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from sightline.errors import ModelError
from sightline.layers.dense_top import DenseTop
from sightline.layers.taps import outputs_at
from sightline.models import Classifier, Family, Stage, Variant

WIDTHS = (64, 128, 256, 512, 512)
"""Channels of each stage (Table 1)."""


@dataclass(frozen=True, kw_only=True)
class VGGConfig:
    """A column of Table 1."""

    depths: tuple[int, int, int, int, int]
    """Convolutions in each stage."""
    batch_norm: bool = False
    """Batch norm after each convolution."""
    grid: int = 7
    """Side of the map that the fully connected layers see."""


class VGG(Classifier):
    """Five stages of 3x3 convolutions, a pooled grid, two hidden layers of 4096 units, a linear head."""

    def __init__(self, config: VGGConfig, num_classes: int, in_channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        stages: list[Stage] = []
        channels = in_channels
        for index, (depth, width) in enumerate(zip(config.depths, WIDTHS, strict=True)):
            for _ in range(depth):
                layers.append(nn.Conv2d(channels, width, 3, padding=1))
                if config.batch_norm:
                    layers.append(nn.BatchNorm2d(width))
                layers.append(nn.ReLU(inplace=True))
                channels = width
            stages.append(Stage(f"features.{len(layers) - 1}", width, 2**index))
            layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)
        self.top = DenseTop(channels, config.grid)
        self.stages = tuple(stages)
        self.num_features = 4096
        self.head_dropout = nn.Dropout(0.5)
        self.head = nn.Linear(4096, num_classes)
        self.apply(_initialise)

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) -> the maps in front of the five max pools."""
        return outputs_at(self.features, [stage.name.removeprefix("features.") for stage in self.stages], images)

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 4096), the second hidden layer."""
        return self.top(self.features(images))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
    if isinstance(module, nn.Conv2d | nn.Linear):
        assert module.bias is not None
        nn.init.zeros_(module.bias)


def _fit(config: Any, image_size: int) -> tuple[Any, str]:
    """The convolutions take any size from 32; the fully connected layers see the grid that is left of it."""
    if image_size < 32:
        raise ModelError(
            f"Images of {image_size} pixels are too small for VGG, which halves them five times and takes "
            "32 or more. Set data.image_size (data.resize, too, if it is less) or --image-size to at least 32."
        )
    grid = min(7, image_size // 32)
    note = "" if grid == 7 else f"the fully connected layers see a {grid}x{grid} map instead of 7x7"
    return replace(config, grid=grid), note


TORCHVISION = "torchvision IMAGENET1K_V1, its table of models"
VGG_11, VGG_13, VGG_16, VGG_19 = (1, 1, 2, 2, 2), (2, 2, 2, 2, 2), (2, 2, 3, 3, 3), (2, 2, 4, 4, 4)

ENTRY = Family(
    title="Very Deep Convolutional Networks for Large-Scale Image Recognition",
    paper="https://arxiv.org/abs/1409.1556",
    year=2014,
    model=VGG,
    variants={
        "vgg11": Variant(
            config=VGGConfig(depths=VGG_11),
            num_params=132_863_336,
            num_macs=7_609_000_000,
            top1=69.020,
            source=TORCHVISION,
        ),
        "vgg11_bn": Variant(
            config=VGGConfig(depths=VGG_11, batch_norm=True),
            num_params=132_868_840,
            num_macs=7_609_000_000,
            top1=70.370,
            source=TORCHVISION,
        ),
        "vgg13": Variant(
            config=VGGConfig(depths=VGG_13),
            num_params=133_047_848,
            num_macs=11_308_000_000,
            top1=69.928,
            source=TORCHVISION,
        ),
        "vgg13_bn": Variant(
            config=VGGConfig(depths=VGG_13, batch_norm=True),
            num_params=133_053_736,
            num_macs=11_308_000_000,
            top1=71.586,
            source=TORCHVISION,
        ),
        "vgg16": Variant(
            config=VGGConfig(depths=VGG_16),
            num_params=138_357_544,
            num_macs=15_470_000_000,
            top1=71.592,
            source=TORCHVISION,
        ),
        "vgg16_bn": Variant(
            config=VGGConfig(depths=VGG_16, batch_norm=True),
            num_params=138_365_992,
            num_macs=15_470_000_000,
            top1=73.360,
            source=TORCHVISION,
        ),
        "vgg19": Variant(
            config=VGGConfig(depths=VGG_19),
            num_params=143_667_240,
            num_macs=19_632_000_000,
            top1=72.376,
            source=TORCHVISION,
        ),
        "vgg19_bn": Variant(
            config=VGGConfig(depths=VGG_19, batch_norm=True),
            num_params=143_678_248,
            num_macs=19_632_000_000,
            top1=74.218,
            source=TORCHVISION,
        ),
    },
    fit=_fit,
    renamings={
        "torchvision": (
            (r"^classifier\.0\.", "top.fc6."),
            (r"^classifier\.3\.", "top.fc7."),
            (r"^classifier\.6\.", "head."),
        ),
    },
)
