"""Bounds that are no bounds are refused before a server starts."""

import math
from collections.abc import Callable

import pytest

from sightline.errors import SightlineError
from sightline.serving.limits import Batching, Limits, Settings


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


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "https://shop.example",
        "http://localhost:3000",
        "http://[::1]:8000",
        "chrome-extension://abc",
    ],
)
def test_a_site_that_may_call_is_an_origin_or_every_one(origin: str) -> None:
    assert Settings(models=("model",), cors_origins=(origin,)).cors_origins == (origin,)


@pytest.mark.parametrize(
    "origin",
    [
        "nonsense",
        "",
        "shop.example",
        "https://",
        "https://shop.example/",
        "https://Shop.example",
        "https://*.example",
    ],
)
def test_a_site_that_no_browser_would_name_so_is_refused(
    origin: str, run_cli: Callable[..., tuple[int, str, str]]
) -> None:
    code, _, err = run_cli("serve", "model", "--cors-origin", "https://shop.example", "--cors-origin", origin)
    assert (code, err.count("\n")) == (2, 1)
    assert err.endswith(f"or * for every site; got {origin!r}.\n")


@pytest.mark.parametrize("value", [-0.001, 10.1, math.inf, math.nan])
def test_an_image_is_told_to_wait_for_seconds_at_most(value: float) -> None:
    with pytest.raises(SightlineError, match="max_wait_seconds must be 0 to 10"):
        Batching(max_wait_seconds=value)
