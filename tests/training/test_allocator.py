import platform
import subprocess
import sys
from pathlib import Path

import pytest

from sightline.training.allocator import addresses_are_limited

THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")

FAULTS = """
import resource, sys
import numpy as np
from sightline.training.allocator import keep_pages
if sys.argv[1] == "keep":
    assert keep_pages()
def touch():
    for _ in range(4):
        np.ones(48 << 20, dtype=np.uint8)
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


HUGE = """
import ctypes, resource, sys
from pathlib import Path
from sightline.training.allocator import keep_pages
if sys.argv[1] == "limited":
    resource.setrlimit(resource.RLIMIT_AS, (1 << 40, resource.RLIM_INFINITY))
def rows(name):
    lines = Path("/proc/self/smaps").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(name))
addresses = rows("Size:")
assert keep_pages() and keep_pages()
addresses = rows("Size:") - addresses
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.memset.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
before = rows("AnonHugePages:")
for _ in range(16):
    libc.memset(libc.malloc(4 << 20), 1, 4 << 20)
print(rows("AnonHugePages:") - before, addresses)
"""
"""Prints the kilobytes of huge pages that 64 megabytes took, and the addresses that were reserved."""


def faults(mode: str) -> int:
    done = subprocess.run([sys.executable, "-c", FAULTS, mode], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_freed_memory_is_used_again_without_a_page_fault() -> None:
    assert faults("keep") < 100 <= faults("leave") / 10


def huge_pages(mode: str) -> tuple[int, int]:
    done = subprocess.run([sys.executable, "-c", HUGE, mode], capture_output=True, text=True, check=True)
    taken, reserved = done.stdout.split()
    return int(taken), int(reserved)


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or addresses_are_limited() or not THP.exists() or "[never]" in THP.read_text(),
    reason="no huge pages",
)
def test_what_is_allocated_lies_in_huge_pages() -> None:
    taken, _ = huge_pages("free")
    assert taken >= 48 * 1024


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_a_process_whoseaddresses_are_limited_reserves_none() -> None:
    _, reserved = huge_pages("limited")
    assert reserved < 1024 * 1024
