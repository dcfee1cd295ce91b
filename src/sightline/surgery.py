"""Change a network that exists: works on any module, timm's and torchvision's included.

Everything is changed in place, and found by what modules are, never by which network they belong to.
"""

import copy
import inspect
import re
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]  # 1d, 2d, 3d and synchronised
from torch.nn.modules.dropout import _DropoutNd  # pyright: ignore[reportPrivateUsage]  # every dropout, by channel too

from sightline.errors import ModelError, unknown_name
from sightline.layers.drop_path import DropPath, linear_rates

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "celu": nn.CELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "hardswish": nn.Hardswish,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
    "softsign": nn.Softsign,
    "prelu": nn.PReLU,
}
"""What `replace_activation` can put in."""

NORMS = ("batch", "group", "layer", "none")
"""What `replace_norm` can put in."""

_RECOGNISED = (
    *ACTIVATIONS.values(),
    *(nn.Threshold, nn.RReLU, nn.Hardtanh, nn.Hardsigmoid, nn.Hardshrink, nn.LogSigmoid, nn.Softshrink, nn.Tanhshrink),
)
_GATES = ("gate", "scale_activation")
"""What timm and torchvision call the last function of squeeze-and-excitation: a gate from 0 to 1, no activation."""
_FUNCTIONS = ("relu", "relu6", "leaky_relu", "elu", "celu", "selu", "gelu", "silu", "mish", "hardswish", "prelu")
_FUNCTION_CALL = re.compile(rf"\b(?:F|functional|torch)\.(?:{'|'.join(_FUNCTIONS)})_?\(")


def replace_activation(model: nn.Module, name: str) -> int:
    """Swap every activation for the named one, and return how many there were.

    Modules and functions kept in an attribute are found; the gates of squeeze-and-excitation stay. "In place"
    stays where the new activation knows it. Raises ModelError for an unknown name, when there is no activation,
    and when a layer calls one inside its forward, where it can't be reached: then nothing is changed.
    """
    if name not in ACTIVATIONS:
        raise ModelError(unknown_name("activation", name, ACTIVATIONS, listing="`sightline recipes --explain`"))
    unreachable = sorted({type(module).__name__ for module in model.modules() if _calls_a_function(module)})
    if unreachable:
        raise ModelError(
            f"model.activation: {', '.join(unreachable)} calls its activation as a function, which can't be replaced. "
            "Choose an architecture whose activations are layers, or leave model.activation at null."
        )
    places = [
        (parent, child_name, child)
        for parent in model.modules()
        for child_name, child in (*_children(parent), *_functions_kept_by(parent))
        if child_name not in _GATES and _is_activation(child)
    ]
    if not places:
        raise ModelError("model.activation: this network has no activation layer that could be replaced.")
    anywhere = next(model.parameters(), torch.empty(0))
    for parent, child_name, child in places:
        vars(parent).pop(child_name, None)
        setattr(parent, child_name, _activation(name, in_place=getattr(child, "inplace", False), like=anywhere))
        if isinstance(parent, nn.TransformerEncoderLayer):
            parent.activation_relu_or_gelu = 0  # its fast path would compute the old one
    return len(places)


def _is_activation(child: object) -> bool:
    if isinstance(child, nn.Module):
        return isinstance(child, _RECOGNISED) or type(child).__module__.startswith("timm.layers.activations")
    return True  # a function that `_functions_kept_by` found


def _children(parent: nn.Module) -> list[tuple[str, nn.Module]]:
    """Under every name: `named_children` leaves out a second name of the same module."""
    return [(name, child) for name, child in parent.named_modules(remove_duplicate=False) if name and "." not in name]


def _functions_kept_by(module: nn.Module) -> list[tuple[str, object]]:
    known = {getattr(F, name) for name in _FUNCTIONS} | {torch.relu}
    return [(key, value) for key, value in vars(module).items() if inspect.isroutine(value) and value in known]


def _calls_a_function(module: nn.Module) -> bool:
    """Whether a layer outside of torch.nn, and no activation itself, names an activation function in its forward."""
    kind = type(module)
    if kind.__module__.startswith("torch.nn.") or _is_activation(module):
        return False
    try:
        return bool(_FUNCTION_CALL.search(inspect.getsource(kind.forward)))
    except (OSError, TypeError):  # compiled or typed in: there is no source to read
        return False


def _activation(name: str, *, in_place: bool, like: Tensor) -> nn.Module:
    kind = ACTIVATIONS[name]
    if in_place and "inplace" in inspect.signature(kind).parameters:
        return cast(Any, kind)(inplace=True)
    return kind().to(device=like.device, dtype=like.dtype)  # PReLU has a parameter


class _ScaleAndShift(nn.Module):
    """What is left of a norm that normalises nothing: (B, C, ...) * weight + bias."""

    def __init__(self, num_channels: int, **like: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_channels, **like))
        self.bias = nn.Parameter(torch.zeros(num_channels, **like))

    def forward(self, x: Tensor) -> Tensor:
        shape = (-1, *(1,) * (x.ndim - 2))
        return x * self.weight.view(shape) + self.bias.view(shape)


def replace_norm(model: nn.Module, name: str) -> int:
    """Swap every batch norm for the named one, and return how many there were.

    "group" normalises 32 groups of channels of each image, or as many as divide the channels evenly and leave two in
    each; "layer" one group of them all, over C, H and W (Group Normalization, Wu and He, 2018, section 3.1 and its
    table 3); "none" keeps the scale and the shift alone; "batch" is what they are. Scales, shifts and the small
    constant stay, the statistics go. Raises ModelError for an unknown name, and when there is no batch norm.
    """
    if name not in NORMS:
        raise ModelError(unknown_name("norm", name, NORMS, listing="`sightline recipes --explain`"))
    places = [(path, module) for path, module in model.named_modules() if isinstance(module, _BatchNorm)]
    if not places:
        raise ModelError("model.norm: this network has no batch norm that could be replaced. Leave it at null.")
    for path, module in places if name != "batch" else ():
        new = _norm(name, module)
        # timm's batch norms hold the activation that follows them
        model.set_submodule(path, nn.Sequential(new, *module.children()) if list(module.children()) else new)
    return len(places)


def _norm(name: str, old: _BatchNorm) -> nn.Module:
    channels, affine = old.num_features, old.affine
    anywhere = old.weight if affine else next(old.buffers(), torch.empty(0))
    like: dict[str, Any] = {"device": anywhere.device, "dtype": anywhere.dtype}
    if name == "none":
        new = _ScaleAndShift(channels, **like) if affine else nn.Identity()
    else:
        new = nn.GroupNorm(num_groups(channels) if name == "group" else 1, channels, old.eps, affine, **like)
    if affine:
        new.load_state_dict({"weight": old.weight.detach(), "bias": old.bias.detach()})
    return new.train(old.training)


def num_groups(channels: int) -> int:
    """The most groups up to 32 that divide the channels evenly with two or more in each.

    One channel alone, on a map of one pixel, would be normalised to nothing.
    """
    return max(groups for groups in range(1, 33) if channels % groups == 0 and (channels >= 2 * groups or groups == 1))


def set_dropout(model: nn.Module, rate: float) -> None:
    """Give every dropout layer this rate. Raises ModelError when there is none, or for a rate outside 0 to 1.

    Where a network calls dropout as a function, its rate is the attribute `drop_rate` (timm, torchvision's DenseNet).
    """
    _check_rate("model.dropout", rate)
    found = False
    for module in model.modules():
        for attribute in ("p",) if isinstance(module, _DropoutNd) else ("drop_rate",):
            if isinstance(getattr(module, attribute, None), float | int):
                setattr(module, attribute, rate)
                found = True
    if not found:
        raise ModelError("model.dropout: this network has no dropout layer.")


def set_drop_path(model: nn.Module, rate: float) -> None:
    """Stochastic depth that climbs from 0 at the first block to `rate` at the last.

    The branches of one block have one rate. timm leaves a place for it in each block (an Identity or None called
    drop_path), which is filled. Raises ModelError when the network has no residual branches to skip, or for a rate
    outside 0 to 1.
    """
    _check_rate("model.drop_path", rate)
    blocks: list[list[nn.Module]] = []
    for parent in model.modules():
        _fill_empty_drop_paths(parent)
        layers = [child for child in parent.children() if _drop_path_attribute(child)]
        if layers:
            blocks.append(layers)
    if not blocks:
        raise ModelError("model.drop_path: this network has no residual branch that could be skipped.")
    for layers, block_rate in zip(blocks, linear_rates(rate, len(blocks)), strict=True):
        for layer in layers:
            setattr(layer, _drop_path_attribute(layer), block_rate)


def dropout_of(model: nn.Module) -> float | None:
    """The rate that every dropout layer has; None where there is none, or where they differ."""
    rates = {
        float(rate)
        for module in model.modules()
        for rate in [getattr(module, "p" if isinstance(module, _DropoutNd) else "drop_rate", None)]
        if isinstance(rate, float | int)
    }
    return rates.pop() if len(rates) == 1 else None


def drop_path_of(model: nn.Module) -> float | None:
    """The rate that `set_drop_path` would change nothing by; None where there is none."""
    rates = _drop_paths(model)
    same = copy.deepcopy(model)
    try:
        set_drop_path(same, max(rates, default=0.0))
    except ModelError:
        return None
    return max(rates, default=0.0) if _drop_paths(same) == rates else None


def _drop_paths(model: nn.Module) -> list[float]:
    """The rates above 0, in the order of the blocks."""
    layers = [module for module in model.modules() if _drop_path_attribute(module)]
    return [rate for layer in layers if (rate := float(getattr(layer, _drop_path_attribute(layer)))) > 0]


def _fill_empty_drop_paths(parent: nn.Module) -> None:
    empty = [name for name, value in vars(parent).items() if name.startswith("drop_path") and value is None]
    empty += [name for name, child in parent.named_children() if type(child) is nn.Identity]
    for name in empty:
        if name.startswith("drop_path"):
            setattr(parent, name, DropPath())


def _drop_path_attribute(module: nn.Module) -> str:
    """What the rate is called: in ours, in timm's, in torchvision's; "" when it is no such layer."""
    if isinstance(module, DropPath):
        return "rate"
    return {"DropPath": "drop_prob", "StochasticDepth": "p"}.get(type(module).__name__, "")


def replace_head(model: nn.Module, num_classes: int) -> None:
    """Put a fresh linear layer in place of the head, and of each auxiliary classifier's.

    In other networks than ours and timm's the head is the last linear layer. Its weights start as torch's
    nn.Linear has them. Raises ModelError when there is none, or for fewer than one class.
    """
    if num_classes < 1:
        raise ModelError(f"A head needs at least 1 class, got {num_classes}.")
    if hasattr(model, "reset_classifier"):  # timm's own name for it: a head may be more than a layer there
        cast(Any, model).reset_classifier(num_classes)
        return
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ModelError("This network has no linear layer that could be its head.")
    heads = [name for name in linear if name == "head" or re.fullmatch(r"auxiliary\..*\bhead", name)]
    for name in heads or linear[-1:]:
        old = cast(nn.Linear, model.get_submodule(name))
        has_bias = "bias" in dict(old.named_parameters())
        like = {"device": old.weight.device, "dtype": old.weight.dtype}
        model.set_submodule(name, nn.Linear(old.in_features, num_classes, bias=has_bias, **like))


def change_input_channels(model: nn.Module, channels: int, mode: Literal["average", "repeat"] = "average") -> None:
    """Let the first convolution take images of another number of channels, keeping what it has learned.

    "average" gives each new channel the mean of the old kernels, "repeat" takes the old ones in turn; both are
    scaled by old / new channels, so that what is the same in every channel gives the same response as before
    (with "repeat", where the new number is a multiple of the old). Raises ModelError when it can't be done.
    """
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    if first is None or first.groups != 1:
        raise ModelError("This network does not begin with a plain convolution, whose channels could be changed.")
    if channels < 1:
        raise ModelError(f"Images need at least 1 channel, got {channels}.")
    old = first.weight.detach()  # (C_out, C_in, kernel, kernel)
    if mode == "average":
        kernel = old.mean(1, keepdim=True).expand(-1, channels, -1, -1)
    else:
        kernel = old[:, torch.arange(channels, device=old.device) % first.in_channels]
    first.weight = nn.Parameter((kernel * (first.in_channels / channels)).contiguous(), first.weight.requires_grad)
    first.in_channels = channels


def freeze_up_to(model: nn.Module, stage: str) -> list[str]:
    """Train nothing up to and including this stage, and return the names of the frozen parameters.

    `stage` is one of a Classifier's `stages`, or any submodule's name; what is defined before it is frozen with it.
    Frozen batch norms also keep their statistics and use them in training, as when a feature extractor is reused:
    otherwise they would drift although nothing is trained. Raises ModelError for an unknown stage.
    """
    modules = dict(model.named_modules())
    within = names_up_to(model, stage)
    frozen = [name for name, _ in model.named_parameters() if name.rpartition(".")[0] in within]
    for name in frozen:
        model.get_parameter(name).requires_grad = False
    for name in within:
        if isinstance(modules[name], _BatchNorm):
            modules[name].eval()
            modules[name].register_forward_pre_hook(_stay_in_evaluation)
    return frozen


def names_up_to(model: nn.Module, stage: str) -> set[str]:
    """The submodules that are defined before the end of this one. Raises ModelError for an unknown stage."""
    order = [name for name, _ in model.named_modules()]  # one stands before its children, and they before what follows
    if stage not in order or stage == "":
        known = [found.name for found in getattr(model, "stages", ())] or order
        raise ModelError(unknown_name("stage", stage, known, listing="`sightline models NAME`"))
    end = max(index for index, name in enumerate(order) if name == stage or name.startswith(f"{stage}."))
    return set(order[: end + 1])


def _stay_in_evaluation(module: nn.Module, _inputs: object) -> None:
    module.eval()


def _check_rate(setting: str, rate: float) -> None:
    if not 0 <= rate < 1:
        raise ModelError(f"{setting} must be at least 0 and below 1, got {rate}.")
