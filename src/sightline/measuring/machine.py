"""Which machine figures were measured on."""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sightline.devices import cores

PACKAGES = ("sightline", "torch", "onnxruntime", "openvino")
"""Whose versions change what is fast."""

_VECTOR = ("avx", "amx", "asimd", "sve", "bf16", "i8mm")


def processor() -> str:
    """The CPU's name, which processors with other instructions may share."""
    return _told("model name") or platform.processor() or platform.machine()


def instructions() -> str:
    """The CPU's vector and matrix instructions, by Linux's names and in their order; empty on other systems."""
    names = (_told("flags") or _told("Features")).split()
    return " ".join(sorted(name for name in names if name.startswith(_VECTOR)))


def _told(field: str) -> str:
    """What Linux says of the first processor; empty where it says nothing."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")


def versions() -> dict[str, str]:
    """Of Python, and of each of PACKAGES that is installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """What results keep of it."""
    told = {"processor": processor(), "instructions": instructions(), "cores": cores(), "system": platform.platform()}
    return {**told, **versions()}
