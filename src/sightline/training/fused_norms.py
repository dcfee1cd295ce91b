"""Batch norm on a CPU by compiled loops, and the ReLU, SiLU or GELU behind it in the same pass.

One is behind a batch norm where nothing else reads what the norm gives: a pass through a twin of the network, made of
shapes alone, shows it. The layers' classes are swapped on the network that trains; its parameters and its state's names
stay as they are.
"""

from collections import Counter
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sightline.native import batch_norm
from sightline.native.batch_norm import Activation
from sightline.summary import shapes_alone
from sightline.training.compiled import demand
from sightline.training.rectifying import ACTIVATED, FusedReLU, IntegerReLU, is_activated


class FusedBatchNorm2d(nn.BatchNorm2d):
    """A batch norm by compiled loops, where it trains and is given its own type on a CPU, the channel innermost."""

    dtype = torch.bfloat16
    """Of the images that it takes."""
    activation = Activation.NOTHING
    """What is behind it, whose work is done here too."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.BatchNorm2d's own name for it
        """(B, C, H, W) -> the same shape."""
        own = self.weight, self.bias, self.running_mean, self.running_var
        ours = self.training and input.dtype == self.dtype and batch_norm.takes(input, *own)
        if not ours or torch.compiler.is_compiling():
            return super().forward(input)
        output = cast(Tensor, _Normalize.apply(input, self.weight, self.bias, self))  # pyright: ignore[reportUnknownMemberType]
        if self.activation:
            setattr(output, ACTIVATED, True)
        return output

    def normalize(self, images: Tensor) -> batch_norm.Normalized:
        """(B, C, H, W) of the kind that the loops take; the batch is counted in the running statistics."""
        running, share = None, self.momentum
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            running = self.running_mean, self.running_var
            if self.num_batches_tracked is not None:  # there is none where a batch is seen again
                self.num_batches_tracked.add_(1)
                share = 1 / float(self.num_batches_tracked) if share is None else share
        momentum = share or 0.0
        return batch_norm.normalize(images, self.weight, self.bias, running, momentum, self.eps, self.activation)


class FusedSiLU(nn.SiLU):
    """A SiLU that leaves alone what a batch norm has activated."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.SiLU's own name for it
        """Any shape."""
        return input.view_as(input) if is_activated(input) else super().forward(input)


class FusedGELU(nn.GELU):
    """A GELU that leaves alone what a batch norm has activated."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.GELU's own name for it
        """Any shape."""
        return input.view_as(input) if is_activated(input) else super().forward(input)


class _Normalize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, images: Tensor, weight: Tensor | None, bias: Tensor | None, layer: FusedBatchNorm2d
    ) -> Tensor:
        del weight, bias  # the layer's own, named for autograd
        output, saved = layer.normalize(images)
        ctx.save_for_backward(images, saved)
        ctx.activation = layer.activation  # pyright: ignore[reportAttributeAccessIssue]
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        images, saved = ctx.saved_tensors
        of_images, of_weight, of_bias, _ = ctx.needs_input_grad
        image, weight, bias = batch_norm.gradients(images, grad, saved, ctx.activation, of_images=of_images)
        return image, weight if of_weight else None, bias if of_bias else None, None


_ACTIVATIONS: dict[type[nn.Module], Activation] = {
    nn.ReLU: Activation.RELU, FusedReLU: Activation.RELU, IntegerReLU: Activation.RELU,
    nn.SiLU: Activation.SILU, FusedSiLU: Activation.SILU,
    nn.GELU: Activation.GELU, FusedGELU: Activation.GELU,
}  # fmt: skip
_FUSED: dict[type[nn.Module], type[nn.Module]] = {nn.ReLU: FusedReLU, nn.SiLU: FusedSiLU, nn.GELU: FusedGELU}
_DTYPES = {"bf16": torch.bfloat16, "float32": torch.float32}
_PROCESSORS = {"bf16": "AVX-512 BF16", "float32": "AVX2"}


def has_norms(model: nn.Module, precision: str) -> bool:
    """Whether there is a batch norm, and this machine can compute it so in that precision."""
    is_there = any(_is_plain(module) for module in model.modules())
    return is_there and precision in _DTYPES and batch_norm.available(_DTYPES[precision])


def check_norms(precision: str) -> None:
    """Raise RecipeError where this machine can't compute batch norms so, in bf16 or float32."""
    dtype = _DTYPES[precision]
    demand(
        "train.fused_norms", _PROCESSORS[precision],
        has_processor=partial(batch_norm.has_processor, dtype), is_available=partial(batch_norm.available, dtype),
    )  # fmt: skip


def fuse_norms(model: nn.Module, precision: str, side: int) -> int:
    """Have every batch norm compute so, with the activation behind it, and return how many there are.

    `precision` is bf16 or float32, `side` that of the network's images, in pixels. Raises RecipeError where this
    machine can't.
    """
    check_norms(precision)
    behind = _behind(model, side)
    found = [(name, module) for name, module in model.named_modules() if _is_plain(module)]
    for name, module in found:
        module.__class__ = FusedBatchNorm2d
        norm = cast(FusedBatchNorm2d, module)
        norm.dtype, norm.activation = _DTYPES[precision], behind.get(name, Activation.NOTHING)
    for module in model.modules():
        if type(module) in _FUSED:
            module.__class__ = _FUSED[type(module)]
    return len(found)


def _is_plain(module: nn.Module) -> bool:
    return type(module) in (nn.BatchNorm2d, FusedBatchNorm2d)


def _is_known(module: nn.Module) -> bool:
    """Whether it is an activation whose work a batch norm can do."""
    return type(module) in _ACTIVATIONS and getattr(module, "approximate", "none") == "none"


def _behind(model: nn.Module, side: int) -> dict[str, Activation]:
    """What alone reads the result of a batch norm, each time, by the norm's name."""
    with shapes_alone(model, batch_size=2, image_size=side) as (twin, images), torch.no_grad():
        watch = _Watch(twin)
        try:
            with watch:
                cast(Any, twin).training_outputs(images) if hasattr(twin, "training_outputs") else twin(images)
        except RuntimeError:  # a network that asks for values: what it would have read from there on isn't known
            return {}
    return {
        name: activation
        for (name, activation), times in watch.taken.items()
        if times == watch.given[name] and name not in watch.read
    }


class _Watch(TorchDispatchMode):
    """Sees where the results of batch norms go."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.given = Counter[str]()
        """How often each batch norm computed."""
        self.taken = Counter[tuple[str, Activation]]()
        """How often an activation took the result."""
        self.read = set[str]()
        """The batch norms whose result something else took."""
        self._results: dict[int, tuple[str, Tensor]] = {}  # by identity; held, so that no other tensor takes it
        self._inside: Tensor | None = None
        for name, module in model.named_modules():
            if _is_plain(module):
                module.register_forward_hook(partial(self._give, name))
            elif _is_known(module):
                module.register_forward_pre_hook(self._enter)
                module.register_forward_hook(self._leave)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for value in tree_leaves((args, kwargs)):
            if value is not self._inside and id(value) in self._results:
                self.read.add(self._results[id(value)][0])
        return func(*args, **(kwargs or {}))

    def _give(self, name: str, _module: nn.Module, _inputs: tuple[Tensor], output: Tensor) -> None:
        self.given[name] += 1
        self._results[id(output)] = name, output

    def _enter(self, module: nn.Module, inputs: tuple[Tensor]) -> None:
        if inputs and id(inputs[0]) in self._results:
            self.taken[self._results[id(inputs[0])][0], _ACTIVATIONS[type(module)]] += 1
            self._inside = inputs[0]

    def _leave(self, module: nn.Module, _inputs: tuple[Tensor], _output: Tensor) -> None:
        overwritten = self._inside is not None and getattr(module, "inplace", False)
        if overwritten:  # what is read from now on is the activation's
            del self._results[id(self._inside)]
        self._inside = None
