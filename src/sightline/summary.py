"""What a network costs before it runs: parameters, multiply-accumulates, activations, training memory.

Everything is found by running a twin of the network whose tensors have shapes but no content, so that the
largest network costs nothing, and the network itself, the random generators and the devices stay untouched.
"""

import copy
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode  # the tensors torch.export traces with
from torch.utils.flop_counter import FlopCounterMode

from sightline.errors import ModelError, unknown_name

OPTIMIZER_STATES = {
    "sgd": 1,
    "adam": 2,
    "adamw": 2,
    "nadam": 2,
    "radam": 2,
    "rmsprop": 1,
    "adagrad": 1,
    "lamb": 2,
    "lion": 1,
    "muon": 1,
    "schedulefree_adamw": 2,
}
"""Tensors of a parameter's size that an optimiser keeps for it: momentum, or the two running means."""

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class Counts:
    """A network's size."""

    params: int
    trainable_params: int
    macs: int
    """Multiply-accumulates of convolutions, matrix products and attention for one image."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A row of the layer table: a module that computes or owns something itself, beside its children."""

    name: str
    """As in `named_modules`; the network itself is ""."""
    kind: str
    output: tuple[int, ...]
    """The output's shape for one image, without the batch."""
    params: int
    """Owned by this module, not by its children."""
    macs: int
    activation_bytes: int
    """Kept for the backward pass, for one image, in float32."""


@dataclass(frozen=True, slots=True)
class TrainingMemory:
    """Bytes that training holds at once, on the device; the parts of an estimate."""

    weights: int
    """Parameters and buffers."""
    gradients: int
    optimizer: int
    activations: int
    """Kept for the backward pass, the batch of images included."""

    @property
    def total(self) -> int:
        """All of it, in bytes."""
        return self.weights + self.gradients + self.optimizer + self.activations


@dataclass
class _Trace:
    """What one pass through a twin showed."""

    layers: list[Layer]
    macs: int
    saved_bytes: int


def num_parameters(model: nn.Module) -> int:
    """Parameters, each shared one counted once."""
    return sum(parameter.numel() for parameter in model.parameters())


def num_macs(model: nn.Module, image_size: int) -> int:
    """Multiply-accumulates for one image of `image_size` pixels squared, in evaluation."""
    twin, fake = _twin(model)
    with _counting(fake) as counter, torch.no_grad():
        twin.eval()(_images(twin, 1, image_size))
    return counter.get_total_flops() // 2


def count(model: nn.Module, image_size: int) -> Counts:
    """Parameters and multiply-accumulates for one image of `image_size` pixels squared."""
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return Counts(num_parameters(model), trainable, num_macs(model, image_size))


def layer_table(model: nn.Module, image_size: int) -> list[Layer]:
    """The layers in the order in which they end, for one image of `image_size` pixels squared."""
    return _trace(model, batch_size=2, image_size=image_size, precision="float32").layers


def training_memory(
    model: nn.Module, *, batch_size: int, image_size: int, optimizer: str = "adamw", precision: str = "float32"
) -> TrainingMemory:
    """An estimate of the memory that training takes, beside what the libraries themselves take.

    `precision` is "float32", or "bf16" or "fp16" for mixed precision, whose weights and optimiser states stay float32.
    Auxiliary classifiers are included; with activation checkpointing, the largest block's activations come on top.

    Against the peak resident memory of two steps on a CPU the estimate is 3 to 5% low (ResNet-18's CIFAR form,
    ResNet-50, EfficientNet-B0, ViT-Ti/16), where the allocator returns what is freed (MALLOC_MMAP_THRESHOLD_=65536).
    As it comes, glibc's keeps pieces: larger batches of three of them held 16 to 62% more than the estimate.

    Raises ModelError for an optimiser or a precision it doesn't know.
    """
    if optimizer not in OPTIMIZER_STATES:
        raise ModelError(unknown_name("optimiser", optimizer, OPTIMIZER_STATES, listing="`sightline models --help`"))
    if precision not in ("float32", *_AUTOCAST):
        raise ModelError(f"The precision must be float32, bf16 or fp16, got {precision!r}.")
    traced = max(batch_size, 2)  # batch norm can't train on one value
    activations = _trace(model, batch_size=traced, image_size=image_size, precision=precision).saved_bytes
    trainable = sum(_num_bytes(parameter) for parameter in model.parameters() if parameter.requires_grad)
    return TrainingMemory(
        weights=sum(_num_bytes(tensor) for tensor in (*model.parameters(), *model.buffers())),
        gradients=trainable,
        optimizer=trainable * OPTIMIZER_STATES[optimizer],
        activations=activations * batch_size // traced,
    )


@contextmanager
def shapes_alone(model: nn.Module, *, batch_size: int, image_size: int) -> Generator[tuple[nn.Module, Tensor]]:
    """A twin of the network in training, and images (B, C, H, W) for it: neither has values, and no pass takes time."""
    twin, fake = _twin(model)
    with fake:
        yield twin.train(), _images(twin, batch_size, image_size)


def _twin(model: nn.Module) -> tuple[nn.Module, FakeTensorMode]:
    """A copy with tensors without content in place of parameters and buffers, and the mode to run it in."""
    fake = FakeTensorMode(allow_non_fake_inputs=True)  # a tensor that is neither may sit in an attribute
    replaced: dict[int, Any] = {}
    with fake:
        for tensor in (*model.parameters(), *model.buffers()):
            empty = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
            is_parameter = isinstance(tensor, nn.Parameter)
            replaced[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if is_parameter else empty
    return copy.deepcopy(model, replaced), fake


def _images(model: nn.Module, batch_size: int, image_size: int) -> Tensor:
    return torch.empty(batch_size, num_input_channels(model), image_size, image_size)


def num_input_channels(model: nn.Module) -> int:
    """Channels of the images a network takes: those of its first convolution, or 3 without any."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            return module.in_channels
    return 3


@contextmanager
def _counting(fake: FakeTensorMode) -> Generator[FlopCounterMode]:
    counter = FlopCounterMode(display=False)
    with fake, counter:
        yield counter


def _trace(model: nn.Module, *, batch_size: int, image_size: int, precision: str) -> _Trace:
    """One training pass; each layer's figures are for one image, `saved_bytes` for the batch."""
    twin, fake = _twin(model)
    twin.train()
    ledger = _Ledger({_storage(tensor) for tensor in (*twin.parameters(), *twin.buffers())})
    for name, module in twin.named_modules():
        module.register_forward_pre_hook(partial(ledger.enter, name))
        module.register_forward_hook(partial(ledger.leave, name))
    autocast = torch.autocast("cpu", _AUTOCAST[precision]) if precision in _AUTOCAST else nullcontext()
    hooks = torch.autograd.graph.saved_tensors_hooks(ledger.save, lambda tensor: tensor)
    with _counting(fake) as ledger.counter, autocast, hooks, torch.enable_grad():
        images = _images(twin, batch_size, image_size)
        ledger.save(images)
        outputs = cast(Any, twin).training_outputs(images) if hasattr(twin, "training_outputs") else twin(images)
        del outputs
    layers = [
        Layer(row.name, row.kind, row.output, row.params, row.macs // batch_size, row.activation_bytes // batch_size)
        for row in ledger.layers
    ]
    return _Trace(layers, ledger.counter.get_total_flops() // 2, ledger.saved_bytes)


@dataclass
class _Ledger:
    """Books multiply-accumulates and saved tensors to the innermost module that runs."""

    known: set[int]
    """Storages that are counted already: the weights at first."""
    counter: FlopCounterMode = field(default_factory=lambda: FlopCounterMode(display=False))
    layers: list[Layer] = field(default_factory=list[Layer])
    saved_bytes: int = 0
    _kept: list[Any] = field(default_factory=list[Any])
    _open: list[tuple[str, int, int, list[int]]] = field(default_factory=list[tuple[str, int, int, list[int]]])
    """(name, operations before, bytes before, [operations and bytes of its children])."""

    def save(self, tensor: Tensor) -> Tensor:
        """Count a tensor kept for the backward pass, once for each storage."""
        if _storage(tensor) not in self.known:
            self.known.add(_storage(tensor))
            self._kept.append(tensor.untyped_storage())  # alive, or its address could be another's
            self.saved_bytes += tensor.untyped_storage().nbytes()
        return tensor

    def enter(self, name: str, _module: nn.Module, _inputs: object) -> None:
        """A module begins."""
        self._open.append((name, self.counter.get_total_flops(), self.saved_bytes, [0, 0]))

    def leave(self, name: str, module: nn.Module, _inputs: object, output: object) -> None:
        """A module ends: what it did beyond its children is its own row."""
        opened, flops, saved, of_children = self._open.pop()
        assert opened == name
        flops, saved = self.counter.get_total_flops() - flops, self.saved_bytes - saved
        if self._open:
            self._open[-1][3][0] += flops
            self._open[-1][3][1] += saved
        params = sum(parameter.numel() for parameter in module.parameters(recurse=False))
        own_macs, own_saved = (flops - of_children[0]) // 2, saved - of_children[1]
        if params or own_macs or own_saved or not list(module.children()):
            kind = type(module).__name__
            self.layers.append(Layer(name, kind, _shape(output), params, own_macs, own_saved))


def _shape(output: object) -> tuple[int, ...]:
    """Of the first tensor in a module's output, without the batch."""
    while isinstance(output, (list, tuple)) and output:
        output = cast(Any, output)[0]
    return tuple(output.shape[1:]) if isinstance(output, Tensor) else ()


def _storage(tensor: Tensor) -> int:
    return cast(Any, tensor.untyped_storage())._cdata


def _num_bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
