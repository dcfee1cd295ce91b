"""3x3 convolutions by minimal filtering are torch's but for rounding."""

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
from sightline.native import winograd
from sightline.recipe import TrainConfig
from sightline.training.fake_quantizing import fake_quantize, stop_fake_quantizing
from sightline.training.fastest import Candidate, candidates
from sightline.training.layers import settle_layers
from sightline.training.packed_gradients import PackedConv2d
from sightline.training.winograd import WinogradConv2d, filter_minimally, has_filterable

pytestmark = pytest.mark.skipif(not winograd.available(), reason="needs AVX2 and a C compiler")

PLAIN = Candidate(precision="float32", channels_last=True)
FILTERED = Candidate(precision="float32", channels_last=True, packed_gradients=True, winograd=True)
CLOSE = 2e-6
"""Of a result's length; torch's own errors here are 2e-7 to 5e-7."""


def convolution(channels: int, out_channels: int, **settings: Any) -> nn.Conv2d:
    torch.manual_seed(0)
    layer = nn.Conv2d(channels, out_channels, kernel_size=3, padding=1, **settings)
    return layer.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(
    ("batch", "height", "width"),
    [
        (8, 8, 8),
        (32, 4, 4),  # no tile sees another
        (8, 7, 9),  # tiles that reach beyond the plane
        (40, 3, 3),
        (1, 40, 29),
        (130, 6, 7),  # several blocks, the last one smaller
    ],
)
@pytest.mark.parametrize(("channels", "out_channels"), [(16, 16), (9, 40), (40, 23), (8, 67), (130, 8)])
def test_it_is_torchs_but_for_rounding(
    batch: int, height: int, width: int, channels: int, out_channels: int, threads: int
) -> None:
    images = noise(batch, channels, height, width)
    theirs = convolution(channels, out_channels)
    ours, exact = copy.deepcopy(theirs), copy.deepcopy(theirs).double()
    assert filter_minimally(ours) == 1
    assert winograd.takes(images, ours.weight)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        given = gradients(ours, images)
    finally:
        torch.set_num_threads(before)
    assert len(given) == 4
    for mine, truth in zip(given, gradients(exact, images.double()), strict=True):
        assert distance(mine, truth) < CLOSE
        assert mine.dim() < 4 or mine.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("channels", "out_channels"), [(40, 24), (160, 64)], ids=["few sums", "many sums"])
def test_of_any_number_of_threads_the_same_bits(channels: int, out_channels: int) -> None:
    images, layer = noise(80, channels, 9, 9), convolution(channels, out_channels)
    filter_minimally(layer)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            results.append(gradients(layer, images)[:3])  # torch adds up the bias's gradient by threads
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(*pair) for given in results[1:] for pair in zip(given, results[0], strict=True))


def test_nothing_outside_of_the_tensors_is_read_or_written() -> None:
    around = float("nan")
    images, grad = (torch.full((34, 19, 6, 7), around).contiguous(memory_format=torch.channels_last) for _ in range(2))
    inner, slopes, weight = noise(32, 19, 6, 7), noise(32, 19, 6, 7, seed=1), noise(19, 19, 3, 3, seed=2)
    images[1:33], grad[1:33] = inner, slopes
    for given, expected in (
        (winograd.convolved(images[1:33], weight), winograd.convolved(inner, weight)),
        (winograd.image_gradient(grad[1:33], weight), winograd.image_gradient(slopes, weight)),
        (winograd.weight_gradient(images[1:33], grad[1:33]), winograd.weight_gradient(inner, slopes)),
    ):
        assert torch.equal(given, expected)
    assert images[0].isnan().all()
    assert grad[33].isnan().all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_seen(value: float) -> None:
    images = noise(8, 16, 8, 8)
    images[3, 5, 2, 2] = value
    output = winograd.convolved(images, noise(16, 16, 3, 3))
    assert not output[3, :, 1:4, 1:4].isfinite().any()
    assert output[:3].isfinite().all()
    assert output[4:].isfinite().all()


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 16, 3, padding=1),
        nn.Conv2d(16, 7, 3, padding=1),
        nn.Conv2d(16, 16, 1),
        nn.Conv2d(16, 16, 5, padding=2),
        nn.Conv2d(16, 16, (3, 1), padding=1),
        nn.Conv2d(16, 16, 3),
        nn.Conv2d(16, 16, 3, padding=1, stride=2),
        nn.Conv2d(32, 32, 3, padding=1, groups=2),
        nn.Conv2d(16, 16, 3, padding=1, dilation=2),
        nn.Conv2d(16, 16, 3, padding="same"),
        nn.Conv2d(16, 16, 3, padding=1, padding_mode="reflect"),
        type("Own", (nn.Conv2d,), {})(16, 16, 3, padding=1),
    ],
    ids=[
        "three channels", "seven outputs", "1x1", "5x5", "3x1", "no padding", "a stride", "groups", "dilation",
        "padding by name", "reflected", "a class of its own",
    ],
)  # fmt: skip
def test_others_are_left_alone(layer: nn.Module) -> None:
    assert not has_filterable(layer)
    assert filter_minimally(layer) == 0


@pytest.mark.parametrize(
    ("images", "is_packed"),
    [
        (noise(8, 16, 8, 8).contiguous(), False),
        (noise(8, 16, 8, 8).double(), False),
        (noise(8, 16, 2, 9), True),
        (noise(8, 16, 5, 5), True),
        (noise(3, 16, 8, 8), True),
    ],
    ids=["NCHW", "double", "a plane lower than a tile", "tiles mostly padding", "few tiles"],
)
def test_otherwise_the_packed_loops_or_torch_compute(images: Tensor, is_packed: bool) -> None:
    theirs = convolution(16, 16).to(images.dtype)
    ours = copy.deepcopy(theirs)
    filter_minimally(ours)
    if is_packed:
        theirs.__class__ = PackedConv2d
    assert all(torch.equal(*pair) for pair in zip(gradients(ours, images), gradients(theirs, images), strict=True))


def test_frozen_parts_get_no_gradient() -> None:
    layer, images = convolution(16, 16), noise(8, 16, 8, 8)
    filter_minimally(layer)
    layer.weight.requires_grad_(requires_grad=False)
    layer(images).sum().backward()
    assert layer.weight.grad is None
    assert layer.bias is not None
    assert layer.bias.grad is not None


def test_an_output_may_be_changed_in_place() -> None:
    layer, images = convolution(16, 16), noise(8, 16, 8, 8)
    filter_minimally(layer)
    layer(images).relu_().sum().backward()
    assert layer.weight.grad is not None


def test_it_learns_with_rounded_weights() -> None:
    theirs = convolution(16, 16)
    ours = copy.deepcopy(theirs)
    filter_minimally(ours)
    assert fake_quantize(ours) == fake_quantize(theirs) == 1
    images = noise(8, 16, 8, 8)
    for given, expected in zip(gradients(ours, images), gradients(theirs, images), strict=True):
        assert distance(given, expected.double()) < CLOSE
    stop_fake_quantizing(ours)
    assert type(ours) is WinogradConv2d


@pytest.mark.parametrize("checkpointed", [False, True])
def test_a_network_learns_the_same_with_the_same_bits_each_time(checkpointed: bool) -> None:
    torch.manual_seed(0)
    # ReLU's gradient would jump where a value lies so near to 0 that rounding decides.
    plain = create_model("resnet20", num_classes=10, image_size=32, activation="gelu")
    plain.to(memory_format=torch.channels_last)
    ours, again, exact = (copy.deepcopy(plain) for _ in range(3))
    settle_layers(plain, PLAIN, 32)
    for model in (ours, again):
        settle_layers(model, FILTERED, 32)
        assert sum(type(module) is WinogradConv2d for module in model.modules()) == 16
        assert sum(type(module) is PackedConv2d for module in model.modules()) == 2
        if checkpointed:
            checkpoint_activations(model)
    gradient = step(ours)
    truth = torch.autograd.grad(
        F.cross_entropy(exact.double()(noise(8, 3, 32, 32).double()), torch.arange(8) % 10), list(exact.parameters())
    )
    flat = torch.cat([part.flatten() for part in truth])
    assert distance(gradient, flat) < 2 * distance(step(plain), flat)
    assert torch.equal(gradient, step(again))
    assert ours.state_dict().keys() == exact.state_dict().keys()


def test_it_is_tried_where_gradients_are_packed() -> None:
    tried = candidates(Architecture(name="resnet20", num_classes=10, image_size=32), torch.device("cpu"))
    both = {each.winograd for each in tried if each.packed_gradients}
    assert both == {False, True}
    assert not any(each.winograd for each in tried if not each.packed_gradients)
    without = candidates(Architecture(name="vit_ti_16", num_classes=10, image_size=32), torch.device("cpu"))
    assert not any(each.winograd for each in without)


def test_what_it_needs_is_said() -> None:
    with pytest.raises(RecipeError, match=r"train\.winograd is of train\.packed_gradients"):
        TrainConfig(winograd=True, channels_last=True)


@pytest.mark.usefixtures("without_compiler")
def test_without_a_compiler_it_is_refused_and_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    model = create_model("resnet20", num_classes=10, image_size=32)
    with pytest.raises(RecipeError, match=r"train\.winograd needs a C compiler"):
        filter_minimally(model)
    assert not has_filterable(model)
    monkeypatch.setattr(winograd, "fits", lambda _source: False)
    with pytest.raises(RecipeError, match="a processor with AVX2"):
        filter_minimally(model)
