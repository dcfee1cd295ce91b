import copy

import pytest
import torch
from torch import nn

from sightline.training.out_of_place import KEEPS_INPUT, compute_out_of_place


@pytest.mark.parametrize("activation", KEEPS_INPUT)
def test_the_same_bits_and_the_input_is_left_alone(activation: type[nn.Module]) -> None:
    network = nn.Sequential(nn.Linear(6, 6), activation(inplace=True), nn.ReLU(inplace=True))
    ours = copy.deepcopy(network)
    assert compute_out_of_place(ours) == 1
    assert ours[2].inplace  # its gradient needs no input
    values = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    for each in (network, ours):
        each(values).square().sum().backward()
    for mine, theirs in zip(ours.parameters(), network.parameters(), strict=True):
        assert mine.grad is not None
        assert theirs.grad is not None
        assert torch.equal(mine.grad, theirs.grad)
    seen = values.clone()
    ours[1](seen)
    assert torch.equal(seen, values)
