"""Convolutions' weight gradients by compiled loops are torch's but for rounding."""

import copy
from typing import Any

import pytest
import torch
from exactness import distance, gradients, noise, step
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.checkpointing import checkpoint_activations
from sightline.errors import RecipeError
from sightline.model_folder import Architecture
from sightline.models import create_model
from sightline.native import convolution
from sightline.recipe import TrainConfig
from sightline.training.fake_quantizing import fake_quantize, stop_fake_quantizing
from sightline.training.fastest import Candidate, candidates
from sightline.training.layers import settle_layers
from sightline.training.packed_gradients import PackedConv2d, has_packable, pack_gradients

pytestmark = pytest.mark.skipif(not convolution.available(), reason="needs AVX2 and a C compiler")

PLAIN = Candidate(precision="float32", channels_last=True)
PACKED = Candidate(precision="float32", channels_last=True, packed_gradients=True)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ((5, 8, 9, 7), {"kernel_size": 3, "padding": 1}),
        ((70, 16, 4, 4), {"kernel_size": 3, "padding": 1}),  # several images at a time, the last part smaller
        ((3, 19, 33, 30), {"kernel_size": 3, "padding": 1}),  # an image in several parts
        ((2, 24, 40, 40), {"kernel_size": 3, "padding": 1, "stride": 2}),
        ((40, 17, 5, 6), {"kernel_size": 3, "padding": 1, "stride": 2}),
        ((2, 8, 11, 300), {"kernel_size": (1, 7), "padding": (0, 3)}),  # a row is more than a part holds
        ((3, 33, 13, 11), {"kernel_size": (5, 3), "padding": (2, 0), "stride": (1, 3)}),
        ((4, 8, 6, 6), {"kernel_size": 6}),
        ((4, 8, 3, 3), {"kernel_size": 3, "padding": 4}),  # places of the kernel that see nothing, here and there
        ((1, 8, 1, 1), {"kernel_size": 3, "padding": 1}),
    ],
)
@pytest.mark.parametrize("channels", [1, 6, 23])
def test_it_is_torchs_but_for_rounding(
    shape: tuple[int, ...], settings: dict[str, Any], channels: int, threads: int
) -> None:
    torch.manual_seed(0)
    theirs = nn.Conv2d(shape[1], channels, **settings).to(memory_format=torch.channels_last)
    ours, exact = copy.deepcopy(theirs), copy.deepcopy(theirs).double()
    assert pack_gradients(ours) == 1
    images, before = noise(*shape), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        given = gradients(ours, images)
    finally:
        torch.set_num_threads(before)
    for mine, usual, truth in zip(given, gradients(theirs, images), gradients(exact, images.double()), strict=True):
        assert distance(mine, truth) < 2 * distance(usual, truth) + 2e-7
    assert ours.weight.grad is not None
    assert ours.weight.grad.is_contiguous(memory_format=torch.channels_last)


def test_nothing_outside_of_the_tensors_is_read_or_written() -> None:
    around = float("nan")
    images, grad = (torch.full((4, 12, 9, 9), around).contiguous(memory_format=torch.channels_last) for _ in range(2))
    inner, slopes = noise(2, 12, 9, 9), noise(2, 12, 9, 9, seed=1)
    images[1:3], grad[1:3] = inner, slopes
    given = convolution.weight_gradient(images[1:3], grad[1:3], (3, 3), (1, 1), (1, 1))
    assert torch.equal(given, convolution.weight_gradient(inner, slopes, (3, 3), (1, 1), (1, 1)))
    assert images[0].isnan().all()
    assert grad[3].isnan().all()


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 16, 3),
        nn.Conv2d(16, 16, 1),
        nn.Conv2d(16, 16, 3, groups=2),
        nn.Conv2d(16, 16, 3, dilation=2),
        nn.Conv2d(16, 16, 3, padding="same"),
        nn.Conv2d(16, 16, 3, padding=1, padding_mode="reflect"),
        type("Own", (nn.Conv2d,), {})(16, 16, 3),
    ],
    ids=["three channels", "1x1", "groups", "dilation", "padding by name", "reflected", "a class of its own"],
)
def test_others_are_left_alone(layer: nn.Module) -> None:
    assert not has_packable(layer)
    assert pack_gradients(layer) == 0


@pytest.mark.parametrize(
    "images", [noise(2, 16, 8, 8).contiguous(), noise(2, 16, 8, 8).double()], ids=["NCHW", "double"]
)
def test_otherwise_torch_computes(images: Tensor) -> None:
    theirs = nn.Conv2d(16, 16, 3).to(images.dtype)
    ours = copy.deepcopy(theirs)
    pack_gradients(ours)
    assert all(torch.equal(*pair) for pair in zip(gradients(ours, images), gradients(theirs, images), strict=True))


def test_frozen_parts_get_no_gradient() -> None:
    layer = nn.Conv2d(16, 16, 3)
    pack_gradients(layer)
    layer.weight.requires_grad_(requires_grad=False)
    layer(noise(2, 16, 8, 8)).sum().backward()
    assert layer.weight.grad is None
    assert layer.bias is not None
    assert layer.bias.grad is not None


def test_it_learns_with_rounded_weights() -> None:
    torch.manual_seed(0)
    theirs = nn.Conv2d(16, 16, 3).to(memory_format=torch.channels_last)
    ours = copy.deepcopy(theirs)
    pack_gradients(ours)
    assert fake_quantize(ours) == fake_quantize(theirs) == 1
    for given, expected in zip(gradients(ours, noise(2, 16, 8, 8)), gradients(theirs, noise(2, 16, 8, 8)), strict=True):
        torch.testing.assert_close(given, expected)
    stop_fake_quantizing(ours)
    assert type(ours) is PackedConv2d


@pytest.mark.parametrize("checkpointed", [False, True])
def test_a_network_learns_the_same_with_the_same_bits_each_time(checkpointed: bool) -> None:
    torch.manual_seed(0)
    plain = create_model("resnet20", num_classes=10, image_size=32).to(memory_format=torch.channels_last)
    ours, again, exact = (copy.deepcopy(plain) for _ in range(3))
    settle_layers(plain, PLAIN, 32)
    for model in (ours, again):
        settle_layers(model, PACKED, 32)
        assert sum(type(module) is PackedConv2d for module in model.modules()) == 18
        if checkpointed:
            checkpoint_activations(model)
    gradient = step(ours)
    truth = torch.autograd.grad(
        F.cross_entropy(exact.double()(noise(8, 3, 32, 32).double()), torch.arange(8) % 10), list(exact.parameters())
    )
    flat = torch.cat([part.flatten() for part in truth])
    assert distance(gradient, flat) < 1.5 * distance(step(plain), flat) + 1e-7
    assert torch.equal(gradient, step(again))
    assert ours.state_dict().keys() == exact.state_dict().keys()


def test_it_is_tried_in_float32_with_the_channel_innermost() -> None:
    tried = candidates(Architecture(name="resnet20", num_classes=10, image_size=32), torch.device("cpu"))
    both = {each.packed_gradients for each in tried if each.precision == "float32" and each.channels_last}
    assert both == {False, True}
    assert not any(each.packed_gradients for each in tried if each.precision != "float32" or not each.channels_last)
    without = candidates(Architecture(name="vit_ti_16", num_classes=10, image_size=32), torch.device("cpu"))
    assert not any(each.packed_gradients for each in without)


@pytest.mark.parametrize(
    "settings",
    [{}, {"precision": "bf16", "channels_last": True}, {"channels_last": True, "matmul_convolutions": True}],
)
def test_what_it_needs_is_said(settings: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=r"train\.packed_gradients is of float32 and channels_last"):
        TrainConfig(packed_gradients=True, **settings)


@pytest.mark.usefixtures("without_compiler")
def test_without_a_compiler_it_is_refused_and_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    model = create_model("resnet20", num_classes=10, image_size=32)
    with pytest.raises(RecipeError, match=r"train\.packed_gradients needs a C compiler"):
        pack_gradients(model)
    assert not has_packable(model)
    monkeypatch.setattr(convolution, "fits", lambda _: False)
    with pytest.raises(RecipeError, match="a processor with AVX2"):
        pack_gradients(model)
