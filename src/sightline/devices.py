"""Where torch computes, in which precision, on how many cores, and beside how much memory."""

import os
from typing import TYPE_CHECKING

from sightline.deps import require_torch
from sightline.errors import SightlineError

if TYPE_CHECKING:
    import torch

AUTOCAST = {"bf16": "bfloat16", "fp16": "float16"}
"""By the recipe's names, torch's."""


def cores() -> int:
    """Logical cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # macOS and Windows have none
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def memory() -> int:
    """Bytes of this machine's memory, used or not."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def autocast(device: "torch.device", precision: str) -> "torch.autocast":
    """Mixed precision on that device; "float32" turns it off."""
    import torch

    dtype = getattr(torch, AUTOCAST[precision]) if precision in AUTOCAST else None
    return torch.autocast(device.type, dtype=dtype, enabled=precision in AUTOCAST)


EMULATED = "This processor has no instructions for bfloat16, in which {} computes: that may be several times slower."


def emulates_bf16(device: "torch.device") -> bool:
    """Whether the processor has no instructions for bfloat16: computing in it is then slower than in float32."""
    import torch

    if device.type != "cpu":
        return False
    has = torch.cpu.get_capabilities()
    if has.get("architecture") == "x86_64":
        return not any(has.get(name) for name in ("avx512_bf16", "amx_bf16", "avx_ne_convert"))
    return has.get("bf16") is False and not has.get("sve_bf16")  # ARM's name; others don't say


def synchronize(device: "torch.device") -> None:
    """Wait for a GPU to end what it was given; a CPU has by the time a call returns."""
    import torch

    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).synchronize()


def pick_device(name: str) -> "torch.device":
    """The device of that name; "auto" is a GPU where there is one. Raises SightlineError where it is missing."""
    require_torch("A model folder's network")
    import torch

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(candidate for candidate in ("cuda", "mps", "cpu") if available[candidate])
    if not available.get(name):
        known = ", ".join(candidate for candidate, there in available.items() if there)
        raise SightlineError(f"The device {name!r} is not available here. Available: {known}.")
    return torch.device(name)
