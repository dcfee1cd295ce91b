import torch
from torch import nn

from sightline.layers.taps import outputs_at


def test_outputs_come_in_the_order_of_the_layers() -> None:
    layers = nn.Sequential(nn.Flatten(), nn.Hardtanh(0, 2), nn.Hardtanh(0, 1))
    last, middle = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 2.0]])
    found = outputs_at(layers, ("2", "1"), torch.tensor([[-3.0, 3.0]]))
    assert [map_.tolist() for map_ in found] == [middle.tolist(), last.tolist()]
