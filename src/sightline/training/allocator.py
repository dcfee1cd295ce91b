"""Memory that stays with the process: a step's large tensors are freed and asked for again hundreds of times a second.

glibc gives each back to the system and takes fresh pages, which the system fills with zeros. Told to keep them, it
does neither; the process's peak stays what it was. And the pages are huge ones where Linux gives them: a processor
finds the place of a tensor's next page in its own tables, and need not ask for it in memory (docs/log.md).
"""

import ctypes
import mmap
import os
import platform
from functools import cache
from pathlib import Path

# From glibc's malloc.h; mallopt's own numbers.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_NEVER_TRIM = -1
_PAD = 64 * 2**20
"""Bytes asked of the system at a time."""
_SHARE_OF_MEMORY = 0.5
"""Of the machine's memory: addresses that may be had as huge pages; none of it is taken before it is used."""
_HUGE_PAGE = 14
"""madvise's MADV_HUGEPAGE, from Linux's mman-common.h."""


@cache
def keep_pages() -> bool:
    """Let this process keep what it frees; False where the allocator isn't glibc's. Asking again changes nothing."""
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _NEVER_TRIM), (_TOP_PAD, _PAD))
    kept = all(libc.mallopt(option, value) == 1 for option, value in settings)
    if kept:
        _take_huge_pages(libc)
    return kept


def _take_huge_pages(libc: ctypes.CDLL) -> None:
    """Ask for huge pages where the heap will grow: its next addresses are taken, marked and given back to it unused."""
    if addresses_are_limited():
        return
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    size = int(_SHARE_OF_MEMORY * os.sysconf("SC_PHYS_PAGES")) * mmap.PAGESIZE
    start = libc.malloc(size)
    if start is None:
        return
    first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
    libc.madvise(first, (start + size - first) // mmap.PAGESIZE * mmap.PAGESIZE, _HUGE_PAGE)
    libc.free(start)


def addresses_are_limited() -> bool:
    """Whether what is only reserved counts: by `ulimit -v`, or where Linux promises no more memory than there is."""
    import resource  # there is none on Windows

    try:
        strict = Path("/proc/sys/vm/overcommit_memory").read_text(encoding="ascii").strip() == "2"
    except OSError:
        strict = True
    return strict or resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY
