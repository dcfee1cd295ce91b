"""Depthwise layers as they train on a CPU: gradients by pieces are the gradients."""

import pytest
import torch
from torch import Tensor, nn

from sightline.models import create_model
from sightline.training import depthwise
from sightline.training.depthwise import differentiate_by_pieces, image_gradient, weight_gradient

GEOMETRIES = [  # kernel, stride, padding
    *((3, 1, 1), (3, 2, 1), (2, 1, 0), (5, 1, 2), (5, 2, 2), (7, 1, 3), (7, 3, 1), (5, 1, 0), (6, 2, 2), (9, 8, 4)),
    *((4, 1, 3), (9, 5, 4)),
]
SIZES = [(1, 1), (2, 3), (5, 5), (8, 6), (7, 9)]


FITTING = [
    (kernel, stride, padding, size)
    for size in SIZES
    for kernel, stride, padding in GEOMETRIES
    if min(size) + 2 * padding >= kernel
]


@pytest.mark.parametrize(("kernel", "stride", "padding", "size"), FITTING)
def test_the_gradients_are_autograd_s(kernel: int, stride: int, padding: int, size: tuple[int, int]) -> None:
    images = torch.randn(3, 4, *size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 1, kernel, kernel, dtype=torch.float64, requires_grad=True)
    output = torch.conv2d(images, weight, None, stride, padding, groups=4)
    grad = torch.randn_like(output)
    output.backward(grad)
    steps, pads = (stride, stride), (padding, padding)
    ours = weight_gradient(images.detach(), grad, (kernel, kernel), steps, pads)
    torch.testing.assert_close(ours, weight.grad)
    ours = image_gradient(images.detach(), weight.detach(), grad, steps, pads)
    torch.testing.assert_close(ours, images.grad)


@pytest.mark.parametrize("in_float32", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "padding", "size"), FITTING)
def test_a_swapped_layer_gives_the_outputs_and_gradients_of_torch_s(
    kernel: int, stride: int, padding: int, size: tuple[int, int], in_float32: bool
) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(6, 6, kernel, stride, padding, groups=6))
    swapped = nn.Sequential(nn.Conv2d(6, 6, kernel, stride, padding, groups=6))
    swapped.load_state_dict(plain.state_dict())
    assert differentiate_by_pieces(swapped, in_float32=in_float32) == 1
    ours = torch.randn(2, 6, *size, requires_grad=True)
    theirs = ours.detach().clone().requires_grad_()
    expected, output = plain(theirs), swapped(ours)
    torch.testing.assert_close(output, expected)
    expected.square().sum().backward()
    output.square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    for mine, reference in zip(swapped.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, reference.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_in_bfloat16_gradients_are_as_close_to_float32_s_as_torch_s(
    kernel: int, stride: int, channels_last: bool
) -> None:
    torch.manual_seed(0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    start = torch.randn(4, 32, 14, 14).contiguous(memory_format=layout)
    weight = torch.randn(32, 1, kernel, kernel)

    def gradients(layer: nn.Module, dtype: torch.dtype) -> list[Tensor]:
        images = start.to(dtype).detach().requires_grad_()
        assert isinstance(layer, nn.Conv2d)
        layer.weight.data.copy_(weight)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            output = layer(images)
        assert output.dtype == dtype
        output.backward(torch.ones_like(output))
        assert images.grad is not None
        assert layer.weight.grad is not None
        assert images.grad.stride() == images.stride()
        return [images.grad.float(), layer.weight.grad]

    made = [nn.Sequential(nn.Conv2d(32, 32, kernel, stride, kernel // 2, groups=32, bias=False)) for _ in range(3)]
    differentiate_by_pieces(made[2])
    exact = gradients(made[0][0], torch.float32)
    theirs, ours = gradients(made[1][0], torch.bfloat16), gradients(made[2][0], torch.bfloat16)
    for right, their, our in zip(exact, theirs, ours, strict=True):
        assert float((our - right).norm()) <= 1.05 * float((their - right).norm()) + 1e-6


def test_a_kernel_larger_than_the_image_is_cut_to_what_it_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    product = depthwise.weight_gradient

    def watched(images: Tensor, grad: Tensor, kernel: tuple[int, int], *rest: tuple[int, int]) -> Tensor:
        seen.append(kernel)
        return product(images, grad, kernel, *rest)

    monkeypatch.setattr(depthwise, "weight_gradient", watched)
    layer = nn.Sequential(nn.Conv2d(3, 3, 5, padding=2, groups=3))
    differentiate_by_pieces(layer)
    layer(torch.randn(2, 3, 1, 2)).sum().backward()
    assert seen == [(1, 3)]
    gradient = next(layer.parameters()).grad
    assert gradient is not None
    assert gradient[:, :, [0, 1, 3, 4]].eq(0).all()
    assert gradient[:, :, 2, 1:4].ne(0).all()


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 4, 5, padding=2, groups=4, padding_mode="reflect"),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4),
        nn.Conv2d(4, 8, 3, padding=1, groups=4),
        nn.Conv2d(4, 4, 3, padding="same", groups=4),
    ],
)
def test_what_has_no_pieces_computes_as_torch_does(layer: nn.Module) -> None:
    images = torch.randn(2, 4, 8, 8)
    expected = layer(images)
    assert differentiate_by_pieces(nn.Sequential(layer)) == 1
    assert torch.equal(layer(images), expected)
    layer(images).sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())


def test_a_second_derivative_is_refused_and_not_lost() -> None:
    layer = nn.Conv2d(4, 4, 3, padding=1, groups=4)
    differentiate_by_pieces(nn.Sequential(layer))
    images = torch.randn(2, 4, 8, 8)
    (slope,) = torch.autograd.grad(layer(images).tanh().sum(), layer.weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def test_a_frozen_kernel_has_no_gradient_and_the_images_do() -> None:
    layer = nn.Conv2d(4, 4, 5, padding=2, groups=4)
    layer.weight.requires_grad_(False)
    differentiate_by_pieces(nn.Sequential(layer))
    images = torch.randn(2, 4, 4, 4, requires_grad=True)
    layer(images).sum().backward()
    assert layer.weight.grad is None
    assert images.grad is not None
    assert layer.bias is not None
    assert layer.bias.grad is not None
    assert torch.equal(layer.bias.grad, torch.full((4,), 32.0))


@pytest.mark.parametrize("in_float32", [False, True])
def test_the_gradients_of_efficientnet_stay_what_they_were(in_float32: bool) -> None:
    images = torch.rand(2, 3, 32, 32)
    gradients: list[dict[str, torch.Tensor]] = []
    for swap in (False, True):
        torch.manual_seed(0)
        model = create_model("efficientnet_b0_cifar", num_classes=10, dropout=0.0).double().eval()
        if swap:
            differentiate_by_pieces(model, in_float32=in_float32)
            model.float()
        (model(images.to(next(model.parameters()).dtype)).square().sum()).backward()
        gradients.append(
            {name: weight.grad.double() for name, weight in model.named_parameters() if weight.grad is not None}
        )
    reference, ours = gradients
    assert reference.keys() == ours.keys()
    for name, gradient in reference.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-3, atol=1e-4 * float(gradient.abs().max()) + 1e-9)
