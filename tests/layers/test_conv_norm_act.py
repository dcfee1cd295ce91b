import pytest
import torch
from torch import nn

from sightline.layers.conv_norm_act import ConvNormAct


@pytest.mark.parametrize("kernel", [1, 3, 7, (1, 7), (3, 1)])
def test_padding_left_out_keeps_height_and_width(kernel: int | tuple[int, int]) -> None:
    assert ConvNormAct(2, 4, kernel)(torch.zeros(2, 2, 9, 8)).shape == (2, 4, 9, 8)


def test_padding_of_zero_crops_the_border() -> None:
    assert ConvNormAct(2, 4, 3, 1, 0)(torch.zeros(2, 2, 9, 8)).shape == (2, 4, 7, 6)


def test_without_activation_values_stay_negative() -> None:
    images = torch.randn(2, 2, 9, 8, generator=torch.Generator().manual_seed(0))
    assert ConvNormAct(2, 4, 3)(images).min() == 0
    assert ConvNormAct(2, 4, 3, activation=nn.LeakyReLU)(images).min() < 0
    assert ConvNormAct(2, 4, 3, activation=None)(images).min() < -1
