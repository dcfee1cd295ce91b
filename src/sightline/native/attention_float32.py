"""Attention and its gradients in float32 on a CPU: with a learned bias in half of torch's time.

Without one in 0.6 to 1 of it. Results differ in rounding.
"""

import ctypes

import torch
from torch import Tensor

from sightline.native.building import Source, fits, loops
from sightline.native.heads import Forward, address, are_heads, empty, places, rows, sample

MOST_DEPTH, MOST_TOKENS = 256, 640
"""Numbers of a head's token, and its tokens: with more of them torch, which keeps no head's weights, is faster."""
_LANES = 8
_FEWEST_TASKS = 32
"""Heads times parts of the images, each of which one thread differentiates."""


def available() -> bool:
    """Whether this machine has the loops. The first time a compiler makes them."""
    return loops(ATTENTION) is not None


def has_processor() -> bool:
    """Whether the processor knows what the loops are made of, and the system is Linux."""
    return fits(ATTENTION)


def takes(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether `forward` can, and is worth it: query (B, N, T, C), key and value (B, N, S, C), float32 on the CPU."""
    return (
        are_heads(query, key, value, torch.float32)
        and query.shape[3] % _LANES == 0
        and query.shape[3] <= MOST_DEPTH
        and max(query.shape[2], key.shape[2]) <= MOST_TOKENS
    )


def forward(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float) -> Forward:
    """Of query, key and value that it takes; a bias (N, T, S) is added to `scale` times the products.

    Raises MemoryError.
    """
    return _forward(_library(), query, key, value, bias, scale)


def gradients(given: Forward, grad: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Of query, key, value and the bias, from `grad`, that of the output. Raises MemoryError."""
    return _gradients(_library(), given, grad, scale)


def _forward(
    library: ctypes.CDLL, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float
) -> Forward:
    added = None if bias is None else bias.float().contiguous()
    made = empty(query), query.new_empty(2, *query.shape[:3])
    given = Forward(rows(query), rows(key), rows(value), added, *made)
    where, shape = places([given.query, given.key, given.value, given.output]), _shape(query, key)
    done = library.attention_forward(
        where.data_ptr(), address(given.bias), given.softmax.data_ptr(), ctypes.addressof(shape), scale,
        torch.get_num_threads(),
    )  # fmt: skip
    if not done:
        raise MemoryError
    return given


def _gradients(
    library: ctypes.CDLL, given: Forward, grad: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    made, slopes = [empty(each) for each in given[:3]], rows(grad.float())
    where = places([*given[:3], given.output, slopes, *made])
    shape = _shape(given.query, given.key)
    parts = None
    if given.bias is not None:  # a key's place for each of whole registers
        heads, queries, keys = given.bias.shape
        parts = given.bias.new_zeros(shape[5], heads, queries, -(-keys // _LANES) * _LANES)
    done = library.attention_backward(
        where.data_ptr(), address(given.bias), given.softmax.data_ptr(), address(parts), ctypes.addressof(shape),
        scale, torch.get_num_threads(),
    )  # fmt: skip
    if not done:
        raise MemoryError
    return made[0], made[1], made[2], None if parts is None else parts.sum(0)[:, :, : given.key.shape[2]]


def _shape(query: Tensor, key: Tensor) -> ctypes.Array[ctypes.c_int64]:
    """As attention_float32.c has it."""
    images, heads, queries, depth = query.shape
    parts = min(images, -(-_FEWEST_TASKS // heads))
    return (ctypes.c_int64 * 6)(images, heads, queries, key.shape[2], depth, parts)


def _library() -> ctypes.CDLL:
    found = loops(ATTENTION)
    assert found is not None, "asked for where it isn't available"
    return found


def _agrees(library: ctypes.CDLL) -> bool:
    """Whether results and gradients are torch's, but for rounding."""
    scale = 0.2
    for queries, keys, depth in ((17, 17, 32), (33, 50, 24)):
        query, key, value, grad, bias = sample(queries, keys, depth)
        leaves = [each.clone().requires_grad_() for each in (query, key, value, bias)]
        expected = (leaves[0] @ leaves[1].transpose(2, 3) * scale + leaves[3]).softmax(3) @ leaves[2]
        expected.backward(grad)
        given = _forward(library, query, key, value, bias, scale)
        pairs = zip([given.output, *_gradients(library, given, grad, scale)], [expected, *leaves], strict=True)
        for ours, theirs in pairs:
            wanted = theirs.grad if theirs.is_leaf else theirs
            if ours is None or wanted is None or not torch.allclose(ours, wanted, atol=1e-4, rtol=1e-4):
                return False
    return True


ATTENTION = Source(
    name="attention_float32.c",
    headers=("lanes.h",),
    needed=("avx2", "fma"),
    flags=("-fopenmp",),
    arguments=(("attention_forward", "ppppfi"), ("attention_backward", "pppppfi")),
    agrees=_agrees,
)
