"""Change a network that exists: works on any module, timm's included."""

from torch import nn

from sightline.errors import ModelError, unknown_name
from sightline.layers.drop_path import DropPath, linear_rates

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "hardswish": nn.Hardswish,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
    "prelu": nn.PReLU,
}


def set_dropout(model: nn.Module, rate: float) -> None:
    """Give every dropout layer this rate. Raises ModelError when there is none, or for a rate outside 0 to 1."""
    _check_rate("model.dropout", rate)
    layers = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    if not layers:
        raise ModelError("model.dropout: this network has no dropout layer.")
    for layer in layers:
        layer.p = rate


def set_drop_path(model: nn.Module, rate: float) -> None:
    """Stochastic depth that climbs from 0 at the first block to `rate` at the last.

    Raises ModelError when the network has no residual branches to skip, or for a rate outside 0 to 1.
    """
    _check_rate("model.drop_path", rate)
    layers = [module for module in model.modules() if isinstance(module, DropPath)]
    if not layers:
        raise ModelError("model.drop_path: this network has no residual branch that could be skipped.")
    for layer, layer_rate in zip(layers, linear_rates(rate, len(layers)), strict=True):
        layer.rate = layer_rate


def replace_activation(model: nn.Module, name: str) -> int:
    """Swap every activation for the named one, and return how many there were.

    Raises ModelError for an unknown name, or when the network has no activation layer.
    """
    if name not in ACTIVATIONS:
        raise ModelError(unknown_name("activation", name, ACTIVATIONS, listing="`sightline models --help`"))
    count = 0
    for parent in list(model.modules()):
        for child_name, child in parent.named_children():
            if isinstance(child, tuple(ACTIVATIONS.values())):
                setattr(parent, child_name, ACTIVATIONS[name]())
                count += 1
    if count == 0:
        raise ModelError("model.activation: this network has no activation layer that could be replaced.")
    return count


def _check_rate(setting: str, rate: float) -> None:
    if not 0 <= rate < 1:
        raise ModelError(f"{setting} must be at least 0 and below 1, got {rate}.")
