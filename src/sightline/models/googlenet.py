"""GoogLeNet: Inception modules look at several scales at once, and 1x1 convolutions make that cheap.

Paper: Going Deeper with Convolutions (Szegedy et al., 2014), https://arxiv.org/abs/1409.4842

Table 1 gives the network, Figure 2b its module: 1x1, 3x3 and 5x5 convolutions and a max pool side by side, the
larger ones behind 1x1 convolutions that reduce the channels. Two auxiliary classifiers on modules 4a and 4d push
gradient into the middle while training; their losses count 0.3 (section 5).

`googlenet` is torchvision's network, whose weights are the published ones. It differs from the paper:
- Batch norm (which came a year later) instead of biases and response normalisation.
- The 5x5 branch is 3x3, a slip that the weights were trained with.
- The max pool in front of module 5a is 2x2, not 3x3.
- Dropout 0.2 in front of the head, not 0.4.

`googlenet_2014` is the paper's network in these four points. It differs from it:
- The response normalisation has AlexNet's constants, as the paper gives none.

Both: the auxiliary classifiers average to a 4x4 grid, whatever the size of the map, as torchvision; the paper's
5x5 average pool of stride 3 gives 4x4 from its 14x14.

Initialisation: `googlenet` as torchvision, normal of deviation 0.01, truncated at 2. `googlenet_2014` as the BVLC
reference model (Caffe's bvlc_googlenet), the paper saying nothing: Caffe's `xavier`, which is uniform within
sqrt(3 / fan_in) (its filler.hpp), biases 0.2, and 0 in the last layer of each classifier.

torchvision's published weights set `transform_input`, which undoes ImageNet's mean and deviation: they expect
pixels normalised with mean 0.5 and std 0.5 in each channel, and Preprocess says so, not the network.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from sightline.layers.inception import Branches, conv, fit_small
from sightline.layers.local_response_norm import LocalResponseNorm
from sightline.layers.spatial_mean import spatial_mean
from sightline.layers.taps import outputs_at
from sightline.models import Classifier, Family, Stage, Variant

AUXILIARY_WEIGHT = 0.3
"""Of each auxiliary loss (section 5)."""


@dataclass(frozen=True, kw_only=True)
class GoogLeNetConfig:
    """torchvision's network, or the paper's."""

    batch_norm: bool = True
    """False: the paper's biases, response normalisation, 5x5 branch and 3x3 last pool."""
    dropout: float = 0.2
    """In front of the head."""
    small: bool = False
    """The first convolution has stride 1, for images below 128 pixels."""


class AuxiliaryClassifier(nn.Module):
    """A small classifier on a map in the middle (section 5)."""

    def __init__(self, in_channels: int, num_classes: int, *, batch_norm: bool) -> None:
        super().__init__()
        self.conv = _convolution(in_channels, 128, 1, batch_norm=batch_norm)
        self.fc = nn.Linear(128 * 4 * 4, 1024)
        self.act = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(0.7)
        self.head = nn.Linear(1024, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, K) logits."""
        x = self.conv(F.adaptive_avg_pool2d(x, 4))
        return self.head(self.dropout(self.act(self.fc(x.flatten(1)))))


class GoogLeNet(Classifier):
    """A stem, nine Inception modules on three scales, a global average pool, a linear head."""

    def __init__(self, config: GoogLeNetConfig, num_classes: int, in_channels: int) -> None:
        super().__init__()
        batch_norm = config.batch_norm
        stride = 1 if config.small else 2

        def module(in_channels: int, *widths: int) -> Branches:
            return _module(in_channels, *widths, batch_norm=batch_norm)

        norm = nn.Identity if batch_norm else LocalResponseNorm
        self.features = nn.Sequential(
            OrderedDict[str, nn.Module](
                conv1=_convolution(in_channels, 64, 7, stride, batch_norm=batch_norm),
                pool1=_pool(),
                norm1=norm(),
                conv2=_convolution(64, 64, 1, batch_norm=batch_norm),
                conv3=_convolution(64, 192, 3, batch_norm=batch_norm),
                norm2=norm(),
                pool2=_pool(),
                inception3a=module(192, 64, 96, 128, 16, 32, 32),
                inception3b=module(256, 128, 128, 192, 32, 96, 64),
                pool3=_pool(),
                inception4a=module(480, 192, 96, 208, 16, 48, 64),
                inception4b=module(512, 160, 112, 224, 24, 64, 64),
                inception4c=module(512, 128, 128, 256, 24, 64, 64),
                inception4d=module(512, 112, 144, 288, 32, 64, 64),
                inception4e=module(528, 256, 160, 320, 32, 128, 128),
                pool4=nn.MaxPool2d(2, 2, ceil_mode=True) if batch_norm else _pool(),
                inception5a=module(832, 256, 160, 320, 32, 128, 128),
                inception5b=module(832, 384, 192, 384, 48, 128, 128),
            )
        )
        self.stages = (
            Stage("features.conv1", 64, stride),
            Stage("features.conv3", 192, stride * 2),
            Stage("features.inception3b", 480, stride * 4),
            Stage("features.inception4e", 832, stride * 8),
            Stage("features.inception5b", 1024, stride * 16),
        )
        self.auxiliary = nn.ModuleList(
            AuxiliaryClassifier(channels, num_classes, batch_norm=batch_norm) for channels in (512, 528)
        )
        self.num_features = 1024
        self.head_dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(1024, num_classes)
        self.apply(_initialise_truncated if batch_norm else _initialise_as_caffe)

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) -> the maps of each of `stages`, in front of the max pools and at the end."""
        return outputs_at(self.features, [stage.name.removeprefix("features.") for stage in self.stages], images)

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 1024), the last map's average."""
        return spatial_mean(self.features(images)).flatten(1)

    def training_outputs(self, images: Tensor) -> list[tuple[float, Tensor]]:
        """The head's logits with weight 1, and each auxiliary classifier's with its weight; all (B, K)."""
        *middle, last = outputs_at(self.features, ("inception4a", "inception4d", "inception5b"), images)
        logits = self.head(self.head_dropout(spatial_mean(last).flatten(1)))
        # After drop_auxiliary() there is no classifier left to go with the maps.
        auxiliary = [classifier(x) for classifier, x in zip(self.auxiliary, middle, strict=False)]
        return [(1.0, logits), *((AUXILIARY_WEIGHT, output) for output in auxiliary)]

    def drop_auxiliary(self) -> None:
        """Remove the auxiliary classifiers."""
        self.auxiliary = nn.ModuleList()


def _convolution(in_channels: int, out_channels: int, kernel: int, stride: int = 1, *, batch_norm: bool) -> nn.Module:
    """A convolution with ReLU, and batch norm or a bias in between."""
    if batch_norm:
        return conv(in_channels, out_channels, kernel, stride)
    layer = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2)
    return nn.Sequential(OrderedDict[str, nn.Module](conv=layer, act=nn.ReLU(inplace=True)))


def _module(in_channels: int, *widths: int, batch_norm: bool) -> Branches:
    """Figure 2b. `widths` are the last six columns of Table 1's row: #1x1, #3x3 reduce, #3x3, #5x5 reduce, ..."""
    ones, reduce3, threes, reduce5, fives, pooled = widths
    return Branches(
        _convolution(in_channels, ones, 1, batch_norm=batch_norm),
        nn.Sequential(
            _convolution(in_channels, reduce3, 1, batch_norm=batch_norm),
            _convolution(reduce3, threes, 3, batch_norm=batch_norm),
        ),
        nn.Sequential(
            _convolution(in_channels, reduce5, 1, batch_norm=batch_norm),
            _convolution(reduce5, fives, 3 if batch_norm else 5, batch_norm=batch_norm),
        ),
        nn.Sequential(nn.MaxPool2d(3, 1, 1), _convolution(in_channels, pooled, 1, batch_norm=batch_norm)),
    )


def _pool() -> nn.MaxPool2d:
    """Rounding up gives Table 1's sizes."""
    return nn.MaxPool2d(3, 2, ceil_mode=True)


def _initialise_truncated(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.01, a=-2.0, b=2.0)


def _initialise_as_caffe(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        bound = math.sqrt(3 / module.weight[0].numel())  # fan_in alone; xavier_uniform_ averages it with fan_out
        nn.init.uniform_(module.weight, -bound, bound)
        assert module.bias is not None
        nn.init.constant_(module.bias, 0.2)
    if isinstance(module, AuxiliaryClassifier | GoogLeNet):  # after the layers in it
        nn.init.zeros_(module.head.get_parameter("bias"))


ENTRY = Family(
    title="Going Deeper with Convolutions",
    paper="https://arxiv.org/abs/1409.4842",
    year=2014,
    model=GoogLeNet,
    variants={
        "googlenet": Variant(
            config=GoogLeNetConfig(),
            num_params=6_624_904,
            num_macs=1_498_000_000,
            top1=69.778,
            source="torchvision IMAGENET1K_V1, its table of models",
        ),
        "googlenet_2014": Variant(
            config=GoogLeNetConfig(batch_norm=False, dropout=0.4),
            num_params=6_998_552,
            counted_macs=1_582_671_872,
            top1=68.7,
            source="BVLC's replication bvlc_googlenet (one crop); the paper has a budget of 1.5 billion MACs, no count",
        ),
    },
    fit=fit_small,
    renamings={
        "torchvision": (
            (r"^aux1\.", "auxiliary.0."),
            (r"^aux2\.", "auxiliary.1."),
            (r"^(auxiliary\.\d)\.fc1\.", r"\1.fc."),
            (r"^(auxiliary\.\d)\.fc2\.", r"\1.head."),
            (r"^fc\.", "head."),
            (r"^(conv|inception)", r"features.\1"),
            (r"\.bn\.", ".norm."),
            (r"\.branch1\.", ".branch0."),  # ours count from 0; upwards, so that none is renamed twice
            (r"\.branch2\.", ".branch1."),
            (r"\.branch3\.", ".branch2."),
            (r"\.branch4\.", ".branch3."),
        ),
    },
)
