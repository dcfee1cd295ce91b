from collections.abc import Callable
from functools import partial

import pytest
import timm
import torch
import torchvision
from reference import assert_same_outputs, with_reference
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import ModelError
from sightline.layers.drop_path import DropPath
from sightline.models import Classifier, create_model
from sightline.models.efficientnet import (
    BASELINE,
    ENTRY,
    EfficientNet,
    EfficientNetConfig,
    MBConv,
    SqueezeExcitation,
    StageConfig,
    TensorFlowConvNormAct,
    scale,
)

CHANNELS = {  # stem, seven stages, 1x1 convolution: the layer tables of timm and torchvision
    "efficientnet_b1": (32, 16, 24, 40, 80, 112, 192, 320, 1280),
    "efficientnet_b2": (32, 16, 24, 48, 88, 120, 208, 352, 1408),
    "efficientnet_b3": (40, 24, 32, 48, 96, 136, 232, 384, 1536),
    "efficientnet_b4": (48, 24, 32, 56, 112, 160, 272, 448, 1792),
    "efficientnet_b5": (48, 24, 40, 64, 128, 176, 304, 512, 2048),
    "efficientnet_b6": (56, 32, 40, 72, 144, 200, 344, 576, 2304),
    "efficientnet_b7": (64, 32, 48, 80, 160, 224, 384, 640, 2560),
    "efficientnet_b8": (72, 32, 56, 88, 176, 248, 424, 704, 2816),
}
DEPTHS = {
    "efficientnet_b1": (2, 3, 3, 4, 4, 5, 2),
    "efficientnet_b2": (2, 3, 3, 4, 4, 5, 2),
    "efficientnet_b3": (2, 3, 3, 5, 5, 6, 2),
    "efficientnet_b4": (2, 4, 4, 6, 6, 8, 2),
    "efficientnet_b5": (3, 5, 5, 7, 7, 9, 3),
    "efficientnet_b6": (3, 6, 6, 8, 8, 11, 3),
    "efficientnet_b7": (4, 7, 7, 10, 10, 13, 4),
    "efficientnet_b8": (4, 8, 8, 11, 11, 15, 4),
}
MULTIPLIERS = {  # width, depth, resolution: the authors' efficientnet_builder.py
    "efficientnet_b1": (1.0, 1.1, 240),
    "efficientnet_b2": (1.1, 1.2, 260),
    "efficientnet_b3": (1.2, 1.4, 300),
    "efficientnet_b4": (1.4, 1.8, 380),
    "efficientnet_b5": (1.6, 2.2, 456),
    "efficientnet_b6": (1.8, 2.6, 528),
    "efficientnet_b7": (2.0, 3.1, 600),
    "efficientnet_b8": (2.2, 3.6, 672),
}


def _images(size: int, batch_size: int = 1) -> Tensor:
    return torch.randn(batch_size, 3, size, size, generator=torch.Generator().manual_seed(1))


def _with_reference(name: str, build: Callable[[], nn.Module], library: str) -> tuple[Classifier, nn.Module]:
    """As `with_reference`, with residual branches so small that dozens of them don't pile up to millions."""
    ours, reference = with_reference(name, build, library)
    with torch.no_grad():
        for block in ours.modules():
            if isinstance(block, MBConv) and block.has_shortcut:
                block.project.norm.weight.mul_(0.3)  # the reference's too: they share their memory
        ours.get_parameter("head.weight").mul_(5)
    return ours, reference


@pytest.mark.parametrize(
    "name", ["efficientnet_b0", *(pytest.param(f"efficientnet_b{n}", marks=pytest.mark.slow) for n in range(1, 8))]
)
def test_logits_features_and_maps_are_those_of_torchvision(name: str) -> None:
    ours, reference = _with_reference(name, partial(torchvision.models.get_model, name), "torchvision")
    images, maps = _images(ENTRY.variants[name].image_size), []
    for index in (1, 2, 3, 5, 7):
        stage = reference.get_submodule(f"features.{index}")
        stage.register_forward_hook(lambda _module, _inputs, output: maps.append(output))
    with torch.no_grad():
        assert_same_outputs(ours(images), reference(images))
        torch.testing.assert_close(ours.feature_maps(images), maps, rtol=1e-5, atol=1e-4)
        last = reference.get_submodule("features")(images).mean((2, 3))
        torch.testing.assert_close(ours.forward_features(images), last, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "name",
    [
        "tf_efficientnet_b0",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("efficientnet_b8", "tf_efficientnet_b8")),
    ],
)
def test_logits_features_and_maps_are_those_of_timm(name: str) -> None:
    ours, reference = _with_reference(name, partial(timm.create_model, name), "timm")
    images = _images(ENTRY.variants[name].image_size)
    with torch.no_grad():
        assert_same_outputs(ours(images), reference(images))
        last, maps = reference.forward_intermediates(images)
        torch.testing.assert_close(ours.feature_maps(images), maps, rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(ours.forward_features(images), last.mean((2, 3)), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", MULTIPLIERS)
def test_the_scaling_rule_gives_b1_to_b8_from_b0_alone(name: str) -> None:
    width, depth, resolution = MULTIPLIERS[name]
    scaled = scale(BASELINE, width=width, depth=depth)
    assert (scaled.stem_width, *(s.channels for s in scaled.stages), scaled.final_width) == CHANNELS[name]
    assert tuple(stage.depth for stage in scaled.stages) == DEPTHS[name]
    published = ENTRY.variants[name]
    assert (published.config.stages, published.config.stem_width) == (scaled.stages, scaled.stem_width)
    assert published.image_size == resolution


@pytest.mark.parametrize("factor", [0.3, 0.75, 1.05, 1.3, 2.9])
def test_scaled_channels_are_multiples_of_8_and_never_a_tenth_too_few(factor: float) -> None:
    for stage, scaled in zip(BASELINE.stages, scale(BASELINE, width=factor).stages, strict=True):
        assert scaled.channels % 8 == 0
        assert scaled.channels >= 0.9 * factor * stage.channels


def test_width_and_depth_scale_apart() -> None:
    wider, deeper = scale(BASELINE, width=2), scale(BASELINE, depth=2)
    assert [stage.depth for stage in wider.stages] == [stage.depth for stage in BASELINE.stages]
    assert [stage.channels for stage in deeper.stages] == [stage.channels for stage in BASELINE.stages]
    assert [stage.depth for stage in deeper.stages] == [2 * stage.depth for stage in BASELINE.stages]


def test_a_factor_that_is_not_positive_is_refused() -> None:
    with pytest.raises(ModelError, match="greater than 0, got 0 and 1"):
        scale(BASELINE, width=0, depth=1)


@pytest.mark.parametrize(("size", "stride"), [(7, 2), (8, 2), (9, 1)])
def test_tensorflow_puts_the_odd_pixel_of_padding_at_the_right_and_the_bottom(size: int, stride: int) -> None:
    layer = TensorFlowConvNormAct(1, 1, 3, stride, 0, activation=None).eval()
    nn.init.ones_(layer.conv.weight)
    total = layer(torch.ones(1, 1, size, size)) * (1 + layer.norm.eps) ** 0.5  # pixels under each 3x3 window
    before = 0 if (size, stride) == (8, 2) else 1  # an even size at stride 2 pads one pixel, the last
    taps = torch.tensor([sum(0 <= p * stride - before + k < size for k in range(3)) for p in range(total.shape[2])])
    assert total.shape[2] == -(-size // stride)
    torch.testing.assert_close(total[0, 0], torch.outer(taps, taps).float())


def test_the_gate_stays_between_0_and_1_whatever_the_activation() -> None:
    layer = SqueezeExcitation(8, 2)
    layer.act = nn.Identity()
    x = 1 + 100 * torch.rand(2, 8, 4, 4)
    gate = layer(x) / x
    assert gate.min() >= 0
    assert gate.max() <= 1
    torch.testing.assert_close(gate, gate[:, :, :1, :1].expand_as(gate))  # one for each channel


def test_stochastic_depth_climbs_over_the_residual_blocks() -> None:
    with torch.device("meta"):
        model = create_model("efficientnet_b0")
    rates = [module.rate for module in model.modules() if isinstance(module, DropPath)]
    assert len(rates) == 9  # 16 blocks, of which the first of each stage changes shape
    assert rates == sorted(rates)
    assert (rates[0], rates[-1]) == (0, 0.2)


def _small_config() -> EfficientNetConfig:
    stages = (StageConfig(1, 3, 1, 8, 1), StageConfig(4, 3, 2, 16, 2), StageConfig(4, 5, 2, 24, 1))
    return EfficientNetConfig(stem_width=8, stages=stages, final_width=32)


def test_images_of_32_pixels_stride_less_and_give_every_parameter_a_gradient() -> None:
    config, note = ENTRY.fit(_small_config(), 32)
    model = EfficientNet(config, 10, 3)
    assert note == "the stem and stage 2 have stride 1 instead of 2"
    assert [tuple(found.shape) for found in model.feature_maps(_images(32))] == [(1, 16, 32, 32), (1, 24, 16, 16)]
    F.cross_entropy(model(_images(32, batch_size=4)), torch.arange(4)).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(("size", "last_stride"), [(224, 32), (128, 32), (96, 16), (64, 16), (63, 8), (32, 8)])
def test_the_last_map_of_a_small_image_keeps_some_4_pixels(size: int, last_stride: int) -> None:
    with torch.device("meta"):
        model = create_model("efficientnet_b0", image_size=size)
    assert model.stages[-1].stride == last_stride


def test_a_fresh_network_for_few_classes_starts_unsure() -> None:
    torch.manual_seed(0)
    model = create_model("efficientnet_b0", num_classes=4, image_size=32)
    with torch.no_grad():
        assert model(_images(32, batch_size=16)).std() < 0.5  # 1 / sqrt(num_classes) would give several units
