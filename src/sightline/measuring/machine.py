"""Which machine figures were measured on."""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sightline.devices import cores

PACKAGES = ("sightline", "torch", "onnxruntime", "openvino")
"""Whose versions change what is fast."""


def processor() -> str:
    """The CPU's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


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
    return {"processor": processor(), "cores": cores(), "system": platform.platform(), **versions()}
