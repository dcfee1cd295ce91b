"""AlexNet: the deep convolutional network that won ImageNet 2012, and with it the field.

Paper: ImageNet Classification with Deep Convolutional Neural Networks (Krizhevsky et al., 2012),
https://papers.nips.cc/paper/4824-imagenet-classification-with-deep-convolutional-neural-networks
Also: One weird trick for parallelizing convolutional neural networks (Krizhevsky, 2014),
https://arxiv.org/abs/1404.5997, whose single tower `alexnet` is.

Five convolutions, three overlapping max pools, three fully connected layers (Figure 2). ReLU is its
activation; saturating ones are what section 3.1 measures it against.

`alexnet_2012` is the paper's network: convolutions 2, 4 and 5 see half of the channels each (two GPUs, hence
groups of 2), response normalisation after 1 and 2. Its parameters, layer by layer: 34,944 + 307,456 + 885,120
+ 663,936 + 442,624 + 37,752,832 + 16,781,312 + 4,097,000 = 60,965,224; the paper says "60 million".

Differs from the papers:
- Images have 224 pixels and the first convolution a border of 2. The 2012 paper says 224 without a border,
  which can't give its 55x55 maps.
- `alexnet` has 256 channels in convolution 4, as torchvision; the 2014 paper says 384.
- Dropout follows layers 6 and 7 in both, as in the 2012 paper; torchvision's precedes them.

Initialisation: `alexnet_2012` as in section 5: N(0, 0.01), biases 1 in convolutions 2, 4, 5 and the hidden
fully connected layers, else 0; the first layer's kernels scaled to normalised pixels. `alexnet` as torchvision:
PyTorch's defaults.
"""

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from sightline.errors import ModelError
from sightline.layers.dense_top import DenseTop
from sightline.layers.local_response_norm import LocalResponseNorm
from sightline.layers.narrow_normal import initialise_narrow_normal
from sightline.layers.taps import outputs_at
from sightline.models import Classifier, Family, Stage, Variant


@dataclass(frozen=True, kw_only=True)
class AlexNetConfig:
    """One tower or two, and how the first layers meet the image."""

    channels: tuple[int, int, int, int, int]
    """Of the five convolutions."""
    two_towers: bool = False
    """Groups of 2 in convolutions 2, 4 and 5, response normalisation, and the initial values of the 2012 paper."""
    kernel: int = 11
    """Of the first convolution."""
    stride: int = 4
    """Of the first convolution."""
    grid: int = 6
    """Side of the map that the fully connected layers see."""

    @property
    def padding(self) -> int:
        """Of the first convolution: 2 gives 55x55 maps from 224 pixels; smaller kernels keep the border."""
        return 2 if self.kernel == 11 else self.kernel // 2


class AlexNet(Classifier):
    """Five convolutions, a pooled grid, two hidden layers of 4096 units, a linear head."""

    def __init__(self, config: AlexNetConfig, num_classes: int, in_channels: int) -> None:
        super().__init__()
        width = (in_channels, *config.channels)
        groups = 2 if config.two_towers else 1
        norm = LocalResponseNorm if config.two_towers else nn.Identity
        self.features = nn.Sequential(
            OrderedDict[str, nn.Module](
                conv1=nn.Conv2d(width[0], width[1], config.kernel, config.stride, config.padding),
                act1=nn.ReLU(inplace=True),
                norm1=norm(),
                pool1=nn.MaxPool2d(3, 2),
                conv2=nn.Conv2d(width[1], width[2], 5, padding=2, groups=groups),
                act2=nn.ReLU(inplace=True),
                norm2=norm(),
                pool2=nn.MaxPool2d(3, 2),
                conv3=nn.Conv2d(width[2], width[3], 3, padding=1),
                act3=nn.ReLU(inplace=True),
                conv4=nn.Conv2d(width[3], width[4], 3, padding=1, groups=groups),
                act4=nn.ReLU(inplace=True),
                conv5=nn.Conv2d(width[4], width[5], 3, padding=1, groups=groups),
                act5=nn.ReLU(inplace=True),
                pool5=nn.MaxPool2d(3, 2),
            )
        )
        self.top = DenseTop(width[5], config.grid)
        self.stages = (
            Stage("features.norm1", width[1], config.stride),
            Stage("features.norm2", width[2], config.stride * 2),
            Stage("features.act5", width[5], config.stride * 4),
        )
        self.num_features = 4096
        self.head_dropout = nn.Dropout(0.5)
        self.head = nn.Linear(4096, num_classes)
        if config.two_towers:
            _initialise(self)

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) -> the maps in front of the three max pools."""
        return outputs_at(self.features, ("norm1", "norm2", "act5"), images)

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 4096), layer 7."""
        return self.top(self.features(images))


def _initialise(model: AlexNet) -> None:
    initialise_narrow_normal(model)
    for layer in (model.features.conv2, model.features.conv4, model.features.conv5, model.top.fc6, model.top.fc7):
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        assert layer.bias is not None
        nn.init.ones_(layer.bias)


def _fit(config: Any, image_size: int) -> tuple[Any, str]:
    """Below 128 pixels the first layer must not reduce by 4, and the last map may be smaller than 6x6."""
    if image_size < 15:
        raise ModelError(
            f"Images of {image_size} pixels are too small for AlexNet, which halves them three times and takes "
            "15 or more. Set data.image_size (data.resize, too, if it is less) or --image-size to at least 15."
        )
    kernel, stride = (11, 4) if image_size >= 128 else (7, 2) if image_size >= 64 else (5, 1)
    fitted = replace(config, kernel=kernel, stride=stride)
    side = (image_size + 2 * fitted.padding - kernel) // stride + 1
    for _ in range(3):
        side = (side - 3) // 2 + 1
    fitted = replace(fitted, grid=min(6, side))
    changes: list[str] = []
    if kernel != 11:
        changes.append(f"a {kernel}x{kernel} convolution of stride {stride} replaces the 11x11 of stride 4")
    if fitted.grid != 6:
        changes.append(f"the fully connected layers see a {fitted.grid}x{fitted.grid} map instead of 6x6")
    return fitted, ", and ".join(changes)


ENTRY = Family(
    title="ImageNet Classification with Deep Convolutional Neural Networks",
    paper="https://papers.nips.cc/paper/4824-imagenet-classification-with-deep-convolutional-neural-networks",
    year=2012,
    model=AlexNet,
    variants={
        "alexnet": Variant(
            config=AlexNetConfig(channels=(64, 192, 384, 256, 256)),
            num_params=61_100_840,
            num_macs=714_000_000,
            top1=56.522,
            source="torchvision IMAGENET1K_V1, its table of models",
        ),
        "alexnet_2012": Variant(
            config=AlexNetConfig(channels=(96, 256, 384, 384, 256), two_towers=True),
            num_params=60_965_224,
            num_macs=724_000_000,
            top1=59.3,
            source="paper, Table 2, '1 CNN' (ten crops); MACs: Sze et al. 2017 (arXiv 1703.09039), Table II",
        ),
    },
    fit=_fit,
    renamings={
        "torchvision": (
            (r"^features\.0\.", "features.conv1."),
            (r"^features\.3\.", "features.conv2."),
            (r"^features\.6\.", "features.conv3."),
            (r"^features\.8\.", "features.conv4."),
            (r"^features\.10\.", "features.conv5."),
            (r"^classifier\.1\.", "top.fc6."),
            (r"^classifier\.4\.", "top.fc7."),
            (r"^classifier\.6\.", "head."),
        ),
    },
)
