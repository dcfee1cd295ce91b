"""Attention's gradients in bfloat16 on a CPU with matrix instructions: a sixth of the time of torch's in float32.

torch's in bfloat16 takes longer still. Sums are float32's; the weights and their gradients are rounded to bfloat16
between two products, as torch's in bfloat16 are.
"""

import ctypes

import torch
from torch import Tensor
from torch.nn import functional as F

from sightline.native.building import Source, fits, loops

MOST_DEPTH, MOST_TOKENS = 256, 2048
"""Numbers of a head's token, and its tokens: a head's weights have to stay in a core's cache."""
_DEEP = 32


def available() -> bool:
    """Whether this machine has the loops, and the system allows them. The first time a compiler makes them."""
    library = loops(ATTENTION)
    return library is not None and library.has_tiles() == 1


def has_processor() -> bool:
    """Whether the processor knows what the loops are made of, and the system is Linux."""
    return fits(ATTENTION)


def takes(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether `gradients` can: query (B, N, T, C), key and value (B, N, S, C), bfloat16 on the CPU."""
    return (
        all(type(each) is Tensor and each.dtype == torch.bfloat16 and each.ndim == 4 for each in (query, key, value))
        and query.device.type == key.device.type == value.device.type == "cpu"
        and query.shape[:2] == key.shape[:2]
        and query.shape[3] == key.shape[3]
        and key.shape == value.shape
        and query.shape[3] % _DEEP == 0
        and 0 < query.shape[3] <= MOST_DEPTH
        and min(query.shape[2], key.shape[2]) > 0
        and max(query.shape[2], key.shape[2]) <= MOST_TOKENS
    )


def gradients(
    query: Tensor, key: Tensor, value: Tensor, output: Tensor, logsumexp: Tensor, grad: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Of query, key and value that `gradients` takes, from `grad`, that of the `output` (B, N, T, C).

    `logsumexp` (B, N, T) float32 is that of each query's scores, which are `scale` times the products. Raises
    MemoryError.
    """
    given = [_rows(each) for each in (query, key, value, output, grad.to(query.dtype))]
    made = [_empty(each) for each in (query, key, value)]
    places = torch.tensor([[each.data_ptr(), *each.stride()[:3]] for each in (*given, *made)])
    images, heads, queries, depth = query.shape
    logsumexp = logsumexp.float().contiguous()
    done = _library().attention_backward(
        places.data_ptr(), logsumexp.data_ptr(), images, heads, queries, key.shape[2], depth, scale,
        torch.get_num_threads(),
    )  # fmt: skip
    if not done:
        raise MemoryError
    return made[0], made[1], made[2]


def _rows(values: Tensor) -> Tensor:
    """A token's numbers side by side."""
    return values if values.stride(3) == 1 else values.contiguous()


def _empty(values: Tensor) -> Tensor:
    """(B, N, T, C), a token's heads side by side: what comes before attention reads them so."""
    images, heads, tokens, depth = values.shape
    return values.new_empty(images, tokens, heads, depth).transpose(1, 2)


def _library() -> ctypes.CDLL:
    found = loops(ATTENTION)
    assert found is not None, "asked for where it isn't available"
    return found


def _agrees(library: ctypes.CDLL) -> bool:
    """Whether gradients are torch's, but for rounding."""
    if library.has_tiles() != 1:
        return False
    scale, threads = 0.2, torch.get_num_threads()
    for queries, keys, depth in ((17, 17, 32), (33, 50, 64)):
        numbers = torch.arange(6 * max(queries, keys) * depth).mul(2654435761).bitwise_and(1023).float().div(512).sub(1)
        shape = 1, 2, -1, depth
        query, grad = (part[: 2 * queries * depth].bfloat16().view(shape) for part in (numbers, numbers.flip(0)))
        key, value = (part[: 2 * keys * depth].bfloat16().view(shape) for part in (numbers[99:], numbers[7:]))
        leaves = [each.float().requires_grad_() for each in (query, key, value)]
        expected = F.scaled_dot_product_attention(leaves[0], leaves[1], leaves[2], scale=scale)
        expected.backward(grad.float())
        logsumexp = torch.logsumexp(leaves[0].detach() @ leaves[1].detach().transpose(2, 3) * scale, 3)
        made = [torch.empty_like(each) for each in (query, key, value)]
        tensors = (query, key, value, expected.detach().bfloat16(), grad, *made)
        places = torch.tensor([[each.data_ptr(), *each.stride()[:3]] for each in tensors])
        library.attention_backward(places.data_ptr(), logsumexp.data_ptr(), 1, 2, queries, keys, depth, scale, threads)
        for ours, leaf in zip(made, leaves, strict=True):
            assert leaf.grad is not None
            if not torch.allclose(ours.float(), leaf.grad, atol=0.05, rtol=0.05):
                return False
    return True


ATTENTION = Source(
    name="attention.c",
    needed=("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_bf16", "amx_tile", "amx_bf16"),
    flags=("-fopenmp",),
    arguments=(("has_tiles", ""), ("attention_backward", "pplllllfi")),
    agrees=_agrees,
)
