"""`sightline tune`: the second aim, as the user types it."""

from collections.abc import Callable

import pytest


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--against", "watts"], "--against must be latency or macs, got 'watts'"),
        (["--under", "5"], "--under is the time of an image, such as 5ms"),
        (["--under", "5ms", "--against", "macs"], "--under 5ms limits latency, and --against weighs macs"),
        (["--against", "macs", "--engine", "onnx"], "--engine onnx says what latency is measured with"),
        (["--against", "latency", "--engine", "onyx"], "Unknown engine 'onyx'"),
    ],
)
def test_an_aim_that_is_none_is_one_sentence(
    run_cli: Callable[..., tuple[int, str, str]], words: list[str], told: str
) -> None:
    code, _, error = run_cli("tune", "digits", *words)
    assert code == 2
    assert told in error
    assert len(error.strip().splitlines()) == 1
