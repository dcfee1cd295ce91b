"""A look at the gradients: how strong they arrive at each stage, and which units have died.

Only `SAMPLES` batches of an epoch are watched, chosen by their place in it, so a run costs little more; nothing
that is watched is changed.

A unit (a channel, or a hidden number of a matrix layer) is dead when a ReLU-like activation gave 0 for it
at every place of every watched image of the epoch. A value of a sigmoid or tanh is saturated when the slope there is
below 4% of the steepest. Other activations (GELU, SiLU) have neither.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

SAMPLES = 8
"""Watched batches of an epoch, evenly spaced."""

_RECTIFIERS = (nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Hardswish, nn.Hardshrink, nn.Threshold)
_GENTLE = 0.04
"""Of the steepest slope: 1 for tanh, 1/4 for the sigmoid."""


@dataclass(kw_only=True)
class GradientRow:
    """One stage in one epoch; figures are means over the epoch's watched updates."""

    epoch: int
    """From 1."""
    stage: str
    """A stage's module, "stem" before the first, "top" after the last, or "head"."""
    gradient_norm: float | None
    """L2, over the stage's parameters, before clipping; None where no update was watched, or the stage is frozen.
    Updates whose gradients are infinite, which float16's scaling skips, are left out."""
    gradient_to_weight: float | None
    """That norm divided by the weights'."""
    dead: float | None
    """Share of the units behind ReLU-like activations; None in a stage without one."""
    saturated: float | None
    """Share of the values behind sigmoids and tanhs; None in a stage without one."""


class GradientWatch:
    """Watches some batches of an epoch and makes a row for each stage of them.

    For each watched batch: `begin` before it, `end_forward` when its loss is known, `take` when the gradients of
    its update are whole.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._stages = stages(model)
        self._hooks: list[RemovableHandle] = []
        self._calls: dict[str, int] = {}
        self._is_due = False
        self._norms: list[Tensor] = []  # of each watched update (stages, 2): gradients', weights'
        self._alive: dict[str, Tensor] = {}  # of each activation's call: (units,) whether any value was not 0
        self._saturated: dict[str, Tensor] = {}  # (2,): saturated values, values

    def begin(self) -> None:
        """Watch what the next forward pass activates."""
        self._calls, self._is_due = {}, True
        for name, module in self._model.named_modules():
            if isinstance(module, (*_RECTIFIERS, nn.Sigmoid, nn.Tanh)):
                self._hooks.append(module.register_forward_hook(self._hook(name)))

    def end_forward(self) -> None:
        """Stop watching activations: a backward pass may compute them again."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def take(self) -> None:
        """Note the norms of the gradients and weights, if a batch of this update was watched."""
        if not self._is_due:
            return
        self._is_due = False
        rows: list[Tensor] = []
        for parameters in self._parameters().values():
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            with_gradient = [parameter.detach() for parameter in parameters if parameter.grad is not None]
            rows.append(torch.stack([_norm(gradients, self._device), _norm(with_gradient, self._device)]))
        self._norms.append(torch.stack(rows))

    def rows(self, epoch: int) -> list[GradientRow]:
        """The epoch's rows, from 1; watching begins anew."""
        norms = self._mean_norms()
        found = [
            GradientRow(
                epoch=epoch,
                stage=stage,
                gradient_norm=norms[place][0],
                gradient_to_weight=norms[place][1],
                dead=self._dead(stage),
                saturated=self._share_saturated(stage),
            )
            for place, stage in enumerate(self._parameters())
        ]
        self._norms, self._alive, self._saturated = [], {}, {}
        return found

    @property
    def state(self) -> dict[str, Any]:
        """What the epoch has shown so far, between two updates: tensors and plain values."""
        return {"norms": self._norms, "alive": self._alive, "saturated": self._saturated}

    def load(self, state: dict[str, Any]) -> None:
        """Put a saved state back."""
        self._norms = [norms.to(self._device) for norms in state["norms"]]
        self._alive = {name: alive.to(self._device) for name, alive in state["alive"].items()}
        self._saturated = {name: counts.to(self._device) for name, counts in state["saturated"].items()}

    @property
    def _device(self) -> torch.device:
        return next(self._model.parameters()).device

    def _mean_norms(self) -> list[tuple[float | None, float | None]]:
        """Of each stage: the gradient's norm, and that divided by the weights'."""
        seen = [norms.cpu().double() for norms in self._norms if torch.isfinite(norms).all()]
        if not seen:
            return [(None, None)] * len(self._parameters())
        norms = torch.stack(seen)  # (updates, stages, 2)
        means = norms[:, :, 0].mean(0).tolist()
        ratios = (norms[:, :, 0] / norms[:, :, 1]).mean(0).tolist()
        trained = (norms[:, :, 1] > 0).all(0).tolist()
        return [
            (mean, ratio) if is_trained else (None, None)
            for mean, ratio, is_trained in zip(means, ratios, trained, strict=True)
        ]

    def _parameters(self) -> dict[str, list[nn.Parameter]]:
        """Of each stage that has any."""
        grouped: dict[str, list[nn.Parameter]] = {}
        for name, parameter in self._model.named_parameters():
            grouped.setdefault(self._stages[name.rpartition(".")[0]], []).append(parameter)
        return grouped

    def _hook(self, name: str) -> Any:
        def watch(module: nn.Module, _inputs: Any, output: Tensor) -> None:
            call = self._calls[name] = self._calls.get(name, -1) + 1
            self._see(f"{name} {call}", module, output.detach(), unit_dimension(self._model, name, output))

        return watch

    def _see(self, place: str, module: nn.Module, output: Tensor, units: int) -> None:
        if isinstance(module, _RECTIFIERS):
            others = [dimension for dimension in range(output.ndim) if dimension != units]
            alive = (output != 0).any(dim=others) if others else output != 0
            self._alive[place] = self._alive[place] | alive if place in self._alive else alive
            return
        slope = (4 * output * (1 - output) if isinstance(module, nn.Sigmoid) else 1 - output * output).float()
        counts = torch.stack([(slope < _GENTLE).sum(), torch.full((), output.numel(), device=output.device)])
        self._saturated[place] = self._saturated[place] + counts if place in self._saturated else counts

    def _of_stage(self, seen: dict[str, Tensor], stage: str) -> Iterator[Tensor]:
        for place, tensor in seen.items():
            if self._stages[place.rpartition(" ")[0]] == stage:
                yield tensor

    def _dead(self, stage: str) -> float | None:
        flags = list(self._of_stage(self._alive, stage))
        return 1 - torch.cat(flags).cpu().double().mean().item() if flags else None

    def _share_saturated(self, stage: str) -> float | None:
        counts = list(self._of_stage(self._saturated, stage))
        if not counts:
            return None
        saturated, values = torch.stack(counts).sum(0).tolist()
        return saturated / values


def is_sampled(place: int, batches: int) -> bool:
    """Whether a batch of an epoch, by its place from 0, is one of those that are watched."""
    samples = min(SAMPLES, batches)
    return any(place == number * batches // samples for number in range(samples))


def stages(model: nn.Module) -> dict[str, str]:
    """The stage of each module, by their names.

    A Classifier's `stages`, with "stem" before the first, "top" between the last and the head, and "head". Of another
    network, the top-level children.
    """
    taps = [stage.name for stage in getattr(model, "stages", ())]
    if not taps:
        return {name: name.partition(".")[0] for name, _ in model.named_modules()}
    found: dict[str, str] = {}
    reached, entered = 0, False
    for name, _ in model.named_modules():
        child = name.partition(".")[0]
        if child in ("head", "head_dropout", "auxiliary"):
            found[name] = child.removesuffix("_dropout")
            continue
        if entered and not _is_within(name, taps[reached]):
            reached, entered = reached + 1, False
        if reached == len(taps):
            found[name] = "top"
            continue
        entered = entered or _is_within(name, taps[reached])
        before_all = reached == 0 and child != taps[0].partition(".")[0]
        found[name] = "stem" if before_all else taps[reached]
    return found


def unit_dimension(model: nn.Module, name: str, output: Tensor) -> int:
    """Which dimension of an activation's output counts units: 1, but the last behind matrix layers on tokens."""
    if output.ndim <= 2:
        return output.ndim - 1
    siblings = list(model.get_submodule(name.rpartition(".")[0]).children())
    behind_matrices = any(isinstance(sibling, nn.Linear) for sibling in siblings)
    behind_kernels = any(isinstance(sibling, nn.Conv2d) for sibling in siblings)
    return output.ndim - 1 if behind_matrices and not behind_kernels else 1


def _is_within(name: str, tap: str) -> bool:
    return name == tap or name.startswith(f"{tap}.")


def _norm(tensors: list[Tensor], device: torch.device) -> Tensor:
    if not tensors:
        return torch.zeros((), device=device)
    return torch.nn.utils.get_total_norm(tensors).float()
