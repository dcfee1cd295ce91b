"""How near loops come to exact gradients: inputs, passes and distances that their tests share."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def noise(*shape: int, seed: int = 0) -> Tensor:
    """The channel innermost."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return values.contiguous(memory_format=torch.channels_last)


def gradients(layer: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """The output, and the gradients of the images and of the layer's parameters."""
    leaf = images.clone(memory_format=torch.preserve_format).requires_grad_()
    layer.zero_grad()
    output = layer(leaf)
    output.backward(noise(*output.shape, seed=1).to(output.dtype))
    assert leaf.grad is not None
    return output.detach(), leaf.grad, *(p.grad for p in layer.parameters() if p.grad is not None)


def distance(values: Tensor, exact: Tensor) -> float:
    """Relative to the exact values' length."""
    return float((values.double() - exact).norm() / exact.norm())


def step(model: nn.Module) -> Tensor:
    """The gradient of all parameters from eight images of 32 pixels and ten classes."""
    F.cross_entropy(model(noise(8, 3, 32, 32)), torch.arange(8) % 10).backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])
