"""Attention's gradients in bfloat16 on a CPU with matrix instructions: a third to a sixth of torch's time in float32.

torch's in bfloat16 takes longer still up to some 500 tokens. Sums are float32's; the weights and their gradients are
rounded to bfloat16 between two products, as torch's in bfloat16 are.
"""

import ctypes

import torch
from torch import Tensor
from torch.nn import functional as F

from sightline.native.building import Source, fits, loops
from sightline.native.heads import Forward, address, are_heads, empty, places, rows, sample

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
        are_heads(query, key, value, torch.bfloat16)
        and query.shape[3] % _DEEP == 0
        and query.shape[3] <= MOST_DEPTH
        and max(query.shape[2], key.shape[2]) <= MOST_TOKENS
    )


def forward(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float) -> Forward:
    """Torch's own, by its fused kernel; a bias (N, T, S) is added to `scale` times the products."""
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    mask = None if bias is None else bias.float()[None]
    return Forward(query, key, value, bias, *fused(query, key, value, attn_mask=mask, scale=scale))


def gradients(given: Forward, grad: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Of query, key, value and the bias, from `grad`, that of the output. Raises MemoryError."""
    query, key, value, bias, output, logsumexp = given
    made = [empty(each) for each in (query, key, value)]
    read = [rows(each) for each in (query, key, value, output, grad.to(query.dtype))]
    where = places([*read, *made])
    images, heads, queries, depth = query.shape
    logsumexp, threads = logsumexp.contiguous(), torch.get_num_threads()
    turned = slopes = None
    if bias is not None:  # a query's along a row, as the loops have it
        turned = F.pad(bias.float().transpose(1, 2), (0, -queries % _DEEP)).contiguous()
        slopes = turned.new_zeros(threads, *turned.shape)
    done = _library().attention_backward(
        where.data_ptr(), logsumexp.data_ptr(), address(turned), address(slopes), images, heads, queries,
        key.shape[2], depth, scale, threads,
    )  # fmt: skip
    if not done:
        raise MemoryError
    of_bias = None if slopes is None else slopes.sum(0)[:, :, :queries].transpose(1, 2)
    return made[0], made[1], made[2], of_bias


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
        query, key, value, grad, bias = sample(queries, keys, depth)
        query, key, value, grad = (each.bfloat16() for each in (query, key, value, grad))
        bias = bias.clone().requires_grad_()
        leaves = [each.float().requires_grad_() for each in (query, key, value)]
        scores = leaves[0] @ leaves[1].transpose(2, 3) * scale + bias
        expected = scores.softmax(3) @ leaves[2]
        expected.backward(grad.float())
        logsumexp = scores.detach().logsumexp(3)
        made = [torch.empty_like(each) for each in (query, key, value)]
        output = expected.detach().bfloat16()
        where = places([query, key, value, output, grad, *made])
        turned = F.pad(bias.detach().transpose(1, 2), (0, -queries % _DEEP)).contiguous()
        slopes = turned.new_zeros(threads, *turned.shape)
        library.attention_backward(
            where.data_ptr(), logsumexp.data_ptr(), turned.data_ptr(), slopes.data_ptr(), 1, 2, queries, keys, depth,
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
