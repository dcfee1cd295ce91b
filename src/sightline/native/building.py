"""Loops in C, compiled once, in a second, into the user's cache, by the machine's C compiler ($CC, else cc).

Before they are used they are compared with torch. Where there is no compiler, another processor than they are written
for, or a cache that programs may not be run from, there are none.
"""

import ctypes
import hashlib
import os
import platform
import shlex
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock

from sightline.errors import SightlineError
from sightline.files import cache_folder, whole_file

_FLAGS = ("-std=c11", "-O3", "-ffp-contract=off", "-fPIC", "-shared")
_SECONDS = 60
"""That a compiler may take; it takes half of one."""

_DIGEST = hashlib.sha256().digest_size

_building = Lock()


@dataclass(frozen=True)
class Source:
    """A file of C in this folder."""

    name: str
    needed: tuple[str, ...]
    """Of the processor, by Linux's names; compilers' differ in the underscores."""
    flags: tuple[str, ...]
    """For the compiler, beside those of every file."""
    arguments: tuple[tuple[str, str], ...]
    """Each function's name, and its arguments' types: p for an address, i for int, l for int64_t, f for float."""
    agrees: Callable[[ctypes.CDLL], bool]
    """Whether it gives torch's values."""
    headers: tuple[str, ...] = ()
    """What it includes of this folder."""


def loops(source: Source) -> ctypes.CDLL | None:
    """The compiled functions, which return int; None where this machine can't have them."""
    with _building:  # several threads want the first batch's
        return built_once(source)


@cache
def built_once(source: Source) -> ctypes.CDLL | None:
    """`loops`, for one thread at a time."""
    if not fits(source):
        return None
    import torch

    files = [_file(name).read_bytes() for name in (source.name, *source.headers)]
    text = b"\n".join([*files, repr(_flags(source)).encode(), torch.__version__.encode()])
    path = cache_folder() / "native" / f"{hashlib.sha256(text).hexdigest()[:16]}.so"
    if not _keeps_others_out(path.parent):
        return None
    with suppress(OSError, AttributeError):
        if _is_ours(path) and _is_whole(path):
            return _opened(path, source)
    return _built(path, source)


def fits(source: Source) -> bool:
    """Whether the processor knows what the loops are made of. Only Linux is asked."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return False
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("flags"):
                return set(source.needed) <= set(line.split())
    return False


def _file(name: str) -> Path:
    return Path(__file__).with_name(name)


def _flags(source: Source) -> list[str]:
    named = (name.replace("avx512_", "avx512").replace("_", "-") for name in source.needed)
    return [*_FLAGS, *(f"-m{name}" for name in named), *source.flags]


def _keeps_others_out(folder: Path) -> bool:
    """Make the folder, for this user alone; whether it is: what lies in another's would be the other's to run."""
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        if folder.stat().st_uid == os.getuid():
            folder.chmod(0o700)
            return True
    return False


def _is_ours(path: Path) -> bool:
    """Whether the file is this user's, and nobody else may have written to it. Raises OSError where there is none."""
    found = path.stat()
    return found.st_uid == os.getuid() and not found.st_mode & 0o022


def _is_whole(path: Path) -> bool:
    """Whether the file is as it was built. Of a damaged one the process would die, by a signal, when it is opened."""
    content = path.read_bytes()
    return content[-_DIGEST:] == _digest(content[:-_DIGEST])


def _digest(content: bytes) -> bytes:
    """Stands behind the library in its file, where loaders don't look."""
    return hashlib.sha256(content).digest()


def _built(path: Path, source: Source) -> ctypes.CDLL | None:
    """The loops, compiled to `path` and compared with torch; None where either fails."""
    try:
        compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
        with whole_file(path) as aside:
            command = [*compiler, *_flags(source), "-o", str(aside), str(_file(source.name))]
            subprocess.run(command, check=True, capture_output=True, timeout=_SECONDS)  # noqa: S603 - the user's own
            library = _opened(aside, source)
            if not _agrees(library, source):
                raise OSError("The loops don't give torch's values.")
            content = aside.read_bytes()
            with aside.open("ab") as file:
                file.write(_digest(content))
        path.chmod(0o600)
    except (OSError, ValueError, AttributeError, SightlineError, subprocess.SubprocessError):
        return None  # AttributeError: the compiler hides the functions' names, or changes them
    return library


def _agrees(library: ctypes.CDLL, source: Source) -> bool:
    """Whether the loops give torch's values, whatever of torch's modes they are first asked for in."""
    import torch

    recorded, exact = torch.enable_grad(), torch.autocast("cpu", enabled=False)
    with torch.inference_mode(mode=False), recorded, exact, torch.device("cpu"):
        return source.agrees(library)


def _opened(path: Path, source: Source) -> ctypes.CDLL:
    types = {"p": ctypes.c_void_p, "i": ctypes.c_int, "l": ctypes.c_int64, "f": ctypes.c_float}
    library = ctypes.CDLL(str(path))
    for name, arguments in source.arguments:
        getattr(library, name).argtypes = [types[letter] for letter in arguments]
    return library
