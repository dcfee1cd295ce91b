"""The mean over height and width: torch's, with a gradient that lies in memory as its input does."""

import pytest
import torch

from sightline.layers.spatial_mean import spatial_mean


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_it_is_torch_s_mean_and_its_gradient_keeps_the_layout(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 6, 5, 4).contiguous(memory_format=layout).requires_grad_()
    gradients: list[torch.Tensor] = []
    doubled = x * 2
    doubled.register_hook(gradients.append)
    means = spatial_mean(doubled)
    torch.testing.assert_close(means, (x * 2).mean((2, 3), keepdim=True))
    means.square().sum().backward()
    assert gradients[0].is_contiguous(memory_format=layout)
    torch.testing.assert_close(gradients[0], (2 * means / 20).expand_as(x))


@pytest.mark.parametrize("size", [(1, 1), (7, 7), (56, 40)])
def test_in_bfloat16_it_is_as_exact_as_torch_s(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    x = (torch.randn(3, 16, *size) + 2).bfloat16().contiguous(memory_format=torch.channels_last).requires_grad_()
    doubled = x * 2
    gradients: list[torch.Tensor] = []
    doubled.register_hook(gradients.append)
    means = spatial_mean(doubled)
    exact = doubled.float().mean((2, 3), keepdim=True)
    assert means.dtype == torch.bfloat16
    torch.testing.assert_close(means.float(), exact, rtol=2**-8, atol=0)  # rounded once
    (means.float() + x.float().mean((2, 3), keepdim=True)).square().sum().backward()
    places = size[0] * size[1]
    expected = (2 * (exact + x.detach().float().mean((2, 3), keepdim=True)) / places).expand_as(x)
    torch.testing.assert_close(gradients[0].float(), expected, rtol=2**-6, atol=0)
    assert x.grad is not None
    assert x.grad.is_contiguous(memory_format=torch.channels_last)


def test_what_follows_may_change_it_in_place() -> None:
    x = torch.randn(2, 3, 4, 4).bfloat16().contiguous(memory_format=torch.channels_last).requires_grad_()
    spatial_mean(x * 1).relu_().sum().backward()
    assert x.grad is not None
