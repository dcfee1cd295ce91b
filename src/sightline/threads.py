"""Work on single images, on as many threads as torch computes with.

The threads stay: one that comes new costs more than the images of a batch. Each computes alone: what torch spreads over
its own threads keeps them busy for milliseconds after it has ended, on cores that those who read the next images need.
"""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def mapped(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """`function` of each item, in order; for functions that spend their time in torch's kernels, which free the GIL.

    torch spreads one large operation over its threads; many small ones, an image each, it does not.
    """
    threads = torch.get_num_threads()
    parts = min(threads, len(items))
    if parts < 2:
        return [function(item) for item in items]

    left = iter(range(len(items)))  # of all threads: one that a core leaves for a while takes fewer

    def work(_: int) -> dict[int, Result]:
        return {place: function(items[place]) for place in left}

    results = dict[int, Result]()
    for part in _pool(threads, os.getpid()).map(work, range(parts)):
        results |= part
    return [results[place] for place in range(len(items))]


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """As many threads as torch has, which compute alone, of this process: a fork has none of its parent's."""
    del process
    together = threading.Barrier(threads)

    def begin() -> None:
        torch.get_num_threads()  # a thread's first question sets what the process has
        torch.set_num_threads(1)  # of this thread; what it sets for the process is taken back below
        together.wait()

    pool = ThreadPoolExecutor(threads, thread_name_prefix="sightline-image", initializer=begin)
    for begun in [pool.submit(together.wait) for _ in range(threads)]:
        begun.result()
    torch.set_num_threads(threads)
    return pool
