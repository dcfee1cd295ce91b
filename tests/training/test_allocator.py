import platform
import subprocess
import sys

import pytest

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


def faults(mode: str) -> int:
    done = subprocess.run([sys.executable, "-c", FAULTS, mode], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_freed_memory_is_used_again_without_a_page_fault() -> None:
    assert faults("keep") < 100 <= faults("leave") / 10
