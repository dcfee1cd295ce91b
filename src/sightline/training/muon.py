"""Muon for hidden matrices and kernels, AdamW for everything else, as one optimiser.

Torch's Muon takes matrices alone, so a kernel is shown to it as the matrix (outputs, inputs x height x width) that
shares its memory. Source: Muon, An optimizer for hidden layers in neural networks (Jordan et al., 2024),
https://kellerjordan.github.io/posts/muon/. One learning rate serves both: updates are scaled to the size of AdamW's,
Muon is Scalable for LLM Training (Liu et al., 2025), equation 4.

Torch's orthogonalises in bfloat16. Where a processor has no instructions for it airbench94's took some thirty times as
long as in float32, longer than all else that a step computes (docs/log.md): there it is done in float32.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sightline.devices import emulates_bf16
from sightline.training.parameter_groups import layer_names


def hidden_matrices(model: nn.Module) -> set[nn.Parameter]:
    """What Muon moves: the weights of linear layers and convolutions between the stem and the head.

    Not those of convolutions in groups: each group is a matrix of its own, in a depthwise one a single row.
    """
    layers = layer_names(model)
    outer = {*layers[0], *layers[-1]}
    return {
        cast(nn.Parameter, module.weight)
        for place, module in model.named_modules()
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)
        if f"{place}.weight" not in outer
    }


class MuonWithAdamW(torch.optim.Optimizer):
    """Both optimisers, each with its own state; the groups are of the model's parameters, as with any other."""

    def __init__(
        self,
        groups: list[dict[str, Any]],
        matrices: set[nn.Parameter],
        *,
        lr: float,
        momentum: float,
        betas: tuple[float, float],
    ) -> None:
        split = [_part(group, matrices, momentum) for group in groups] + [
            _rest(group, matrices, betas) for group in groups
        ]
        super().__init__([group for group in split if group["params"]], {"lr": lr})
        self.parts: dict[str, torch.optim.Optimizer] = {}
        muon = [_shown(group) for group in self.param_groups if "momentum" in group]
        adamw = [dict(group) for group in self.param_groups if "betas" in group]
        devices = {parameter.device for group in muon for parameter in group["params"]}
        self._in_float32 = any(emulates_bf16(device) for device in devices)
        if muon:
            self.parts["muon"] = torch.optim.Muon(muon, lr=lr, momentum=momentum, adjust_lr_fn="match_rms_adamw")
        if adamw:
            self.parts["adamw"] = torch.optim.AdamW(adamw, lr=lr, betas=betas)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Move every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        groups = iter(self.param_groups)
        for name, part in self.parts.items():
            for inner in part.param_groups:
                group = next(groups)
                for setting in ("lr", "momentum", "betas"):
                    if setting in group:
                        inner[setting] = group[setting]
                if name == "muon":
                    for matrix, parameter in zip(inner["params"], group["params"], strict=True):
                        matrix.grad = None if parameter.grad is None else _matrix(parameter.grad, like=parameter)
            with _Float32() if self._in_float32 else nullcontext():
                part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Each part's own."""
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        for name, part in self.parts.items():
            part.load_state_dict(state_dict[name])


class _Float32(TorchFunctionMode):
    """What asks for bfloat16 is given float32."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        given = dict(kwargs or {})
        if func is Tensor.to and given.get("dtype") is torch.bfloat16:
            given["dtype"] = torch.float32
        return func(*args, **given)


def _part(group: dict[str, Any], matrices: set[nn.Parameter], momentum: float) -> dict[str, Any]:
    return group | {"params": [p for p in group["params"] if p in matrices], "momentum": momentum}


def _rest(group: dict[str, Any], matrices: set[nn.Parameter], betas: tuple[float, float]) -> dict[str, Any]:
    return group | {"params": [p for p in group["params"] if p not in matrices], "betas": betas}


def _shown(group: dict[str, Any]) -> dict[str, Any]:
    """The group with its kernels as matrices of the same memory."""
    return group | {"params": [_matrix(parameter.detach(), like=parameter) for parameter in group["params"]]}


def _matrix(tensor: Tensor, *, like: Tensor) -> Tensor:
    """(O, I) as it is; (O, I, H, W) -> (O, I H W), or (O, H W I) where the channels of `like` are innermost."""
    if like.ndim == 4 and not like.is_contiguous():
        tensor = tensor.permute(0, 2, 3, 1)
    return tensor.flatten(1)
