import torch

from sightline.layers.local_response_norm import LocalResponseNorm


def test_each_activation_is_divided_as_the_formula_says() -> None:
    activations = 30 * torch.randn(2, 7, 3, 4, generator=torch.Generator().manual_seed(0))  # large: alpha is small
    expected = torch.empty_like(activations)
    for channel in range(7):
        neighbours = activations[:, max(0, channel - 2) : channel + 3]
        expected[:, channel] = activations[:, channel] / (2 + 1e-4 * neighbours.square().sum(1)) ** 0.75
    torch.testing.assert_close(LocalResponseNorm()(activations), expected)
