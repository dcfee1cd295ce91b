import os

import pytest
import torch

from sightline.devices import cores, emulates_bf16, memory
from sightline.tuning.pool import Pool


def test_cores_are_counted_where_a_system_has_no_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert cores() == 6
    assert Pool("photos", side_by_side=2)._threads == 3
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores() == 1


def test_memory_is_counted_in_bytes() -> None:
    assert 2**27 < memory() < 2**50


@pytest.mark.parametrize(
    ("device", "has", "expected"),
    [
        ("cpu", {"architecture": "x86_64", "avx512_vnni": True, "avx512_bf16": False, "amx_bf16": False}, True),
        ("cpu", {"architecture": "x86_64", "avx512_bf16": True}, False),
        ("cpu", {"architecture": "x86_64", "amx_bf16": True}, False),
        ("cpu", {"architecture": "arm64", "bf16": False}, True),
        ("cpu", {"architecture": "arm64", "bf16": True}, False),
        ("cpu", {"architecture": "arm64", "bf16": False, "sve_bf16": True}, False),
        ("cpu", {"architecture": "riscv64"}, False),  # which doesn't say
        ("cuda", {"architecture": "x86_64"}, False),
    ],
)
def test_a_processor_without_bfloat16_is_known(
    device: str, has: dict[str, object], *, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    assert emulates_bf16(torch.device(device)) == expected
