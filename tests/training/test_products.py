"""Convolutions as matrix products: the same outputs and gradients, for every geometry, and the same state's names."""

import copy

import pytest
import torch
from torch import nn

from sightline.models import create_model
from sightline.training.fake_quantizing import fake_quantize, stop_fake_quantizing
from sightline.training.products import ProductConv2d, convolve_by_products, has_products

# kernel, stride, padding, height, width: products all through, weights' gradient alone, neither, 1x1.
GEOMETRIES = [
    *((3, 1, 1, 4, 4), (3, 2, 1, 8, 7), (3, 1, 1, 1, 1), (2, 1, 0, 3, 5), (4, 2, 3, 6, 4), (3, 1, 2, 2, 2)),
    *((3, 1, 1, 8, 8), (5, 1, 2, 6, 9), ((3, 1), (2, 1), (1, 0), 8, 5)),
    *((3, 1, 1, 9, 9), (1, 1, 0, 9, 5), (1, 2, 0, 9, 6), (1, 1, 1, 3, 3)),
]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "padding", "height", "width"), GEOMETRIES)
def test_outputs_and_gradients_are_torch_s(
    kernel: int, stride: int, padding: int, height: int, width: int, bias: bool
) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(5, 7, kernel, stride, padding, bias=bias, dtype=torch.float64)
    ours = nn.Sequential(copy.deepcopy(plain))
    assert convolve_by_products(ours) == 1
    assert isinstance(ours[0], ProductConv2d)
    images = torch.randn(3, 5, height, width, dtype=torch.float64)
    seen, seen_by_ours = (images.contiguous(memory_format=torch.channels_last).requires_grad_() for _ in range(2))
    expected, output = plain(seen), ours(seen_by_ours)
    torch.testing.assert_close(output, expected)
    grad = torch.randn_like(expected)
    expected.backward(grad)
    output.backward(grad)
    torch.testing.assert_close(seen_by_ours.grad, seen.grad)
    for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (1, 2), (3, 1)])
def test_where_nothing_is_learned_it_is_one_product_too(kernel: int, stride: int) -> None:
    layer = nn.Sequential(nn.Conv2d(6, 8, kernel, stride, padding=kernel // 2, bias=False))
    convolve_by_products(layer)
    images = torch.randn(4, 6, 4, 4).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), torch.profiler.profile() as profile:
        layer(images)
    called = {event.key for event in profile.key_averages()}
    assert "aten::mm" in called
    assert "aten::bmm" not in called


def test_it_computes_in_autocast_s_type_and_keeps_gradients_in_the_weights() -> None:
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1)).to(memory_format=torch.channels_last)
    reference = copy.deepcopy(layer)
    convolve_by_products(layer)
    images = torch.randn(2, 16, 4, 4)
    for model in (layer, reference):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = model(images)
        assert output.dtype == torch.bfloat16
        output.float().square().sum().backward()
    for mine, theirs in zip(layer.parameters(), reference.parameters(), strict=True):
        assert mine.grad is not None
        assert theirs.grad is not None
        assert mine.grad.dtype == torch.float32
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=0.05, atol=0.05 * float(theirs.grad.abs().max()))


@pytest.mark.parametrize("side", [2, 4, 8, 16])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("bias", [False, True])
def test_what_follows_may_change_its_output_in_place(side: int, kernel: int, bias: bool) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(5, 7, kernel, padding=kernel // 2, bias=bias), nn.ReLU(inplace=True)).double()
    ours = copy.deepcopy(plain)
    convolve_by_products(ours)
    images = torch.randn(3, 5, side, side, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    for model in (plain, ours):
        model(images).square().sum().backward()
    torch.testing.assert_close(ours(images), plain(images))
    for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


@pytest.mark.parametrize("name", ["vgg11", "vgg11_bn"])
def test_a_network_of_layers_in_a_row_learns(name: str) -> None:
    torch.manual_seed(0)
    model = create_model(name, num_classes=10, image_size=32).to(memory_format=torch.channels_last)
    convolve_by_products(model)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(torch.randn(2, 3, 32, 32).contiguous(memory_format=torch.channels_last))
    logits.float().square().sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())


def test_the_first_layer_asks_for_no_gradient_of_the_images() -> None:
    layer = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1))
    convolve_by_products(layer)
    layer(torch.randn(2, 3, 4, 4)).sum().backward()
    assert all(weight.grad is not None for weight in layer.parameters())
    layer.requires_grad_(requires_grad=False)
    images = torch.randn(2, 3, 4, 4, requires_grad=True)
    layer(images).sum().backward()
    assert images.grad is not None


def test_what_is_no_product_stays_and_the_state_keeps_its_names() -> None:
    others = nn.Sequential(
        nn.Conv2d(4, 4, 3, groups=4),
        nn.Conv2d(4, 4, 3, dilation=2),
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Linear(4, 4),
    )
    assert not has_products(others)
    assert convolve_by_products(others) == 0
    model = create_model("resnet20", num_classes=10)
    names = list(model.state_dict())
    assert has_products(model)
    assert convolve_by_products(model) == 19  # of 20 layers with weights, one is the head
    assert list(model.state_dict()) == names


def test_it_can_be_rounded_as_int8_would() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1))
    ours = copy.deepcopy(plain)
    convolve_by_products(ours)
    images = torch.randn(2, 4, 4, 4)
    assert fake_quantize(plain) == fake_quantize(ours) == 1
    torch.testing.assert_close(ours(images), plain(images))
    assert not torch.equal(ours(images), copy.deepcopy(ours)(images * 1.01))
    assert stop_fake_quantizing(ours) == 1
    assert type(ours[0]) is ProductConv2d


@pytest.mark.slow
@pytest.mark.parametrize("plane", [4, 8, 9])
def test_compiled_it_gives_the_same_gradients(plane: int) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1)).to(memory_format=torch.channels_last)
    convolve_by_products(plain)
    ours = copy.deepcopy(plain)
    images = torch.randn(2, 8, plane, plane).contiguous(memory_format=torch.channels_last)
    for model in (plain, torch.compile(ours)):
        model(images).square().sum().backward()
    for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-3)
