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
