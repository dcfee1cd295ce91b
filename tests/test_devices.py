import os

import pytest

from sightline.devices import cores
from sightline.tuning.pool import Pool


def test_cores_are_counted_where_a_system_has_no_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert cores() == 6
    assert Pool("photos", side_by_side=2)._threads == 3
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores() == 1
