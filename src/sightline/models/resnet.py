"""ResNet: layers learn what to add to their input, so that a hundred of them can be trained.

Paper: Deep Residual Learning for Image Recognition (He et al., 2015), https://arxiv.org/abs/1512.03385
Also: Wide Residual Networks (Zagoruyko and Komodakis, 2016), https://arxiv.org/abs/1605.07146, whose
ImageNet form doubles the middle width of each bottleneck (section 3.3).

Table 1 gives the ImageNet networks: a 7x7 stem, a max pool, four stages. Section 4.2 gives the CIFAR
networks of 6n + 2 layers: a 3x3 stem, three stages of 16, 32 and 64 channels. The CIFAR networks' shortcuts
have no parameters (option A), as in the paper; `resnet20_b` and its like have projections (option B).
`plain18` and its like are the same networks without shortcuts: past some 20 layers they train worse the
deeper they are (section 4.1), which is what the shortcuts are for.

Differs from the paper:
- A bottleneck halves the resolution in its 3x3 convolution, not in its first 1x1 ("ResNet v1.5"), as
  torchvision's published weights do.
- `resnet18_cifar` and its like keep Table 1's stages under the CIFAR stem; the paper has no such form,
  and courses call it ResNet-18 for CIFAR.
- Option A puts the channels of zeros behind the others; the paper leaves their place open.

Initialisation: He normal over the fan-out, batch norm at 1 and 0 (the paper's section 3.4 cites He et al. 2015).
Shapes: B batch, C channels of the current stage, H and W its height and width.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from sightline.layers.drop_path import DropPath
from sightline.layers.spatial_mean import spatial_mean
from sightline.models import Classifier, Family, Renaming, Stage, Variant, rounded


@dataclass(frozen=True, kw_only=True)
class ResNetConfig:
    """A row of Table 1, or of section 4.2."""

    depths: tuple[int, ...]
    """Blocks in each stage."""
    bottleneck: bool = False
    width: int = 64
    """Channels of the first stage; each later stage doubles them."""
    middle: float = 1.0
    """Width of a bottleneck's 3x3 convolution, relative to the paper's."""
    small_stem: bool = False
    """A 3x3 convolution without max pool, for images of some 32 pixels."""
    shortcut: Literal["projection", "pad", "none"] = "projection"
    """Where shapes change: a 1x1 convolution (option B), or striding and channels of zeros (option A, no parameters).
    "none" leaves out every shortcut: a plain network."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (Figure 5, left)."""

    def __init__(self, in_channels: int, channels: int, stride: int, shortcut: nn.Module) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.drop_path = DropPath()
        self.shortcut = shortcut
        self.act2 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C, H / stride, W / stride)."""
        branch = self.act1(self.bn1(self.conv1(x)))
        branch = self.bn2(self.conv2(branch))
        return self.act2(self.shortcut(x) + self.drop_path(branch))


class Bottleneck(nn.Module):
    """1x1 down, 3x3, 1x1 up to four times the channels, beside a shortcut (Figure 5, right)."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int, shortcut: nn.Module, middle: float) -> None:
        super().__init__()
        width = int(channels * middle)
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.act2 = nn.ReLU(inplace=True)
        self.conv3 = nn.Conv2d(width, channels * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels * self.expansion)
        self.drop_path = DropPath()
        self.shortcut = shortcut
        self.act3 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, 4 C, H / stride, W / stride)."""
        branch = self.act1(self.bn1(self.conv1(x)))
        branch = self.act2(self.bn2(self.conv2(branch)))
        branch = self.bn3(self.conv3(branch))
        return self.act3(self.shortcut(x) + self.drop_path(branch))


class PlainBlock(nn.Sequential):
    """Two 3x3 convolutions with nothing beside them (Figure 3, middle)."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.act2 = nn.ReLU(inplace=True)


class PaddedShortcut(nn.Module):
    """Option A: take every stride-th pixel and add channels of zeros; no parameters (section 3.3)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.added = out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H / stride, W / stride)."""
        # Pooling each pixel alone takes every stride-th as slicing does, and its gradient keeps the channel innermost.
        return F.pad(F.avg_pool2d(x, 1, self.stride), (0, 0, 0, 0, 0, self.added))


class ResNet(Classifier):
    """A stem, stages of residual blocks, a global average pool, a linear head."""

    def __init__(self, config: ResNetConfig, num_classes: int, in_channels: int) -> None:
        super().__init__()
        kernel, stride, padding = (3, 1, 1) if config.small_stem else (7, 2, 3)
        self.conv1 = nn.Conv2d(in_channels, config.width, kernel, stride, padding, bias=False)
        self.bn1 = nn.BatchNorm2d(config.width)
        self.act1 = nn.ReLU(inplace=True)
        self.pool = nn.Identity() if config.small_stem else nn.MaxPool2d(3, 2, 1)
        map_stride = 1 if config.small_stem else 4
        channels = config.width
        expansion = Bottleneck.expansion if config.bottleneck else 1
        stages: list[Stage] = []
        for index, depth in enumerate(config.depths):
            stage_stride = 1 if index == 0 else 2
            width = config.width * 2**index
            blocks: list[nn.Module] = []
            for position in range(depth):
                blocks.append(_block(config, channels, width, stage_stride if position == 0 else 1))
                channels = width * expansion
            self.add_module(f"layer{index + 1}", nn.Sequential(*blocks))
            map_stride *= stage_stride
            stages.append(Stage(f"layer{index + 1}", channels, map_stride))
        self.stages = tuple(stages)
        self.num_features = channels
        self.head_dropout = nn.Dropout(0.0)
        self.head = nn.Linear(channels, num_classes)
        self.apply(_initialise)

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) -> a map (B, C_i, H_i, W_i) after each stage."""
        x = self.pool(self.act1(self.bn1(self.conv1(images))))
        maps: list[Tensor] = []
        for stage in self.stages:
            x = self.get_submodule(stage.name)(x)
            maps.append(x)
        return maps

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D), the last map's average."""
        return spatial_mean(self.feature_maps(images)[-1]).flatten(1)


def _block(config: ResNetConfig, in_channels: int, channels: int, stride: int) -> nn.Module:
    if config.shortcut == "none":
        return PlainBlock(in_channels, channels, stride)
    if config.bottleneck:
        shortcut = _shortcut(config, in_channels, channels * Bottleneck.expansion, stride)
        return Bottleneck(in_channels, channels, stride, shortcut, config.middle)
    return BasicBlock(in_channels, channels, stride, _shortcut(config, in_channels, channels, stride))


def _shortcut(config: ResNetConfig, in_channels: int, out_channels: int, stride: int) -> nn.Module:
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    if config.shortcut == "pad":
        return PaddedShortcut(in_channels, out_channels, stride)
    convolution = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _fit(config: Any, image_size: int) -> tuple[Any, str]:
    """Below 128 pixels Table 1's stem leaves the last stage under 4x4: use the CIFAR stem."""
    if image_size >= 128 or config.small_stem:
        return config, ""
    return replace(config, small_stem=True), "a 3x3 stem of stride 1 without max pool replaces the 7x7 stem"


def _scale(config: Any, width: float, depth: float) -> Any:
    """Each stage's blocks and every width by the same factor: multiples of 8 channels, of 2 below 64."""
    depths = tuple(max(1, round(blocks * depth)) for blocks in config.depths)
    return replace(config, depths=depths, width=rounded(config.width * width, 8 if config.width >= 64 else 2))


def _imagenet(
    depths: tuple[int, ...], num_params: int, num_macs: int, top1: float, *, bottleneck: bool = False, middle: float = 1
) -> Variant:
    """Table 1, with the figures of torchvision's first published weights."""
    return Variant(
        config=ResNetConfig(depths=depths, bottleneck=bottleneck, middle=middle),
        num_params=num_params,
        num_macs=num_macs,
        top1=top1,
        source="torchvision IMAGENET1K_V1, its table of models",
    )


def _cifar(
    layers: int,
    num_params: int,
    counted_macs: int,
    *,
    top1: float | None = None,
    shortcut: Literal["projection", "pad", "none"] = "pad",
) -> Variant:
    """Section 4.2: 6n + 2 layers. Table 6 gives the error rates with option A."""
    return Variant(
        config=ResNetConfig(depths=((layers - 2) // 6,) * 3, width=16, small_stem=True, shortcut=shortcut),
        num_params=num_params,
        counted_macs=counted_macs,
        top1=top1,
        source="" if top1 is None else "paper, Table 6",
        image_size=32,
        num_classes=10,
    )


def _plain(depths: tuple[int, ...], num_params: int, counted_macs: int, top1: float) -> Variant:
    return Variant(
        config=ResNetConfig(depths=depths, shortcut="none"),
        num_params=num_params,
        counted_macs=counted_macs,
        top1=top1,
        source="paper, Table 2 (ten crops)",
    )


_RENAMING: Renaming = ((r"\.downsample\.", ".shortcut."), (r"^fc\.", "head."))

ENTRY = Family(
    title="Deep Residual Learning for Image Recognition",
    paper="https://arxiv.org/abs/1512.03385",
    year=2015,
    model=ResNet,
    variants={
        "resnet18": _imagenet((2, 2, 2, 2), 11_689_512, 1_814_000_000, 69.758),
        "resnet34": _imagenet((3, 4, 6, 3), 21_797_672, 3_664_000_000, 73.314),
        "resnet50": _imagenet((3, 4, 6, 3), 25_557_032, 4_089_000_000, 76.130, bottleneck=True),
        "resnet101": _imagenet((3, 4, 23, 3), 44_549_160, 7_801_000_000, 77.374, bottleneck=True),
        "resnet152": _imagenet((3, 8, 36, 3), 60_192_808, 11_514_000_000, 78.312, bottleneck=True),
        "wide_resnet50_2": _imagenet((3, 4, 6, 3), 68_883_240, 11_398_000_000, 78.468, bottleneck=True, middle=2),
        "wide_resnet101_2": _imagenet((3, 4, 23, 3), 126_886_696, 22_753_000_000, 78.848, bottleneck=True, middle=2),
        "plain18": _plain((2, 2, 2, 2), 11_515_688, 1_794_805_760, 72.06),
        "plain34": _plain((3, 4, 6, 3), 21_623_848, 3_644_493_824, 71.46),
        "resnet18_cifar": Variant(
            config=ResNetConfig(depths=(2, 2, 2, 2), small_stem=True),
            num_params=11_173_962,
            counted_macs=555_422_720,
            image_size=32,
            num_classes=10,
        ),
        "resnet20": _cifar(20, 269_722, 40_551_040, top1=91.25),
        "resnet32": _cifar(32, 464_154, 68_862_592, top1=92.49),
        "resnet44": _cifar(44, 658_586, 97_174_144, top1=92.83),
        "resnet56": _cifar(56, 853_018, 125_485_696, top1=93.03),
        "resnet110": _cifar(110, 1_727_962, 252_887_680, top1=93.57),
        "resnet20_b": _cifar(20, 272_474, 40_813_184, shortcut="projection"),
        "resnet32_b": _cifar(32, 466_906, 69_124_736, shortcut="projection"),
        "resnet44_b": _cifar(44, 661_338, 97_436_288, shortcut="projection"),
        "resnet56_b": _cifar(56, 855_770, 125_747_840, shortcut="projection"),
        "resnet110_b": _cifar(110, 1_730_714, 253_149_824, shortcut="projection"),
        "plain20": _cifar(20, 269_722, 40_551_040, shortcut="none"),
        "plain32": _cifar(32, 464_154, 68_862_592, shortcut="none"),
        "plain44": _cifar(44, 658_586, 97_174_144, shortcut="none"),
        "plain56": _cifar(56, 853_018, 125_485_696, shortcut="none"),
    },
    fit=_fit,
    scale=_scale,
    renamings={"torchvision": _RENAMING, "timm": _RENAMING},
)
