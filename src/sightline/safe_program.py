"""Is a .pt2 archive data alone? `torch.export.load` would run what a prepared one tells it to.

It falls back to unrestricted pickles (torch/_export/serde/serialize.py, `deserialize_torch_artifact`), reads constants
as pickles where their table says so, evaluates shapes and guards as Python, and calls any function of torch that a
graph names. So an archive is looked through first, and only what Sightline's own exports hold is let pass: raw tensors,
calls of the operators in `OPERATORS`, and shapes that are arithmetic. ATen has others that read and write files
(`from_file`), lay tensors over foreign memory or give what memory held before; a program that calls one is refused.
"""

import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

from sightline.errors import ModelError

_MEMBERS = re.compile(
    r"[^/]+/(models/model\.json|data/(weights|constants)/(weight|tensor)_\d+|data/sample_inputs/model\.pt"
    r"|data/(weights|constants)/model_(weights|constants)_config\.json|extra/[\w.]+"
    r"|archive_format|archive_version|byteorder|\.data/\w+)"
)
_PAYLOAD = re.compile(r"(weight|tensor)_\d+")
_OPERATOR = re.compile(r"torch\.ops\.aten\.(\w+)\.(?!\w*out$)\w+")
"""One that gives a new tensor; its overloads that end in "out" write into one that is given."""
_PYTHON = re.compile(r"_operator\.(getitem|add|sub|mul|floordiv|mod|neg|eq|ne|lt|le|gt|ge)")
_EXPRESSION = re.compile(
    r"(?:\b(?:Symbol|Integer|Add|Mul|Pow|Mod|FloorDiv|Max|Min|positive|integer|nonnegative|True|False)\b|'[su]\d+'"
    r"|\b[su]\d+\b|\b\d+\b|[-+*/(),= ])*"
)

_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, struct.error, UnpicklingError, EOFError, OSError),
    *(RuntimeError, ValueError, LookupError, TypeError, AttributeError, AssertionError, OverflowError),
)
"""What an archive of noise, or of JSON in another form, runs into; RecursionError is a RuntimeError."""

OPERATORS = frozenset(
    """
    _assert_scalar _assert_tensor_metadata _softmax _log_softmax _to_copy _unsafe_view abs acos acosh
    adaptive_avg_pool1d adaptive_avg_pool2d _adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d
    adaptive_max_pool2d add addbmm addcdiv addcmul addmm alias all amax amin aminmax any arange argmax argmin argsort
    asin asinh atan atan2 atanh avg_pool1d avg_pool2d avg_pool3d baddbmm batch_norm bitwise_and bitwise_not bitwise_or
    bitwise_xor bmm broadcast_tensors bucketize cat ceil celu channel_shuffle chunk clamp clamp_max clamp_min clone
    col2im concat concatenate constant_pad_nd contiguous conv1d conv2d conv3d conv_transpose1d conv_transpose2d
    conv_transpose3d convolution _convolution copy cos cosh cross cumprod cumsum detach diag diagonal diff div divide
    dot dropout alpha_dropout einsum elu embedding eq erf erfc exp exp2 expand expand_as expm1 eye feature_dropout
    fft_fft fft_fft2 fft_ifft fft_ifft2 fft_irfft fft_irfft2 fft_rfft fft_rfft2 fill flatten flip float_power floor
    floor_divide fmax fmin fmod frac full full_like gather ge gelu glu greater greater_equal grid_sampler
    grid_sampler_2d group_norm gt hardshrink hardsigmoid hardswish hardtanh im2col index index_add index_copy index_fill
    index_put index_select instance_norm isfinite isinf isnan kron layer_norm le leaky_relu lerp less less_equal
    lift_fresh_copy linalg_norm linalg_vector_norm linear linspace log log10 log1p log2 log_sigmoid log_softmax
    logaddexp logical_and logical_not logical_or logical_xor logsumexp lstm lt masked_fill masked_scatter matmul max
    max_pool1d max_pool2d max_pool2d_with_indices max_pool3d maximum mean median meshgrid min minimum mish mm movedim
    moveaxis mul multiply mv nan_to_num narrow ne neg negative new_full new_ones new_zeros norm not_equal one_hot ones
    ones_like outer pad permute pixel_shuffle pixel_unshuffle pow prelu prod reciprocal reflection_pad1d
    reflection_pad2d relu relu6 remainder repeat repeat_interleave replication_pad1d replication_pad2d reshape
    reshape_as rms_norm roll rot90 round rsqrt rsub scalar_tensor scaled_dot_product_attention scatter scatter_add
    scatter_reduce select select_scatter selu sigmoid sign silu sin sinc sinh slice slice_scatter softmax softplus
    softshrink sort split split_with_sizes sqrt square squeeze stack std std_mean sub subtract sum swapaxes swapdims
    sym_numel sym_size sym_stride t take_along_dim tan tanh tensor_split threshold tile to topk transpose tril triu
    true_divide trunc type_as unbind unflatten unfold unsqueeze upsample_bicubic2d _upsample_bicubic2d_aa
    upsample_bilinear2d _upsample_bilinear2d_aa upsample_linear1d upsample_nearest2d _upsample_nearest_exact2d var
    var_mean vdot view view_as view_as_complex view_as_real where xlogy zeros zeros_like
    """.split()  # noqa: SIM905  quoted one by one they would fill three pages
)
"""ATen's operators that compute on tensors alone: what exports contain, and their like for networks of timm's.

Not those that only decompositions call (`native_batch_norm`): they leave it to their caller to check sizes.
"""

IN_PLACE = frozenset(
    f"{name}_"
    for name in (
        *("add", "celu", "clamp", "clamp_max", "clamp_min", "copy", "detach", "div", "dropout", "elu", "exp", "fill"),
        *("hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "masked_fill", "mish", "mul", "relu", "relu6", "selu"),
        *("sigmoid", "silu", "sub", "tanh", "zero"),
    )
)
"""Those that write into a tensor of the program, as the activations of most networks do."""


def check_program(path: Path) -> None:
    """Raise ModelError where loading the archive could do more than build a network."""
    try:
        with zipfile.ZipFile(path) as archive:
            strange = next(chain(_ambiguous(archive), _strange(archive)), None)
    except _DAMAGED as error:
        raise ModelError(f"{str(path)!r} can't be read as a .pt2 archive: {_said(error)}.") from error
    if strange is not None:
        raise ModelError(
            f"{str(path)!r} is refused, since it holds more than tensors and operators: {strange}. "
            "Export the model again from its model folder."
        )


def _said(error: Exception) -> str:
    """The first line of what an error says, or its kind where it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__).removesuffix(".")


def _ambiguous(archive: zipfile.ZipFile) -> Iterator[str]:
    """What another reader of archives, such as torch's, might find in place of what is looked at here, in words."""
    names = [name.lower() for name in archive.namelist()]
    if len(set(names)) < len(names):
        yield "two files of one name"
    if len({name.partition("/")[0] for name in names}) > 1:
        yield "files outside of its one folder"
    if archive.comment or min((file.header_offset for file in archive.infolist()), default=0) != 0:
        yield "bytes before or after the archive"
    if any(file.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for file in archive.infolist()):
        yield "files that are compressed in another way than torch's"


def _strange(archive: zipfile.ZipFile) -> Iterator[str]:
    """What is not data alone, in words."""
    for name in archive.namelist():
        if not _MEMBERS.fullmatch(name):
            yield f"a file {name!r}"
        elif name.endswith("_config.json"):
            entries = json.loads(archive.read(name))["config"]
            yield from (f"a pickle {key!r}" for key, entry in entries.items() if _pickled(entry))
        elif name.endswith("models/model.json"):
            program = json.loads(archive.read(name))
            yield from (f"a condition {code!r}" for code in program["guards_code"])
            yield from _strange_words(program)
        elif name.endswith(".pt"):
            yield from _strange_pickle(archive.read(name))


def _pickled(entry: dict[str, Any]) -> bool:
    return entry["use_pickle"] is not False or not _PAYLOAD.fullmatch(entry["path_name"])


def _strange_words(part: object) -> Iterator[str]:
    """Functions that are no operators and expressions that are no arithmetic, anywhere in the program."""
    if isinstance(part, list):
        for item in cast(list[object], part):
            yield from _strange_words(item)
    if not isinstance(part, dict):
        return
    for key, value in cast(dict[str, object], part).items():
        if key == "target" and isinstance(value, str) and not _known(value):
            yield f"a call of {value!r}"
        if key == "expr_str" and not (isinstance(value, str) and _EXPRESSION.fullmatch(value)):
            yield f"an expression {value!r}"
        yield from _strange_words(value)


def _known(target: str) -> bool:
    operator = _OPERATOR.fullmatch(target)
    return _PYTHON.fullmatch(target) is not None if operator is None else operator[1] in OPERATORS | IN_PLACE


def _strange_pickle(content: bytes) -> Iterator[str]:
    import torch

    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except _DAMAGED as error:
        yield f"a pickle ({_said(error)})"
