"""Inception-v3: large convolutions factorised into small and asymmetric ones, with batch norm.

Paper: Rethinking the Inception Architecture for Computer Vision (Szegedy et al., 2015),
https://arxiv.org/abs/1512.00567

Three kinds of module on three scales: 5x5 and stacked 3x3 convolutions at 35x35 (Figure 5), 1x7 and 7x1 at
17x17 (Figure 6), 1x3 beside 3x1 at 8x8 (Figure 7); between them, reductions that halve the resolution by strided
convolution and max pool side by side (Figure 10). An auxiliary classifier on the last 17x17 map regularises.

Differs from the paper, as the authors' published code and weights do, and torchvision and timm with them:
- After its first pool, the stem has 1x1, 3x3 and a second pool; Table 1 has 3x3, 3x3 with stride 2, and 3x3.
- The 35x35 modules keep one 5x5 convolution where Figure 5 has two 3x3.
- The auxiliary loss counts 0.4, from that code: the paper gives no weight.
- Dropout 0.5 in front of the head, as torchvision; the paper doesn't mention it, the code has 0.2.

In maps smaller than the paper's 17x17, the auxiliary classifier averages to its 5x5 grid without overlap.
Initialisation: as the authors' code and torchvision: normal of deviation 0.1, truncated; 0.01 and 0.001 in the
auxiliary classifier's last two layers.

torchvision's published weights set `transform_input`, which undoes ImageNet's mean and deviation: they expect
pixels normalised with mean 0.5 and std 0.5 in each channel, and Preprocess says so, not the network.
"""

from collections import OrderedDict
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from sightline.layers.image_size import check_least_size
from sightline.layers.inception import Branches, conv, fit_small, stem
from sightline.layers.spatial_mean import spatial_mean
from sightline.layers.taps import outputs_at
from sightline.models import Classifier, Family, Stage, Variant

AUXILIARY_WEIGHT = 0.4
"""Of the auxiliary loss (the authors' code)."""


@dataclass(frozen=True, kw_only=True)
class InceptionV3Config:
    """The native form, or one for small images."""

    small: bool = False
    """The stem halves the image twice instead of three times, and no layer crops the border."""


class AuxiliaryClassifier(nn.Module):
    """Pool, 1x1, 5x5 and a linear layer on the last 17x17 map (Figure 8, with batch norm)."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv0 = conv(in_channels, 128, 1)
        self.conv1 = conv(128, 768, 5, 1, 0)
        self.head = nn.Linear(768, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, K) logits."""
        # The 5x5 convolution needs a 5x5 grid, which the paper's pool leaves of 17x17 maps and larger only.
        x = F.avg_pool2d(x, 5, 3) if min(x.shape[2:]) >= 17 else F.adaptive_avg_pool2d(x, 5)
        return self.head(spatial_mean(self.conv1(self.conv0(x))).flatten(1))


class InceptionV3(Classifier):
    """A stem, eleven Inception modules on three scales, a global average pool, a linear head."""

    def __init__(self, config: InceptionV3Config, num_classes: int, in_channels: int) -> None:
        super().__init__()
        stride, padding = (1, 1) if config.small else (2, 0)
        self.least_size = 16 if config.small else 75
        self.features = nn.Sequential(
            OrderedDict[str, nn.Module](
                **stem(in_channels, small=config.small),
                mixed5b=_module_35(192, pooled=32),
                mixed5c=_module_35(256, pooled=64),
                mixed5d=_module_35(288, pooled=64),
                mixed6a=_reduction_35(padding),
                mixed6b=_module_17(128),
                mixed6c=_module_17(160),
                mixed6d=_module_17(160),
                mixed6e=_module_17(192),
                mixed7a=_reduction_17(padding),
                mixed7b=_module_8(1280),
                mixed7c=_module_8(2048),
            )
        )
        self.stages = (
            Stage("features.conv2b", 64, stride),
            Stage("features.conv4a", 192, stride * 2),
            Stage("features.mixed5d", 288, stride * 4),
            Stage("features.mixed6e", 768, stride * 8),
            Stage("features.mixed7c", 2048, stride * 16),
        )
        self.auxiliary = nn.ModuleList([AuxiliaryClassifier(768, num_classes)])
        self.num_features = 2048
        self.head_dropout = nn.Dropout(0.5)
        self.head = nn.Linear(2048, num_classes)
        _initialise(self)

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) -> the maps of each of `stages`."""
        check_least_size(images, self.least_size)
        return outputs_at(self.features, [stage.name.removeprefix("features.") for stage in self.stages], images)

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 2048), the last map's average."""
        check_least_size(images, self.least_size)
        return spatial_mean(self.features(images)).flatten(1)

    def training_outputs(self, images: Tensor) -> list[tuple[float, Tensor]]:
        """The head's logits with weight 1, and the auxiliary classifier's with its weight; both (B, K)."""
        check_least_size(images, self.least_size)
        middle, last = outputs_at(self.features, ("mixed6e", "mixed7c"), images)
        logits = self.head(self.head_dropout(spatial_mean(last).flatten(1)))
        return [(1.0, logits), *((AUXILIARY_WEIGHT, classifier(middle)) for classifier in self.auxiliary)]

    def drop_auxiliary(self) -> None:
        """Remove the auxiliary classifier."""
        self.auxiliary = nn.ModuleList()


def _module_35(channels: int, pooled: int) -> Branches:
    """(B, channels, 35, 35) -> (B, 224 + pooled, 35, 35); Figure 5, with a 5x5 convolution."""
    return Branches(
        conv(channels, 64, 1),
        nn.Sequential(conv(channels, 48, 1), conv(48, 64, 5)),
        nn.Sequential(conv(channels, 64, 1), conv(64, 96, 3), conv(96, 96, 3)),
        nn.Sequential(nn.AvgPool2d(3, 1, 1), conv(channels, pooled, 1)),
    )


def _reduction_35(padding: int) -> Branches:
    """(B, 288, 35, 35) -> (B, 768, 17, 17); Figure 10."""
    return Branches(
        conv(288, 384, 3, 2, padding),
        nn.Sequential(conv(288, 64, 1), conv(64, 96, 3), conv(96, 96, 3, 2, padding)),
        nn.MaxPool2d(3, 2, padding),
    )


def _module_17(width: int) -> Branches:
    """(B, 768, 17, 17) -> (B, 768, 17, 17); Figure 6."""
    return Branches(
        conv(768, 192, 1),
        nn.Sequential(conv(768, width, 1), conv(width, width, (1, 7)), conv(width, 192, (7, 1))),
        nn.Sequential(
            conv(768, width, 1),
            conv(width, width, (7, 1)),
            conv(width, width, (1, 7)),
            conv(width, width, (7, 1)),
            conv(width, 192, (1, 7)),
        ),
        nn.Sequential(nn.AvgPool2d(3, 1, 1), conv(768, 192, 1)),
    )


def _reduction_17(padding: int) -> Branches:
    """(B, 768, 17, 17) -> (B, 1280, 8, 8)."""
    return Branches(
        nn.Sequential(conv(768, 192, 1), conv(192, 320, 3, 2, padding)),
        nn.Sequential(conv(768, 192, 1), conv(192, 192, (1, 7)), conv(192, 192, (7, 1)), conv(192, 192, 3, 2, padding)),
        nn.MaxPool2d(3, 2, padding),
    )


def _module_8(channels: int) -> Branches:
    """(B, channels, 8, 8) -> (B, 2048, 8, 8); Figure 7."""
    return Branches(
        conv(channels, 320, 1),
        nn.Sequential(conv(channels, 384, 1), _split(384)),
        nn.Sequential(conv(channels, 448, 1), conv(448, 384, 3), _split(384)),
        nn.Sequential(nn.AvgPool2d(3, 1, 1), conv(channels, 192, 1)),
    )


def _split(channels: int) -> Branches:
    """1x3 beside 3x1: the expanded outputs of Figure 7."""
    return Branches(conv(channels, channels, (1, 3)), conv(channels, channels, (3, 1)))


def _initialise(model: InceptionV3) -> None:
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            std = {"auxiliary.0.conv1.conv": 0.01, "auxiliary.0.head": 0.001}.get(name, 0.1)
            nn.init.trunc_normal_(module.weight, std=std, a=-2.0, b=2.0)


RENAMING = (
    (r"^Conv2d_(\d\w)_\dx\d\.", r"features.conv\1."),
    (r"^Mixed_(\d\w)\.", r"features.mixed\1."),
    (r"^AuxLogits\.", "auxiliary.0."),
    (r"^(auxiliary\.0)\.fc\.", r"\1.head."),
    (r"^fc\.", "head."),
    (r"\.bn\.", ".norm."),
    # The reductions have no 1x1 branch in front: their first branch is the 3x3, their second the longer one.
    (r"^(features\.mixed6a)\.branch3x3\.", r"\1.branch0."),
    (r"^(features\.mixed7a)\.branch3x3_", r"\1.branch0_"),
    (r"^(features\.mixed[67]a)\.branch(?:3x3dbl|7x7x3)_", r"\1.branch1_"),
    (r"\.branch1x1\.", ".branch0."),
    (r"\.branch(?:5x5|7x7|3x3)_", ".branch1_"),
    (r"\.branch(?:3x3|7x7)dbl_", ".branch2_"),
    (r"\.branch_pool\.", ".branch3.1."),
    # Steps count from 1, with a and b side by side.
    (r"\.(branch\d)_1\.", r".\1.0."),
    (r"\.(branch\d)_2\.", r".\1.1."),
    (r"\.(branch\d)_3\.", r".\1.2."),
    (r"\.(branch\d)_4\.", r".\1.3."),
    (r"\.(branch\d)_5\.", r".\1.4."),
    (r"\.(branch\d)_2a\.", r".\1.1.branch0."),
    (r"\.(branch\d)_2b\.", r".\1.1.branch1."),
    (r"\.(branch\d)_3a\.", r".\1.2.branch0."),
    (r"\.(branch\d)_3b\.", r".\1.2.branch1."),
)
"""torchvision's names, which timm keeps."""

ENTRY = Family(
    title="Rethinking the Inception Architecture for Computer Vision",
    paper="https://arxiv.org/abs/1512.00567",
    year=2015,
    model=InceptionV3,
    variants={
        "inception_v3": Variant(
            config=InceptionV3Config(),
            num_params=23_834_568,
            num_macs=5_713_000_000,
            top1=77.294,
            source="torchvision IMAGENET1K_V1, its table of models",
            image_size=299,
        ),
    },
    fit=fit_small,
    renamings={"torchvision": RENAMING, "timm": RENAMING},
)
