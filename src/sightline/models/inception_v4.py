"""Inception-v4: the Inception idea made uniform, free of what earlier versions kept for want of memory.

Paper: Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning (Szegedy et al., 2016),
https://arxiv.org/abs/1602.07261

Figure 9 gives the network: a stem that already branches (Figure 3), then 4, 7 and 3 modules at 35x35, 17x17
and 8x8 (Figures 4 to 6), with reductions between them (Figures 7 and 8).

Differs from the paper:
- In the 17x17 module the longer branch ends 7x1, 1x7, 7x1, 1x7, as in the authors' published code and weights;
  Figure 5 draws 1x7 first.
- Dropout in front of the head is 0.2 as in the paper; timm has none.
- The authors' code can add an auxiliary classifier, which the paper doesn't mention; there is none here.

Initialisation: as the authors' code, normal truncated at two deviations, of variance 2 / fan-in.
"""

from collections import OrderedDict
from dataclasses import dataclass

from torch import Tensor, nn

from sightline.layers.image_size import check_least_size
from sightline.layers.inception import (
    Branches,
    conv,
    fit_small,
    initialise_truncated_he,
)
from sightline.layers.spatial_mean import spatial_mean
from sightline.layers.taps import outputs_at
from sightline.models import Classifier, Family, Stage, Variant


@dataclass(frozen=True, kw_only=True)
class InceptionV4Config:
    """The native form, or one for small images."""

    small: bool = False
    """The stem halves the image twice instead of three times, and no layer crops the border."""


class InceptionV4(Classifier):
    """A branching stem, fourteen Inception modules on three scales, a global average pool, a linear head."""

    def __init__(self, config: InceptionV4Config, num_classes: int, in_channels: int) -> None:
        super().__init__()
        stride, padding = (1, 1) if config.small else (2, 0)
        self.least_size = 16 if config.small else 75
        layers = {
            **_stem(in_channels, small=config.small),
            **{f"inception_a{index}": _inception_a() for index in range(4)},
            "reduction_a": _reduction_a(padding),
            **{f"inception_b{index}": _inception_b() for index in range(7)},
            "reduction_b": _reduction_b(padding),
            **{f"inception_c{index}": _inception_c() for index in range(3)},
        }
        self.features = nn.Sequential(OrderedDict(layers))
        self.stages = (
            Stage("features.stem2", 64, stride),
            Stage("features.stem4", 192, stride * 2),
            Stage("features.inception_a3", 384, stride * 4),
            Stage("features.inception_b6", 1024, stride * 8),
            Stage("features.inception_c2", 1536, stride * 16),
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


def _stem(in_channels: int, *, small: bool) -> dict[str, nn.Module]:
    """(B, C, 299, 299) -> (B, 384, 35, 35); Figure 3."""
    stride, padding = (1, 1) if small else (2, 0)
    return {
        "stem0": conv(in_channels, 32, 3, stride, padding),
        "stem1": conv(32, 32, 3, 1, padding),
        "stem2": conv(32, 64, 3),
        "stem3": Branches(nn.MaxPool2d(3, 2, padding), conv(64, 96, 3, 2, padding)),
        "stem4": Branches(
            nn.Sequential(conv(160, 64, 1), conv(64, 96, 3, 1, padding)),
            nn.Sequential(conv(160, 64, 1), conv(64, 64, (1, 7)), conv(64, 64, (7, 1)), conv(64, 96, 3, 1, padding)),
        ),
        "stem5": Branches(conv(192, 192, 3, 2, padding), nn.MaxPool2d(3, 2, padding)),
    }


def _inception_a() -> Branches:
    """(B, 384, 35, 35) -> (B, 384, 35, 35); Figure 4."""
    return Branches(
        conv(384, 96, 1),
        nn.Sequential(conv(384, 64, 1), conv(64, 96, 3)),
        nn.Sequential(conv(384, 64, 1), conv(64, 96, 3), conv(96, 96, 3)),
        _pooled(384, 96),
    )


def _reduction_a(padding: int) -> Branches:
    """(B, 384, 35, 35) -> (B, 1024, 17, 17); Figure 7."""
    return Branches(
        conv(384, 384, 3, 2, padding),
        nn.Sequential(conv(384, 192, 1), conv(192, 224, 3), conv(224, 256, 3, 2, padding)),
        nn.MaxPool2d(3, 2, padding),
    )


def _inception_b() -> Branches:
    """(B, 1024, 17, 17) -> (B, 1024, 17, 17); Figure 5."""
    return Branches(
        conv(1024, 384, 1),
        nn.Sequential(conv(1024, 192, 1), conv(192, 224, (1, 7)), conv(224, 256, (7, 1))),
        nn.Sequential(
            conv(1024, 192, 1),
            conv(192, 192, (7, 1)),
            conv(192, 224, (1, 7)),
            conv(224, 224, (7, 1)),
            conv(224, 256, (1, 7)),
        ),
        _pooled(1024, 128),
    )


def _reduction_b(padding: int) -> Branches:
    """(B, 1024, 17, 17) -> (B, 1536, 8, 8); Figure 8."""
    return Branches(
        nn.Sequential(conv(1024, 192, 1), conv(192, 192, 3, 2, padding)),
        nn.Sequential(
            conv(1024, 256, 1), conv(256, 256, (1, 7)), conv(256, 320, (7, 1)), conv(320, 320, 3, 2, padding)
        ),
        nn.MaxPool2d(3, 2, padding),
    )


def _inception_c() -> Branches:
    """(B, 1536, 8, 8) -> (B, 1536, 8, 8); Figure 6."""
    return Branches(
        conv(1536, 256, 1),
        nn.Sequential(conv(1536, 384, 1), _split(384, 256)),
        nn.Sequential(conv(1536, 384, 1), conv(384, 448, (3, 1)), conv(448, 512, (1, 3)), _split(512, 256)),
        _pooled(1536, 256),
    )


def _split(in_channels: int, out_channels: int) -> Branches:
    """1x3 beside 3x1 over the same map."""
    return Branches(conv(in_channels, out_channels, (1, 3)), conv(in_channels, out_channels, (3, 1)))


def _pooled(in_channels: int, out_channels: int) -> nn.Sequential:
    """The average pool branch; at borders it averages the pixels that are there."""
    return nn.Sequential(nn.AvgPool2d(3, 1, 1, count_include_pad=False), conv(in_channels, out_channels, 1))


LAYERS = (
    *(f"stem{index}" for index in range(6)),
    *(f"inception_a{index}" for index in range(4)),
    "reduction_a",
    *(f"inception_b{index}" for index in range(7)),
    "reduction_b",
    *(f"inception_c{index}" for index in range(3)),
)
"""By their place in timm's network, which numbers them."""

ENTRY = Family(
    title="Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning",
    paper="https://arxiv.org/abs/1602.07261",
    year=2016,
    model=InceptionV4,
    variants={
        "inception_v4": Variant(
            config=InceptionV4Config(),
            num_params=42_679_816,
            num_macs=12_280_000_000,
            top1=80.144,
            source="timm's results-imagenet.csv and benchmark-infer tables, inception_v4.tf_in1k",
            image_size=299,
        ),
    },
    fit=fit_small,
    renamings={
        "timm": (
            *((rf"^features\.{index}\.", f"features.{name}.") for index, name in enumerate(LAYERS)),
            (r"^last_linear\.", "head."),
            (r"\.bn\.", ".norm."),
            (r"^(features\.stem3)\.conv\.(conv|norm)", r"\1.branch1.\2"),
            (r"^(features\.stem5)\.conv\.(conv|norm)", r"\1.branch0.\2"),
            (r"\.branch1_0\.", ".branch1.0."),
            (r"\.branch1_1a\.", ".branch1.1.branch0."),
            (r"\.branch1_1b\.", ".branch1.1.branch1."),
            (r"\.branch2_([012])\.", r".branch2.\1."),
            (r"\.branch2_3a\.", ".branch2.3.branch0."),
            (r"\.branch2_3b\.", ".branch2.3.branch1."),
        ),
    },
)
