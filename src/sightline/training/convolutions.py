"""How the convolutions of a network that trains compute, as the recipe says."""

from typing import Protocol

from torch import nn

from sightline.training.depthwise import keep_depthwise_float32
from sightline.training.products import convolve_by_products


class Chosen(Protocol):
    """The settings that are looked at: of a recipe's `train`, or of a way to compute that is tried."""

    @property
    def depthwise_float32(self) -> bool:
        """Depthwise convolutions compute in float32."""
        ...

    @property
    def matmul_convolutions(self) -> bool:
        """Other convolutions are matrix products where those are faster."""
        ...


def settle_convolutions(model: nn.Module, chosen: Chosen) -> None:
    """Swap the classes of layers that train.depthwise_float32 and train.matmul_convolutions speak of."""
    if chosen.depthwise_float32:
        keep_depthwise_float32(model)
    if chosen.matmul_convolutions:
        convolve_by_products(model)
