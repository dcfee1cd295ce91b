"""What the loops for attention are given and give: heads of tokens, which lie in memory as layers cut them."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


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
    softmax: Tensor
    """(..., B, N, T) float32: what each query's weights were made with."""


def are_heads(query: Tensor, key: Tensor, value: Tensor, dtype: torch.dtype) -> bool:
    """Whether they are query (B, N, T, C), key and value (B, N, S, C) of that type on the CPU, none of them empty."""
    return (
        all(type(each) is Tensor and each.dtype == dtype and each.ndim == 4 for each in (query, key, value))
        and query.device.type == key.device.type == value.device.type == "cpu"
        and query.shape[:2] == key.shape[:2]
        and query.shape[3] == key.shape[3]
        and key.shape == value.shape
        and query.numel() > 0 < key.numel()
    )


def rows(values: Tensor) -> Tensor:
    """A token's numbers side by side."""
    return values if values.stride(3) == 1 else values.contiguous()


def empty(values: Tensor) -> Tensor:
    """(B, N, T, C), a token's heads side by side: what comes before attention, and after it, reads them so."""
    images, heads, tokens, depth = values.shape
    return values.new_empty(images, tokens, heads, depth).transpose(1, 2)


def places(heads: Sequence[Tensor]) -> Tensor:
    """(..., 4) int64: where each lies, and how far it is from an image, a head and a token to the next, in numbers."""
    numbers = [[each.data_ptr(), *each.stride()[:3]] for each in heads]
    return torch.tensor(numbers, device=heads[0].device)


def sample(queries: int, keys: int, depth: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Query, key and value of one image with two heads, a gradient of the output and a bias: numbers from -1 to 1."""
    numbers = torch.arange(6 * max(queries, keys) * depth).mul(2654435761).bitwise_and(1023).float().div(512).sub(1)
    query, grad = (part[: 2 * queries * depth].view(1, 2, -1, depth) for part in (numbers, numbers.flip(0)))
    key, value = (part[: 2 * keys * depth].view(1, 2, -1, depth) for part in (numbers[99:], numbers[7:]))
    return query, key, value, grad, numbers[: 2 * queries * keys].view(2, queries, keys)


def address(values: Tensor | None) -> int | None:
    """For an argument that may be absent."""
    return None if values is None else values.data_ptr()
