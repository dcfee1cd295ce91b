"""Inception-ResNet-v2: Inception modules learn residuals, and train faster for it.

Paper: Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning (Szegedy et al., 2016),
https://arxiv.org/abs/1602.07261

A stem, then residual blocks on three scales (Figure 15), each a cheap Inception module whose outputs a 1x1
convolution without activation brings to the map's channels (Figures 16, 17 and 19). Residuals are scaled down
before they are added, or training such wide networks dies (section 3.3).

Differs from the paper, as the authors' published code and weights do, and timm with them:
- There are 10, 20 and 10 blocks; Figure 15 draws 5, 10 and 5.
- The stem is Inception-v3's with one more Inception module; the paper draws Inception-v4's.
- The maps have 320, 1088 and 2080 channels; the paper's figures say 384, 1154 and 2048.
- Residuals are scaled by 0.17, 0.1 and 0.2 on the three scales, where the paper says 0.1 to 0.3, and by 1 in the
  last block.
- The last block adds its residual without ReLU, and a 1x1 convolution to 1536 channels follows.

Dropout in front of the head is 0.2 as in the paper; timm has none.
Initialisation: as the authors' code, normal truncated at two deviations, of variance 2 / fan-in.
"""

from collections import OrderedDict
from dataclasses import dataclass

from torch import Tensor, nn

from sightline.layers.drop_path import DropPath
from sightline.layers.image_size import check_least_size
from sightline.layers.inception import (
    Branches,
    conv,
    fit_small,
    initialise_truncated_he,
    stem,
)
from sightline.layers.spatial_mean import spatial_mean
from sightline.layers.taps import outputs_at
from sightline.models import Classifier, Family, Stage, Variant


@dataclass(frozen=True, kw_only=True)
class InceptionResNetV2Config:
    """The native form, or one for small images."""

    small: bool = False
    """The stem halves the image twice instead of three times, and no layer crops the border."""


class ResidualBlock(nn.Module):
    """x + scale * project(branches(x)), then ReLU unless it is the network's last."""

    def __init__(self, branches: Branches, joined: int, channels: int, scale: float, *, last: bool = False) -> None:
        super().__init__()
        self.branches = branches
        self.project = nn.Conv2d(joined, channels, 1)
        self.scale = scale
        self.drop_path = DropPath()
        self.act = nn.Identity() if last else nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        residual = self.project(self.branches(x)) * self.scale
        return self.act(x + self.drop_path(residual))


class InceptionResNetV2(Classifier):
    """A stem, forty residual Inception blocks on three scales, a global average pool, a linear head."""

    def __init__(self, config: InceptionResNetV2Config, num_classes: int, in_channels: int) -> None:
        super().__init__()
        stride, padding = (1, 1) if config.small else (2, 0)
        self.least_size = 16 if config.small else 75
        self.features = nn.Sequential(
            OrderedDict[str, nn.Module](
                **stem(in_channels, small=config.small),
                mixed5b=_first_module(),
                blocks35=nn.Sequential(*(_block_35() for _ in range(10))),
                mixed6a=_reduction_35(padding),
                blocks17=nn.Sequential(*(_block_17() for _ in range(20))),
                mixed7a=_reduction_17(padding),
                blocks8=nn.Sequential(*(_block_8() for _ in range(9)), _block_8(last=True)),
                conv7b=conv(2080, 1536, 1),
            )
        )
        self.stages = (
            Stage("features.conv2b", 64, stride),
            Stage("features.conv4a", 192, stride * 2),
            Stage("features.blocks35", 320, stride * 4),
            Stage("features.blocks17", 1088, stride * 8),
            Stage("features.conv7b", 1536, stride * 16),
        )
        self.num_features = 1536
        self.head_dropout = nn.Dropout(0.2)
        self.head = nn.Linear(1536, num_classes)
        self.apply(initialise_truncated_he)

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) -> the maps of each of `stages`."""
        check_least_size(images, self.least_size)
        return outputs_at(self.features, [stage.name.removeprefix("features.") for stage in self.stages], images)

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 1536), the last map's average."""
        check_least_size(images, self.least_size)
        return spatial_mean(self.features(images)).flatten(1)


def _first_module() -> Branches:
    """(B, 192, 35, 35) -> (B, 320, 35, 35), without a residual."""
    return Branches(
        conv(192, 96, 1),
        nn.Sequential(conv(192, 48, 1), conv(48, 64, 5)),
        nn.Sequential(conv(192, 64, 1), conv(64, 96, 3), conv(96, 96, 3)),
        nn.Sequential(nn.AvgPool2d(3, 1, 1, count_include_pad=False), conv(192, 64, 1)),
    )


def _block_35() -> ResidualBlock:
    """(B, 320, 35, 35) -> (B, 320, 35, 35); Figure 16."""
    branches = Branches(
        conv(320, 32, 1),
        nn.Sequential(conv(320, 32, 1), conv(32, 32, 3)),
        nn.Sequential(conv(320, 32, 1), conv(32, 48, 3), conv(48, 64, 3)),
    )
    return ResidualBlock(branches, 128, 320, scale=0.17)


def _reduction_35(padding: int) -> Branches:
    """(B, 320, 35, 35) -> (B, 1088, 17, 17); Figure 7."""
    return Branches(
        conv(320, 384, 3, 2, padding),
        nn.Sequential(conv(320, 256, 1), conv(256, 256, 3), conv(256, 384, 3, 2, padding)),
        nn.MaxPool2d(3, 2, padding),
    )


def _block_17() -> ResidualBlock:
    """(B, 1088, 17, 17) -> (B, 1088, 17, 17); Figure 17."""
    branches = Branches(
        conv(1088, 192, 1),
        nn.Sequential(conv(1088, 128, 1), conv(128, 160, (1, 7)), conv(160, 192, (7, 1))),
    )
    return ResidualBlock(branches, 384, 1088, scale=0.1)


def _reduction_17(padding: int) -> Branches:
    """(B, 1088, 17, 17) -> (B, 2080, 8, 8); Figure 18."""
    return Branches(
        nn.Sequential(conv(1088, 256, 1), conv(256, 384, 3, 2, padding)),
        nn.Sequential(conv(1088, 256, 1), conv(256, 288, 3, 2, padding)),
        nn.Sequential(conv(1088, 256, 1), conv(256, 288, 3), conv(288, 320, 3, 2, padding)),
        nn.MaxPool2d(3, 2, padding),
    )


def _block_8(*, last: bool = False) -> ResidualBlock:
    """(B, 2080, 8, 8) -> (B, 2080, 8, 8); Figure 19."""
    branches = Branches(
        conv(2080, 192, 1),
        nn.Sequential(conv(2080, 192, 1), conv(192, 224, (1, 3)), conv(224, 256, (3, 1))),
    )
    return ResidualBlock(branches, 448, 2080, scale=1.0 if last else 0.2, last=last)


ENTRY = Family(
    title="Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning",
    paper="https://arxiv.org/abs/1602.07261",
    year=2016,
    model=InceptionResNetV2,
    variants={
        "inception_resnet_v2": Variant(
            config=InceptionResNetV2Config(),
            num_params=55_843_464,
            num_macs=13_180_000_000,
            top1=80.434,
            source="timm's results-imagenet.csv and benchmark-infer tables, inception_resnet_v2.tf_in1k",
            image_size=299,
        ),
    },
    fit=fit_small,
    renamings={
        "timm": (
            (r"\.conv2d\.", ".project."),
            (r"^conv2d_(\d\w)\.", r"features.conv\1."),
            (r"^mixed_(\d\w)\.", r"features.mixed\1."),
            (r"^repeat\.", "features.blocks35."),
            (r"^repeat_1\.", "features.blocks17."),
            (r"^repeat_2\.", "features.blocks8."),
            (r"^block8\.", "features.blocks8.9."),
            (r"^(features\.blocks\d+\.\d+)\.branch", r"\1.branches.branch"),
            (r"\.bn\.", ".norm."),
            (r"^classif\.", "head."),
        ),
    },
)
