"""ZFNet: AlexNet mended by looking at what its layers respond to.

Paper: Visualizing and Understanding Convolutional Networks (Zeiler and Fergus, 2013),
https://arxiv.org/abs/1311.2901

Figure 3 gives the network. Deconvolutions had shown AlexNet's first layer to be full of very high and very low
frequencies and its second to be aliased (section 4.1); so the first layer is 7x7 with stride 2 instead of 11x11
with stride 4, and no layer is split over two GPUs.

Its parameters, layer by layer: 14,208 + 614,656 + 885,120 + 1,327,488 + 884,992 + 37,752,832 + 16,781,312
+ 4,097,000 = 62,357,608.

Differs from the paper:
- Figure 3's sizes (224, 110, 55, 26, 13, 6) leave the borders open: here the first convolution has a border of 1,
  and the first two pools round up.
- The paper renormalises first-layer filters that grow too large during training (section 3); this doesn't.
- Response normalisation follows pooling as in Figure 3; its constants are AlexNet's, as the paper gives none.

Initialisation: N(0, 0.01), biases 0; the first layer's kernels scaled to normalised pixels. Section 3 says that
weights "are initialized to 10^-2", and equal weights would never part.
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

NATIVE_STRIDES = (2, 2)


@dataclass(frozen=True, kw_only=True)
class ZFNetConfig:
    """How the first two layers meet the image."""

    strides: tuple[int, int] = NATIVE_STRIDES
    """Of the first and second convolution."""
    grid: int = 6
    """Side of the map that the fully connected layers see."""

    @property
    def padding(self) -> tuple[int, int]:
        """Of the first and second convolution: Figure 3's, or what keeps the border of small images."""
        return (1, 0) if self.strides == NATIVE_STRIDES else (3, 2)


class ZFNet(Classifier):
    """Figure 3: five convolutions, a pooled grid, two hidden layers of 4096 units, a linear head."""

    def __init__(self, config: ZFNetConfig, num_classes: int, in_channels: int) -> None:
        super().__init__()
        stride, padding = config.strides, config.padding
        self.features = nn.Sequential(
            OrderedDict[str, nn.Module](
                conv1=nn.Conv2d(in_channels, 96, 7, stride[0], padding[0]),
                act1=nn.ReLU(inplace=True),
                pool1=nn.MaxPool2d(3, 2, ceil_mode=True),
                norm1=LocalResponseNorm(),
                conv2=nn.Conv2d(96, 256, 5, stride[1], padding[1]),
                act2=nn.ReLU(inplace=True),
                pool2=nn.MaxPool2d(3, 2, ceil_mode=True),
                norm2=LocalResponseNorm(),
                conv3=nn.Conv2d(256, 384, 3, padding=1),
                act3=nn.ReLU(inplace=True),
                conv4=nn.Conv2d(384, 384, 3, padding=1),
                act4=nn.ReLU(inplace=True),
                conv5=nn.Conv2d(384, 256, 3, padding=1),
                act5=nn.ReLU(inplace=True),
                pool5=nn.MaxPool2d(3, 2),
            )
        )
        self.top = DenseTop(256, config.grid)
        second = stride[0] * 2 * stride[1]
        self.stages = (
            Stage("features.act1", 96, stride[0]),
            Stage("features.act2", 256, second),
            Stage("features.act5", 256, second * 2),
        )
        self.num_features = 4096
        self.head_dropout = nn.Dropout(0.5)
        self.head = nn.Linear(4096, num_classes)
        initialise_narrow_normal(self)

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) -> the maps in front of the three max pools."""
        return outputs_at(self.features, ("act1", "act2", "act5"), images)

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 4096), layer 7."""
        return self.top(self.features(images))


def _fit(config: Any, image_size: int) -> tuple[Any, str]:
    """Below 128 pixels the convolutions must not halve the image too, and the last map may be smaller than 6x6."""
    if image_size < 12:
        raise ModelError(
            f"Images of {image_size} pixels are too small for ZFNet, which halves them three times and takes "
            "12 or more. Set data.image_size (data.resize, too, if it is less) or --image-size to at least 12."
        )
    strides = NATIVE_STRIDES if image_size >= 128 else (2, 1) if image_size >= 64 else (1, 1)
    fitted = replace(config, strides=strides)
    side = image_size
    for kernel, stride, padding in zip((7, 5), strides, fitted.padding, strict=True):
        side = (side + 2 * padding - kernel) // stride + 1
        side = -(-(side - 3) // 2) + 1  # the pools that round up
    fitted = replace(fitted, grid=min(6, (side - 3) // 2 + 1))
    changes: list[str] = []
    if strides != NATIVE_STRIDES:
        changes.append(f"the first two convolutions have strides {strides[0]} and {strides[1]} instead of 2 and 2")
    if fitted.grid != 6:
        changes.append(f"the fully connected layers see a {fitted.grid}x{fitted.grid} map instead of 6x6")
    return fitted, ", and ".join(changes)


ENTRY = Family(
    title="Visualizing and Understanding Convolutional Networks",
    paper="https://arxiv.org/abs/1311.2901",
    year=2013,
    model=ZFNet,
    variants={
        "zfnet": Variant(
            config=ZFNetConfig(),
            num_params=62_357_608,
            counted_macs=1_168_032_896,
            top1=61.6,
            source="paper, Table 2, '1 convnet as per Fig. 3' (ten crops); nobody published its MACs",
        ),
    },
    fit=_fit,
)
