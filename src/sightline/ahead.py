"""Work that is done on threads before it is asked for."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], *, threads: int, ahead: int, name: str
) -> Generator[Result]:
    """`function` of each item, in order, computed on so many threads; `ahead` items are begun before one is asked for.

    Items are taken in the caller's thread. Closing it waits for what is being computed, and forgets what isn't begun;
    `name` is that of the threads.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
    try:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
