"""Attention's gradients in bfloat16 on a CPU with matrix instructions: a third to a sixth of torch's time in float32.

torch's in bfloat16 takes longer still up to some 500 tokens. Sums are float32's; the weights and their gradients are
rounded to bfloat16 between two products, as torch's in bfloat16 are.
"""

import ctypes
from typing import NamedTuple

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


class Forward(NamedTuple):
    """What a forward pass took and gave."""

    query: Tensor
    """(B, N, T, C)"""
    key: Tensor
    """(B, N, S, C)"""
    value: Tensor
    """(B, N, S, C)"""
    bias: Tensor | None
    """(N, T, S), which was added to the scores."""
    output: Tensor
    """(B, N, T, C)"""
    logsumexp: Tensor
    """(B, N, T) float32, of each query's scores."""


def gradients(forward: Forward, grad: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Of query, key, value that `gradients` takes, and of the bias, from `grad`, that of the output.

    The scores are `scale` times the products. Raises MemoryError.
    """
    query, key, value, bias, output, logsumexp = forward
    given = [_rows(each) for each in (query, key, value, output, grad.to(query.dtype))]
    made = [_empty(each) for each in (query, key, value)]
    numbers = [[each.data_ptr(), *each.stride()[:3]] for each in (*given, *made)]
    places = torch.tensor(numbers, device=query.device)
    images, heads, queries, depth = query.shape
    logsumexp, threads = logsumexp.contiguous(), torch.get_num_threads()
    turned = slopes = None
    if bias is not None:  # a query's along a row, as the loops have it
        turned = F.pad(bias.float().transpose(1, 2), (0, -queries % _DEEP)).contiguous()
        slopes = turned.new_zeros(threads, *turned.shape)
    done = _library().attention_backward(
        places.data_ptr(), logsumexp.data_ptr(), _address(turned), _address(slopes), images, heads, queries,
        key.shape[2], depth, scale, threads,
    )  # fmt: skip
    if not done:
        raise MemoryError
    of_bias = None if slopes is None else slopes.sum(0)[:, :, :queries].transpose(1, 2)
    return made[0], made[1], made[2], of_bias


def _address(values: Tensor | None) -> int | None:
    return None if values is None else values.data_ptr()


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
        bias = numbers[: 2 * queries * keys].view(2, queries, keys).clone().requires_grad_()
        leaves = [each.float().requires_grad_() for each in (query, key, value)]
        scores = leaves[0] @ leaves[1].transpose(2, 3) * scale + bias
        expected = scores.softmax(3) @ leaves[2]
        expected.backward(grad.float())
        logsumexp = scores.detach().logsumexp(3)
        made = [torch.empty_like(each) for each in (query, key, value)]
        tensors = (query, key, value, expected.detach().bfloat16(), grad, *made)
        places = torch.tensor([[each.data_ptr(), *each.stride()[:3]] for each in tensors])
        turned = F.pad(bias.detach().transpose(1, 2), (0, -queries % _DEEP)).contiguous()
        slopes = turned.new_zeros(threads, *turned.shape)
        library.attention_backward(
            places.data_ptr(), logsumexp.data_ptr(), turned.data_ptr(), slopes.data_ptr(), 1, 2, queries, keys, depth,
            scale, threads,
        )  # fmt: skip
        made.append(slopes.sum(0)[:, :, :queries].transpose(1, 2))
        for ours, leaf in zip(made, (*leaves, bias), strict=True):
            assert leaf.grad is not None
            if not torch.allclose(ours.float(), leaf.grad, atol=0.05, rtol=0.05):
                return False
    return True


ATTENTION = Source(
    name="attention.c",
    needed=("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_bf16", "amx_tile", "amx_bf16"),
    flags=("-fopenmp",),
    arguments=(("has_tiles", ""), ("attention_backward", "pppplllllfi")),
    agrees=_agrees,
)
