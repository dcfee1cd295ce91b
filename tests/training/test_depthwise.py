"""Depthwise layers as they train on a CPU: the weight gradient that adds up shifts is the gradient."""

import pytest
import torch
from torch import nn

from sightline.models import create_model
from sightline.training.depthwise import Float32Depthwise, keep_depthwise_float32, weight_gradient

GEOMETRIES = [(5, 1, 2), (5, 2, 2), (7, 1, 3), (7, 3, 1), (5, 1, 0), (6, 2, 2)]


@pytest.mark.parametrize("size", [(5, 5), (8, 6), (7, 9)])
@pytest.mark.parametrize(("kernel", "stride", "padding"), GEOMETRIES)
def test_the_weight_gradient_is_autograd_s(kernel: int, stride: int, padding: int, size: tuple[int, int]) -> None:
    images = torch.randn(3, 4, *size, dtype=torch.float64)
    if min(size) + 2 * padding < kernel:
        images = torch.randn(3, 4, kernel, kernel, dtype=torch.float64)
    weight = torch.randn(4, 1, kernel, kernel, dtype=torch.float64, requires_grad=True)
    output = torch.conv2d(images, weight, None, stride, padding, groups=4)
    grad = torch.randn_like(output)
    output.backward(grad)
    ours = weight_gradient(images, grad, (kernel, kernel), (stride, stride), (padding, padding))
    torch.testing.assert_close(ours, weight.grad)


def test_a_plane_smaller_than_the_kernel_has_offsets_that_saw_padding_alone() -> None:
    images, grad = torch.randn(2, 3, 2, 2), torch.randn(2, 3, 2, 2)
    gradient = weight_gradient(images, grad, (5, 5), (1, 1), (2, 2))
    assert gradient[:, :, 0].eq(0).all()
    assert gradient[:, :, 1:4, 1:4].ne(0).all()


@pytest.mark.parametrize("plane", [4, 8, 16])
def test_a_swapped_layer_gives_the_outputs_and_gradients_of_torch_s(plane: int) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(6, 6, 5, padding=2, groups=6, bias=False))
    swapped = nn.Sequential(nn.Conv2d(6, 6, 5, padding=2, groups=6, bias=False))
    swapped.load_state_dict(plain.state_dict())
    assert keep_depthwise_float32(swapped) == 1
    ours, theirs = torch.randn(2, 6, plane, plane, requires_grad=True), torch.empty(0)
    theirs = ours.detach().clone().requires_grad_()
    plain(theirs).square().sum().backward()
    swapped(ours).square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    for mine, reference in zip(swapped.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, reference.grad)


def test_a_layer_with_a_bias_keeps_torch_s_gradient() -> None:
    layer = nn.Sequential(nn.Conv2d(4, 4, 5, padding=2, groups=4))
    keep_depthwise_float32(layer)
    layer(torch.randn(2, 4, 4, 4)).sum().backward()
    swapped = layer[0]
    assert isinstance(swapped, Float32Depthwise)
    assert swapped.bias is not None
    assert torch.equal(swapped.bias.grad, torch.full((4,), 32.0))


def test_the_gradients_of_efficientnet_stay_what_they_were() -> None:
    images = torch.rand(2, 3, 32, 32)
    gradients: list[dict[str, torch.Tensor]] = []
    for swap in (False, True):
        torch.manual_seed(0)
        model = create_model("efficientnet_b0_cifar", num_classes=10, dropout=0.0).double().eval()
        if swap:
            keep_depthwise_float32(model)
            model.float()
        (model(images.to(next(model.parameters()).dtype)).square().sum()).backward()
        gradients.append(
            {name: weight.grad.double() for name, weight in model.named_parameters() if weight.grad is not None}
        )
    reference, ours = gradients
    assert reference.keys() == ours.keys()
    for name, gradient in reference.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-3, atol=1e-4 * float(gradient.abs().max()) + 1e-9)
