"""Wide ResNet: fewer, wider residual blocks learn as well as a thousand thin layers, and train faster.

Paper: Wide Residual Networks (Zagoruyko and Komodakis, 2016), https://arxiv.org/abs/1605.07146

Table 1: a 3x3 stem, three groups of blocks whose widths are 16k, 32k and 64k, a global average pool.
A block normalises and activates before each convolution (pre-activation), so that nothing stands on the
way of the shortcut. WRN-28-10 has 28 layers and k = 10. The ImageNet networks of section 3.3 are ResNets
with wider bottlenecks: `wide_resnet50_2` and `wide_resnet101_2` in resnet.py.

Differs from the paper: dropout between a block's convolutions (section 2.4) is there, but off by default.
The last map of `feature_maps` is taken before the final batch norm and activation.

Initialisation: He normal over the fan-out, biases 0, as in the paper's own code.
Shapes: B batch, C channels of the current group, H and W its height and width.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sightline.layers.drop_path import DropPath
from sightline.layers.spatial_mean import spatial_mean
from sightline.models import Classifier, Family, Stage, Variant


@dataclass(frozen=True, kw_only=True)
class WideResNetConfig:
    """A network WRN-depth-k of Table 1."""

    depth: int
    """Layers: 6n + 4, n blocks in each of three groups."""
    widen: int
    """The factor k."""


class WideBlock(nn.Module):
    """Norm, activation and 3x3 convolution, twice, beside a shortcut (Figure 1 (d), with dropout; Table 1)."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.act1 = nn.ReLU(inplace=True)
        self.projects = stride != 1 or in_channels != channels
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.act2 = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(0.0)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.drop_path = DropPath()
        self.shortcut = nn.Conv2d(in_channels, channels, 1, stride, bias=False) if self.projects else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C, H / stride, W / stride)."""
        activated = self.act1(self.bn1(x))
        branch = self.dropout(self.act2(self.bn2(self.conv1(activated))))
        shortcut = self.shortcut(activated if self.projects else x)  # a projection sees the activated input
        return shortcut + self.drop_path(self.conv2(branch))


class WideResNet(Classifier):
    """A stem, three groups of pre-activation blocks, a last norm and activation, a global pool, a linear head."""

    def __init__(self, config: WideResNetConfig, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 3, 1, 1, bias=False)
        channels = 16
        stages: list[Stage] = []
        for index in range(3):
            width = 16 * config.widen * 2**index
            blocks: list[nn.Module] = []
            for position in range((config.depth - 4) // 6):
                blocks.append(WideBlock(channels, width, 2 if index > 0 and position == 0 else 1))
                channels = width
            self.add_module(f"layer{index + 1}", nn.Sequential(*blocks))
            stages.append(Stage(f"layer{index + 1}", channels, 2**index))
        self.stages = tuple(stages)
        self.num_features = channels
        self.bn = nn.BatchNorm2d(channels)
        self.act = nn.ReLU(inplace=True)
        self.head_dropout = nn.Dropout(0.0)
        self.head = nn.Linear(channels, num_classes)
        self.apply(_initialise)

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) -> a map (B, C_i, H_i, W_i) after each group."""
        x = self.conv1(images)
        maps: list[Tensor] = []
        for stage in self.stages:
            x = self.get_submodule(stage.name)(x)
            maps.append(x)
        return maps

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D), the last map's average, normalised and activated."""
        return spatial_mean(self.act(self.bn(self.feature_maps(images)[-1]))).flatten(1)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


def _scale(config: Any, width: float, depth: float) -> Any:
    """Whole factors k, and as many blocks in each of the three groups."""
    blocks = max(1, round((config.depth - 4) // 6 * depth))
    return WideResNetConfig(depth=6 * blocks + 4, widen=max(1, round(config.widen * width)))


def _variant(depth: int, widen: int, num_params: int, counted_macs: int, top1: float) -> Variant:
    return Variant(
        config=WideResNetConfig(depth=depth, widen=widen),
        num_params=num_params,
        counted_macs=counted_macs,
        top1=top1,
        source="paper, Table 5",
        image_size=32,
        num_classes=10,
    )


ENTRY = Family(
    title="Wide Residual Networks",
    paper="https://arxiv.org/abs/1605.07146",
    year=2016,
    model=WideResNet,
    scale=_scale,
    variants={
        "wide_resnet40_4": _variant(40, 4, 8_949_210, 1_298_582_016, 95.47),
        "wide_resnet16_8": _variant(16, 8, 10_961_370, 1_548_145_664, 95.73),
        "wide_resnet28_10": _variant(28, 10, 36_479_194, 5_243_328_768, 96.00),
    },
)
