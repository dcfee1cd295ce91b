"""Bounds that are no bounds are refused before a server starts."""

import math

import pytest

from sightline.errors import SightlineError
from sightline.serving.limits import Limits


@pytest.mark.parametrize("value", [0, -1, math.nan])
@pytest.mark.parametrize("name", ["deadline_seconds", "max_queue_seconds", "max_images"])
def test_a_bound_is_greater_than_zero(name: str, value: float) -> None:
    with pytest.raises(SightlineError, match=f"{name} must be greater than 0, got {value}"):
        Limits(**{name: value})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("value", [math.nan, -1.0])
def test_a_server_may_stop_without_waiting_but_not_for_what_is_no_time(value: float) -> None:
    assert Limits(drain_seconds=0).drain_seconds == 0
    with pytest.raises(SightlineError, match=f"drain_seconds must be at least 0, got {value}"):
        Limits(drain_seconds=value)
