"""Memory that stays with the process: a step's large tensors are freed and asked for again hundreds of times a second.

glibc gives each back to the system and takes fresh pages, which the system fills with zeros. Told to keep them, it
does neither; the process's peak stays what it was.
"""

import ctypes
import platform

# From glibc's malloc.h; mallopt's own numbers.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_NEVER_TRIM = 2**31 - 1
_PAD = 64 * 2**20
"""Bytes asked of the system at a time."""


def keep_pages() -> bool:
    """Let this process keep what it frees; False where the allocator isn't glibc's. Asking again changes nothing."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _NEVER_TRIM), (_TOP_PAD, _PAD))
    return all(mallopt(option, value) == 1 for option, value in settings)
