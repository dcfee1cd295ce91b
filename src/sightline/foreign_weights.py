"""Weights that another library wrote: read without running code, renamed, and checked against the network.

Whether a file names its tensors as torchvision, timm or we do is found from the names themselves.
"""

import math
import pickle
import re
import struct
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import ModelError

Renaming = tuple[tuple[str, str | None], ...]
"""Regular expressions and replacements, applied to each tensor's name in turn; None drops the tensor."""

SHOWN = 5
"""Names of tensors that an error lists."""

_NOT_WEIGHTS = (
    *(SafetensorError, pickle.UnpicklingError, zipfile.BadZipFile, struct.error, EOFError, RuntimeError),
    *(ValueError, LookupError, TypeError, AttributeError, OverflowError),  # what a pickle of noise runs into
)
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.", "model.")


def load_weights(
    model: nn.Module,
    state: Mapping[str, Tensor],
    renamings: Mapping[str, Renaming],
    *,
    form_changed: str,
    called: str,
    complete: bool = False,
) -> tuple[str, ...]:
    """Copy a state dict into a network, and return sentences on every tensor that was left fresh.

    The head's tensors may have another number of classes or be missing all, and so may auxiliary classifiers. Where the
    network isn't in its native form (`form_changed` says how; else ""), tensors of another shape may be left fresh too.
    With `complete` the head's tensors must be there and fit.
    `called` names the weights in errors. Raises ModelError when they belong to another architecture.
    """
    expected = model.state_dict()
    state = max(
        (
            {ours: state[theirs] for theirs, ours in rename(state, renaming).items()}
            for renaming in ((), *renamings.values())
        ),
        key=lambda renamed: sum(_fits(renamed, name, tensor) for name, tensor in expected.items()),
    )
    resampled = {name: _resampled(name, tensor, expected.get(name)) for name, tensor in state.items()}
    positions = [name for name, tensor in resampled.items() if tensor.numel() != state[name].numel()]
    state = resampled
    fitting = {name: state[name] for name, tensor in expected.items() if _fits(state, name, tensor)}
    lacking = [name for name in expected if name not in fitting and not name.endswith("num_batches_tracked")]
    heads = [name for name in lacking if name.startswith("head.")]
    headless = bool(heads) and not any(name.startswith("head.") for name in state)
    heads = heads if headless else [name for name in heads if name in state]
    auxiliary = [name for name in lacking if name.startswith("aux")]
    changed = [name for name in lacking if name not in (*heads, *auxiliary) and name in state and form_changed]
    unexpected = [name for name in state if name not in expected and not name.startswith("aux")]
    wrong = [name for name in lacking if name not in (*heads, *auxiliary, *changed)]
    if complete and heads and not wrong and not unexpected:
        raise ModelError(f"{called} {_known(state, expected, heads[0])}.")
    wrong += heads if complete else []
    if wrong or (unexpected and not form_changed) or len(fitting) * 2 < len(expected):
        problem = _problem(state, expected, (*wrong, *lacking, *unexpected)[0])
        if complete:
            problem += _listed("Missing", [name for name in wrong if name not in state])
            problem += _listed("Left over", unexpected)
        raise ModelError(
            f"{called} do not belong to this network: {len(fitting)} of its {len(expected)} tensors fit. {problem}"
        )
    model.load_state_dict({**expected, **fitting})
    notes = [f"Positions were interpolated to the network's grid: {', '.join(positions)}."] if positions else []
    if headless:
        notes.append("The head is fresh: the weights have none.")
    elif heads:
        known, wanted = len(state[heads[0]]), len(expected[heads[0]])
        notes.append(f"The head is fresh: the weights know {known} classes, the network {wanted}.")
    if auxiliary:
        notes.append(f"Of the auxiliary classifiers these are fresh: {', '.join(auxiliary)}.")
    if changed:
        notes.append(f"{len(changed)} tensors are fresh, as {form_changed}: {', '.join(changed)}.")
    return tuple(notes)


def _known(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], head: str) -> str:
    """What weights know of the classes that are wanted, as the end of a sentence."""
    wanted = len(expected[head])
    if head not in state:
        return f"have no head, so that they know no classes, but {wanted} are named: train on them by model.pretrained"
    return f"know {len(state[head])} classes, but {wanted} are named"


def _fits(state: Mapping[str, Tensor], name: str, tensor: Tensor) -> bool:
    return name in state and state[name].shape == tensor.shape


def _problem(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], name: str) -> str:
    if name not in expected:
        return f"The network has no {name!r}."
    if name not in state:
        return f"They lack {name!r}."
    return f"{name!r} is {_shape(state[name])} there and {_shape(expected[name])} in the network."


def _listed(title: str, names: Sequence[str]) -> str:
    """The first few names and the number of the rest, as a sentence to put behind another; "" without any."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return f" {title}: {', '.join(map(repr, names[:SHOWN]))}{more}." if names else ""


def _resampled(name: str, tensor: Tensor, expected: Tensor | None) -> Tensor:
    """Learned positions on another grid, interpolated to the network's; other tensors keep their values.

    As the papers do for other sizes (ViT, section 3.2; Swin, section 3.2). ViT: (1, 1 + G G, D), the class token's
    first; Swin: (R R, N), a square table of offsets for each head.
    """
    if expected is None or tensor.shape == expected.shape:
        return tensor
    if tensor.shape == (*expected.shape, 1, 1):  # a 1x1 convolution that is a linear layer here
        return tensor[:, :, 0, 0]
    if tensor.ndim != expected.ndim:
        return tensor
    if name == "pos_embed" and tensor.shape[2] == expected.shape[2]:
        grid = _resized_square(tensor[0, 1:], expected.shape[1] - 1)
        return torch.cat((tensor[:, :1], grid[None]), 1)
    if name.endswith("bias_table") and tensor.shape[1] == expected.shape[1]:
        return _resized_square(tensor, expected.shape[0])
    return tensor


def _resized_square(rows: Tensor, num_rows: int) -> Tensor:
    """(G G, D) -> (num_rows, D), bicubic over the G by G square; the rows as they are where there is no square."""
    old, new = math.isqrt(len(rows)), math.isqrt(num_rows)
    if old**2 != len(rows) or new**2 != num_rows:
        return rows
    square = rows.float().T.reshape(1, -1, old, old)
    return F.interpolate(square, (new, new), mode="bicubic", antialias=True).flatten(2)[0].T.to(rows.dtype)


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file or a torch checkpoint, by name; nothing in it is run.

    A state dict may lie in another (state_dict, model, model_state_dict), and all names may share a prefix
    (module., model.): both are taken off. Raises ModelError for a file that holds no state dict.
    """
    try:
        if path.suffix == ".safetensors":
            content: Any = safetensors.torch.load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelError(f"{str(path)!r} can't be read: {error.strerror or error}.") from error
    except _NOT_WEIGHTS as error:
        raise ModelError(
            f"{str(path)!r} can't be read as weights: it is damaged, or holds more than tensors and plain values. "
            "Save its state_dict() alone, best as .safetensors."
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping):
        raise ModelError(f"{str(path)!r} holds no state dict, but a {type(content).__name__}.")
    state = {str(name): tensor for name, tensor in content.items() if isinstance(tensor, Tensor)}
    if not state:
        raise ModelError(f"{str(path)!r} holds no tensors.")
    _check_kinds(state, path)
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _check_kinds(state: Mapping[str, Tensor], path: Path) -> None:
    for name, tensor in state.items():
        if not _plain(tensor):
            raise ModelError(
                f"{str(path)!r} can't be used as weights: {name!r} is {_kind(tensor)}, where plain tensors of real "
                "numbers are expected."
            )


def _plain(tensor: Tensor) -> bool:
    """Whether it is dense, real and here: its values can be copied into a network's."""
    here = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_nested
    return here and not tensor.is_complex() and not tensor.is_quantized


def _kind(tensor: Tensor) -> str:
    layout = "" if tensor.layout == torch.strided else f" in the layout {str(tensor.layout).removeprefix('torch.')}"
    where = "" if tensor.device.type == "cpu" else f" on the device {tensor.device.type!r}"
    return f"of {str(tensor.dtype).removeprefix('torch.')}{layout}{where}"


def rename(names: Iterable[str], renaming: Renaming) -> dict[str, str]:
    """Our name for each of a publisher's names; those that the renaming drops are left out."""
    ours: dict[str, str] = {}
    for name in names:
        renamed: str | None = name
        for pattern, replacement in renaming:
            if renamed is not None and re.search(pattern, renamed):
                renamed = None if replacement is None else re.sub(pattern, replacement, renamed)
        if renamed is not None:
            ours[name] = renamed
    return ours
