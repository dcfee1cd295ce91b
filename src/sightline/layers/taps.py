"""Feature maps from the middle of a chain of layers."""

from collections.abc import Collection

from torch import Tensor, nn


def outputs_at(layers: nn.Sequential, names: Collection[str], x: Tensor) -> list[Tensor]:
    """Send x through the layers, and give what those of these names put out, in the order of the layers."""
    outputs: list[Tensor] = []
    for name, layer in layers.named_children():
        x = layer(x)
        if name in names:
            outputs.append(x)
    return outputs
