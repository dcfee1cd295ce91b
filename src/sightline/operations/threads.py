"""Work on single images, on as many threads as torch computes with."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def mapped(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """`function` of each item, in order; for functions that spend their time in torch's kernels, which free the GIL.

    torch spreads one large operation over its threads; many small ones, an image each, it does not.
    """
    threads = min(torch.get_num_threads(), len(items))
    if threads < 2:
        return [function(item) for item in items]

    def work(first: int) -> list[Result]:
        return [function(item) for item in items[first::threads]]

    with ThreadPoolExecutor(threads, thread_name_prefix="sightline-image") as pool:
        parts = list(pool.map(work, range(threads)))
    return [parts[place % threads][place // threads] for place in range(len(items))]
