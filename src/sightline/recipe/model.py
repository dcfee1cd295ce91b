"""Settings of the network."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which network."""

    name: str = "resnet18"
    """An architecture's name; `sightline models` lists them all."""
    dropout: float | None = None
    """Rate of every dropout layer the network has, the head's included, 0 to 1; null keeps the architecture's own."""
    drop_path: float | None = None
    """Stochastic depth: how often the last block's residual branch is skipped, 0 to 1; null keeps its own."""
    activation: str | None = None
    """Replaces every activation: relu, relu6, leaky_relu, prelu, elu, celu, selu, gelu, silu, mish, hardswish, sigmoid,
    tanh, softplus or softsign; null keeps the architecture's own."""
    norm: Literal["batch", "group", "layer", "none"] | None = None
    """Replaces every batch norm: group (32 groups of channels), layer (all channels together) or none (scale and shift
    alone); null keeps the architecture's own."""
    width: float | None = None
    """Channels, as a multiple of the architecture's own; null is 1. Rounded to what it can have."""
    depth: float | None = None
    """Blocks, as a multiple of the architecture's own; null is 1. Rounded to what it can have."""
    pretrained: str | None = None
    """Published weights to start from: a source and tag ("torchvision:IMAGENET1K_V2"), a file, or a model folder
    to go on from; null is random."""
