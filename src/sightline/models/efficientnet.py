"""EfficientNet: one small searched network, and a rule that grows it in width, depth and resolution together.

Paper: EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks (Tan and Le, 2019),
https://arxiv.org/abs/1905.11946

Table 1 gives B0: a 3x3 stem, seven stages of mobile inverted bottlenecks with squeeze-and-excitation, a 1x1
convolution. Equation 3 grows it: depth 1.2^phi, width 1.1^phi, resolution 1.15^phi, for about 2^phi times the
computation. `scale` is that rule with the roundings of the authors' code, and B1 to B8 are B0 put through it.

Differs from the paper:
- The multipliers and resolutions of B1 to B8 are those in the authors' code (`efficientnet_builder.py`). They lie near
  equation 3, not on it: B1 widens nothing. B8 is from AdvProp (Xie et al., 2019, https://arxiv.org/abs/1911.09665).
- Strided convolutions pad evenly, as torchvision's and timm's weights need. The `tf_` variants pad as TensorFlow does,
  with the odd pixel at the right and the bottom, for the authors' own weights.
- The rate of stochastic depth climbs over the residual branches, which it skips; the authors' climbs over all blocks.
- `efficientnet_b0_cifar` is B0 for 32 pixels: a stem of stride 1, so that the last map has 2x2 pixels, and no
  stochastic depth; the paper has no such form. `efficientnet_b0` at 32 pixels keeps 4x4, for 3.6 times the computation.
- Batch norm's running averages move by 0.1 a step (PyTorch's momentum); the authors use 0.01, for far longer runs.
  Its epsilon is 1e-5 up to B4 and in B8, as in torchvision's and timm's weights; 1e-3 in B5 to B7, as in torchvision's,
  and in `tf_`. timm's `efficientnet_b5` to `_b7` have 1e-5: take them as timm/efficientnet_b5 and so on.

Initialisation: the authors': convolutions normal over the fan-out (He), counted for each group; biases 0; the head
uniform within 1 / sqrt(1000), which is theirs on ImageNet. They divide by the root of the number of classes, so that a
network for ten would start with logits ten times as large, and sure of what it doesn't know.
Shapes: B batch, C channels of the current stage, H and W its height and width.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import ModelError
from sightline.layers.conv_norm_act import ConvNormAct
from sightline.layers.drop_path import DropPath, linear_rates
from sightline.layers.spatial_mean import spatial_mean
from sightline.models import Classifier, Family, Stage, Variant


@dataclass(frozen=True, slots=True)
class StageConfig:
    """A row of Table 1: `depth` blocks, of which the first strides and changes the channels."""

    expansion: int
    """Width of a block's middle, relative to its input."""
    kernel: int
    stride: int
    channels: int
    depth: int


@dataclass(frozen=True, kw_only=True)
class EfficientNetConfig:
    """Table 1."""

    stem_width: int = 32
    stem_stride: int = 2
    stages: tuple[StageConfig, ...] = (
        StageConfig(1, 3, 1, 16, 1),
        StageConfig(6, 3, 2, 24, 2),
        StageConfig(6, 5, 2, 40, 2),
        StageConfig(6, 3, 2, 80, 3),
        StageConfig(6, 5, 1, 112, 3),
        StageConfig(6, 5, 2, 192, 4),
        StageConfig(6, 3, 1, 320, 1),
    )
    final_width: int = 1280
    """Channels of the 1x1 convolution before the pool."""
    dropout: float = 0.2
    drop_path: float = 0.2
    """Rate of the last block; it climbs from 0."""
    norm_eps: float = 1e-5
    padding: Literal["even", "tensorflow"] = "even"
    """Where a strided convolution pads: the same on both sides, or the odd pixel at the right and the bottom."""


BASELINE = EfficientNetConfig()
"""B0, from which every other is scaled."""


def scale(config: EfficientNetConfig, *, width: float = 1.0, depth: float = 1.0) -> EfficientNetConfig:
    """The network `width` times as wide and `depth` times as deep (section 3.3).

    Channels are rounded to the nearest multiple of 8, but never down by more than a tenth; depths are rounded up.
    Resolution, the third dimension of the rule, is the size of the images it is then given.
    Roundings don't compose: scale the baseline once. Raises ModelError for a factor that isn't positive.
    """
    if width <= 0 or depth <= 0:
        raise ModelError(f"Width and depth are multiplied by factors greater than 0, got {width} and {depth}.")
    stages = tuple(
        replace(stage, channels=_round_channels(stage.channels * width), depth=math.ceil(stage.depth * depth))
        for stage in config.stages
    )
    return replace(
        config,
        stem_width=_round_channels(config.stem_width * width),
        stages=stages,
        final_width=_round_channels(config.final_width * width),
    )


def _round_channels(channels: float) -> int:
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


class TensorFlowConvNormAct(ConvNormAct):
    """ConvNormAct with TensorFlow's "SAME" padding: ceil(H / stride) rows, the odd pixel at the right and bottom."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, ceil(H / stride), ceil(W / stride))."""
        height, width = x.shape[-2:]
        kernel, stride = self.conv.kernel_size[0], self.conv.stride[0]
        rows = max((math.ceil(height / stride) - 1) * stride + kernel - height, 0)
        columns = max((math.ceil(width / stride) - 1) * stride + kernel - width, 0)
        return super().forward(F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)))


class SqueezeExcitation(nn.Module):
    """Scale each channel by what the whole map says of it (Hu et al., 2017, https://arxiv.org/abs/1709.01507)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.act = nn.SiLU(inplace=True)
        self.expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        squeezed = self.act(self.reduce(spatial_mean(x)))
        # A gate, not an activation: swapping the network's activation must leave it between 0 and 1.
        return x * self.expand(squeezed).sigmoid()


class MBConv(nn.Module):
    """Widen with a 1x1, filter each channel, excite, narrow with a linear 1x1; beside a shortcut where shapes allow.

    Source: MobileNetV2 (Sandler et al., 2018), https://arxiv.org/abs/1801.04381, Figure 4.
    """

    def __init__(self, in_channels: int, stage: StageConfig, stride: int, config: EfficientNetConfig) -> None:
        super().__init__()
        width = in_channels * stage.expansion
        self.expand = _convolution(config, in_channels, width, 1) if stage.expansion != 1 else nn.Identity()
        self.depthwise = _convolution(config, width, width, stage.kernel, stride, groups=width)
        self.excitation = SqueezeExcitation(width, max(1, in_channels // 4))
        self.project = ConvNormAct(width, stage.channels, 1, eps=config.norm_eps, activation=None)
        self.has_shortcut = stride == 1 and in_channels == stage.channels
        if self.has_shortcut:
            self.drop_path = DropPath()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C, H / stride, W / stride)."""
        branch = self.project(self.excitation(self.depthwise(self.expand(x))))
        return x + self.drop_path(branch) if self.has_shortcut else branch


class EfficientNet(Classifier):
    """A stem, stages of inverted bottlenecks, a 1x1 convolution, a global average pool, a linear head."""

    def __init__(self, config: EfficientNetConfig, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.stem = _convolution(config, in_channels, config.stem_width, 3, config.stem_stride)
        channels, map_stride = config.stem_width, config.stem_stride
        self.num_stages = len(config.stages)
        last_of_each_stride: dict[int, Stage] = {}
        for index, stage in enumerate(config.stages):
            blocks: list[nn.Module] = []
            for position in range(stage.depth):
                blocks.append(MBConv(channels, stage, stage.stride if position == 0 else 1, config))
                channels = stage.channels
            name = f"stage{index + 1}"
            self.add_module(name, nn.Sequential(*blocks))
            map_stride *= stage.stride
            last_of_each_stride[map_stride] = Stage(name, channels, map_stride)
        self.stages = tuple(last_of_each_stride.values())
        self.final = _convolution(config, channels, config.final_width, 1)
        self.num_features = config.final_width
        self.head_dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.final_width, num_classes)
        skippable = [module for module in self.modules() if isinstance(module, DropPath)]
        for drop_path, rate in zip(skippable, linear_rates(config.drop_path, len(skippable)), strict=True):
            drop_path.rate = rate
        self.apply(_initialise)

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) -> a map (B, C_i, H_i, W_i) after the last stage of each resolution."""
        taken = {stage.name for stage in self.stages}
        x = self.stem(images)
        maps: list[Tensor] = []
        for index in range(self.num_stages):
            name = f"stage{index + 1}"
            x = self.get_submodule(name)(x)
            if name in taken:
                maps.append(x)
        return maps

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D), the average of the last map after the 1x1 convolution."""
        return spatial_mean(self.final(self.feature_maps(images)[-1])).flatten(1)


def _convolution(
    config: EfficientNetConfig, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1
) -> ConvNormAct:
    even = config.padding == "even" or stride == 1  # at stride 1 both pad the same
    layer = ConvNormAct if even else TensorFlowConvNormAct
    padding = None if even else 0
    return layer(
        in_channels, out_channels, kernel, stride, padding, groups=groups, eps=config.norm_eps, activation=_silu
    )


def _silu() -> nn.Module:
    return nn.SiLU(inplace=True)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        bound = 1 / math.sqrt(1000)
        nn.init.uniform_(module.weight, -bound, bound)
        nn.init.zeros_(module.bias)


def _fit(config: Any, image_size: int) -> tuple[Any, str]:
    """Stride less, from the front, so that the last map keeps 4x4 pixels: below 128 the stem, below 64 stage 2 too."""
    if image_size >= 128 or config.stem_stride == 1:
        return config, ""
    if image_size >= 64:
        return replace(config, stem_stride=1), "the stem has stride 1 instead of 2"
    first, second, *rest = config.stages
    stages = (first, replace(second, stride=1), *rest)
    return replace(config, stem_stride=1, stages=stages), "the stem and stage 2 have stride 1 instead of 2"


TORCHVISION = "torchvision IMAGENET1K_V1, its table of models"
TIMM_B8_MACS = (
    "MACs: timm's benchmark tables, 63.48 billion less batch norm's two for each of 442.89 million activations"
)

_B8 = scale(replace(BASELINE, dropout=0.5), width=2.2, depth=3.6)

ENTRY = Family(
    title="EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
    paper="https://arxiv.org/abs/1905.11946",
    year=2019,
    model=EfficientNet,
    variants={
        "efficientnet_b0": Variant(
            config=BASELINE,
            num_params=5_288_548,
            num_macs=386_000_000,
            top1=77.692,
            source=TORCHVISION,
        ),
        "efficientnet_b1": Variant(
            config=scale(BASELINE, width=1.0, depth=1.1),
            num_params=7_794_184,
            num_macs=687_000_000,
            top1=78.642,
            source=TORCHVISION,
            image_size=240,
        ),
        "efficientnet_b2": Variant(
            config=scale(replace(BASELINE, dropout=0.3), width=1.1, depth=1.2),
            num_params=9_109_994,
            num_macs=1_000_000_000,
            top1=80.608,
            source="MACs: Table 2; top-1: torchvision IMAGENET1K_V1, on images of 288 pixels",
            image_size=260,
        ),
        "efficientnet_b3": Variant(
            config=scale(replace(BASELINE, dropout=0.3), width=1.2, depth=1.4),
            num_params=12_233_232,
            num_macs=1_827_000_000,
            top1=82.008,
            source=TORCHVISION,
            image_size=300,
        ),
        "efficientnet_b4": Variant(
            config=scale(replace(BASELINE, dropout=0.4), width=1.4, depth=1.8),
            num_params=19_341_616,
            num_macs=4_394_000_000,
            top1=83.384,
            source=TORCHVISION,
            image_size=380,
        ),
        "efficientnet_b5": Variant(
            config=scale(replace(BASELINE, dropout=0.4, norm_eps=1e-3), width=1.6, depth=2.2),
            num_params=30_389_784,
            num_macs=10_266_000_000,
            top1=83.444,
            source=TORCHVISION,
            image_size=456,
        ),
        "efficientnet_b6": Variant(
            config=scale(replace(BASELINE, dropout=0.5, norm_eps=1e-3), width=1.8, depth=2.6),
            num_params=43_040_704,
            num_macs=19_068_000_000,
            top1=84.008,
            source=TORCHVISION,
            image_size=528,
        ),
        "efficientnet_b7": Variant(
            config=scale(replace(BASELINE, dropout=0.5, norm_eps=1e-3), width=2.0, depth=3.1),
            num_params=66_347_960,
            num_macs=37_746_000_000,
            top1=84.122,
            source=TORCHVISION,
            image_size=600,
        ),
        "efficientnet_b8": Variant(
            config=_B8,
            num_params=87_413_142,
            num_macs=62_594_000_000,
            source=TIMM_B8_MACS,
            image_size=672,
        ),
        "efficientnet_b0_cifar": Variant(
            config=replace(BASELINE, stem_stride=1, drop_path=0.0),
            num_params=4_020_358,
            counted_macs=31_979_392,
            image_size=32,
            num_classes=10,
        ),
        "tf_efficientnet_b0": Variant(
            config=replace(BASELINE, norm_eps=1e-3, padding="tensorflow"),
            num_params=5_288_548,
            num_macs=386_000_000,
            top1=76.542,
            source="MACs: torchvision, as for efficientnet_b0; top-1: timm's results-imagenet.csv, in1k",
        ),
        "tf_efficientnet_b8": Variant(
            config=replace(_B8, norm_eps=1e-3, padding="tensorflow"),
            num_params=87_413_142,
            num_macs=62_594_000_000,
            top1=85.344,
            source=f"{TIMM_B8_MACS}; top-1: its results-imagenet.csv, ra_in1k",
            image_size=672,
        ),
    },
    fit=_fit,
    scale=lambda config, width, depth: scale(config, width=width, depth=depth),
    renamings={
        "torchvision": (
            (r"^features\.0\.0\.", "stem.conv."),
            (r"^features\.0\.1\.", "stem.norm."),
            (r"^features\.8\.0\.", "final.conv."),
            (r"^features\.8\.1\.", "final.norm."),
            (r"^classifier\.1\.", "head."),
            # The first stage doesn't expand, so that its blocks start at the depthwise convolution.
            (r"^features\.1\.(\d+)\.block\.0\.", r"stage1.\1.depthwise."),
            (r"^features\.1\.(\d+)\.block\.1\.", r"stage1.\1.excitation."),
            (r"^features\.1\.(\d+)\.block\.2\.", r"stage1.\1.project."),
            (r"^features\.(\d)\.(\d+)\.block\.0\.", r"stage\1.\2.expand."),
            (r"^features\.(\d)\.(\d+)\.block\.1\.", r"stage\1.\2.depthwise."),
            (r"^features\.(\d)\.(\d+)\.block\.2\.", r"stage\1.\2.excitation."),
            (r"^features\.(\d)\.(\d+)\.block\.3\.", r"stage\1.\2.project."),
            (r"\.(expand|depthwise|project)\.0\.", r".\1.conv."),
            (r"\.(expand|depthwise|project)\.1\.", r".\1.norm."),
            (r"\.fc1\.", ".reduce."),
            (r"\.fc2\.", ".expand."),
        ),
        "timm": (
            (r"^conv_stem\.", "stem.conv."),
            (r"^bn1\.", "stem.norm."),
            (r"^conv_head\.", "final.conv."),
            (r"^bn2\.", "final.norm."),
            (r"^classifier\.", "head."),
            (r"\.se\.conv_", ".excitation."),
            # The first stage doesn't expand: its norms are numbered from the depthwise convolution on.
            (r"^blocks\.0\.(\d+)\.conv_dw\.", r"stage1.\1.depthwise.conv."),
            (r"^blocks\.0\.(\d+)\.bn1\.", r"stage1.\1.depthwise.norm."),
            (r"^blocks\.0\.(\d+)\.conv_pw\.", r"stage1.\1.project.conv."),
            (r"^blocks\.0\.(\d+)\.bn2\.", r"stage1.\1.project.norm."),
            (r"\.conv_pw\.", ".expand.conv."),
            (r"\.bn1\.", ".expand.norm."),
            (r"\.conv_dw\.", ".depthwise.conv."),
            (r"\.bn2\.", ".depthwise.norm."),
            (r"\.conv_pwl\.", ".project.conv."),
            (r"\.bn3\.", ".project.norm."),
            *((rf"^blocks\.{index}\.", f"stage{index + 1}.") for index in range(7)),
        ),
    },
)
