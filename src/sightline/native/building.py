"""The loops of pixels.c, compiled once, in a second, into the user's cache, by the machine's C compiler ($CC, else cc).

Before they are used they are compared with torch. Where there is no compiler, another processor than they are written
for, or a cache that programs may not be run from, there are none, and nothing need be set.
"""

import ctypes
import hashlib
import os
import platform
import shlex
import subprocess
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Lock

from sightline.errors import SightlineError
from sightline.files import cache_folder, whole_file

_SOURCE = Path(__file__).with_name("pixels.c")
NEEDED = ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vbmi")
"""Of the processor, by Linux's and by the compilers' names."""
_FLAGS = ("-std=c11", "-O3", "-ffp-contract=off", "-fPIC", "-shared", *(f"-m{name}" for name in NEEDED))
_SECONDS = 60
"""That a compiler may take; it takes half of one."""

_building = Lock()


def loops() -> ctypes.CDLL | None:
    """The compiled loops; None where this machine can't have them."""
    with _building:  # several threads want the first batch's
        return built_once()


@cache
def built_once() -> ctypes.CDLL | None:
    """`loops`, for one thread at a time."""
    if not fits():
        return None
    import torch

    text = b"\n".join([_SOURCE.read_bytes(), " ".join(_FLAGS).encode(), torch.__version__.encode()])
    path = cache_folder() / "native" / f"{hashlib.sha256(text).hexdigest()[:16]}.so"
    with suppress(OSError):
        if _is_ours(path):
            return _opened(path)
    return _built(path)


def fits() -> bool:
    """Whether the processor knows what the loops are made of. Only Linux is asked."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return False
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("flags"):
                return set(NEEDED) <= set(line.split())
    return False


def _is_ours(path: Path) -> bool:
    """Whether the file is this user's, and nobody else may have written to it. Raises OSError where there is none."""
    found = path.stat()
    return found.st_uid == os.getuid() and not found.st_mode & 0o022


def _built(path: Path) -> ctypes.CDLL | None:
    """The loops, compiled to `path` and compared with torch; None where either fails."""
    try:
        compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
        with whole_file(path) as aside:
            command = [*compiler, *_FLAGS, "-o", str(aside), str(_SOURCE)]
            subprocess.run(command, check=True, capture_output=True, timeout=_SECONDS)  # noqa: S603 - the user's own
            library = _opened(aside)
            if not _agrees(library):
                raise OSError("The loops don't give torch's values.")
        path.chmod(0o600)
    except (OSError, ValueError, SightlineError, subprocess.SubprocessError):
        return None
    return library


def _opened(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    address, integer, number = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
    library.resize.argtypes = [address, number, integer, integer, address, address, integer, address, integer]
    library.resize.restype = ctypes.c_int
    library.normalize.argtypes = [address, address, number, address, address]
    library.normalize.restype = None
    return library


def _agrees(library: ctypes.CDLL) -> bool:
    """Whether the loops give torch's values, of windows that grow, shrink and stay, and of what is normalised."""
    import torch
    from torch.nn import functional as F

    pixels = torch.arange(64 * 64 * 3).mul(2654435761).bitwise_right_shift(20).to(torch.uint8).view(1, 64, 64, 3)
    images = pixels.permute(0, 3, 1, 2)
    windows = torch.tensor([[0, 3, 1, 1], [0, 0, 64, 61], [9, 5, 50, 9], [53, 27, 11, 37], [7, 27, 37, 37]])
    mirrored = torch.tensor([False, True, False, True, False])
    given = torch.zeros((5, 3, 37, 37), dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    library.resize(images.data_ptr(), 0, 64, 64, windows.data_ptr(), mirrored.data_ptr(), 5, given.data_ptr(), 37)
    for place, (top, left, height, width) in enumerate(windows.tolist()):
        window = images[:, :, top : top + height, left : left + width]
        expected = F.interpolate(window, size=[37, 37], mode="bilinear", antialias=True)
        if not torch.equal(given[place : place + 1], expected.flip(3) if mirrored[place] else expected):
            return False
    mean, scale = torch.tensor([123.7, 116.3, 103.5]), torch.tensor([0.0171, 0.0175, 0.0174])
    values = torch.empty(pixels.numel())
    library.normalize(pixels.data_ptr(), values.data_ptr(), len(values), mean.data_ptr(), scale.data_ptr())
    return torch.equal(values.view(pixels.shape), pixels.float().sub(mean).mul(scale))
