"""Narrowing: a network with fewer channels than its architecture has, as shapes, which JSON holds.

A pruned model is the architecture's plain network with some parameters and buffers cut shorter, so that no code and
no pickle is needed to build it again. Reading one needs no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sightline.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Narrowing:
    """What differs from the plain network."""

    shapes: dict[str, tuple[int, ...]]
    """Of each parameter and buffer that is smaller; 0 stands for the plain network's own size, such as the number of
    classes."""
    num_heads: dict[str, int] = field(default_factory=dict[str, int])
    """Of each attention that lost some, by the module's name."""
    stage_channels: tuple[int, ...] = ()
    """Channels of the feature map after each stage."""

    def apply(self, model: "nn.Module") -> None:
        """Cut the plain network, in place: its layers, their numbers of channels, its stages. Raises ModelError."""
        touched: set[str] = set()
        for name, shape in self.shapes.items():
            path, _, leaf = name.rpartition(".")
            _cut(model, path, leaf, shape)
            touched.add(path)
        for path in touched:
            _agree(model.get_submodule(path))
        for path, count in self.num_heads.items():
            vars(model.get_submodule(path))["num_heads"] = count
        _tell(model, self.stage_channels)


def narrowed_shapes(
    plain: Mapping[str, tuple[int, ...]], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """`Narrowing.shapes` that lead from the plain network's tensors to these, by name."""
    return {
        name: tuple(0 if new == own else new for new, own in zip(shape, plain[name], strict=True))
        for name, shape in shapes.items()
        if shape != plain[name]
    }


def _cut(model: "nn.Module", path: str, leaf: str, shape: tuple[int, ...]) -> None:
    from torch import nn

    try:
        module: Any = model.get_submodule(path)
        old: Tensor = getattr(module, leaf)
    except AttributeError as error:
        raise ModelError(f"The narrowing names {f'{path}.{leaf}'!r}, which the network doesn't have.") from error
    if len(shape) != old.ndim or any(new > own for new, own in zip(shape, old.shape, strict=True)):
        raise ModelError(
            f"The narrowing gives {f'{path}.{leaf}'!r} the shape {shape}, where the plain network has "
            f"{tuple(old.shape)}."
        )
    kept = old.detach()[tuple(slice(new or None) for new in shape)].clone()
    setattr(module, leaf, nn.Parameter(kept, old.requires_grad) if isinstance(old, nn.Parameter) else kept)


def _agree(module: Any) -> None:
    """Let a layer's own numbers follow the shapes of its tensors."""
    from torch import nn
    from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]  # 1d, 2d and 3d

    if isinstance(module, nn.Conv2d):
        depthwise = module.groups > 1 and module.groups == module.in_channels
        module.out_channels = module.weight.shape[0]
        module.groups = module.out_channels if depthwise else module.groups
        module.in_channels = module.weight.shape[1] * module.groups
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, _BatchNorm):
        module.num_features = len(module.weight)
    elif isinstance(module, nn.PReLU):
        module.num_parameters = len(module.weight)


def _tell(model: Any, stage_channels: tuple[int, ...]) -> None:
    """What a Classifier says of itself."""
    if stage_channels:
        model.stages = tuple(
            replace(stage, channels=channels) for stage, channels in zip(model.stages, stage_channels, strict=True)
        )
    model.num_features = model.head.in_features
