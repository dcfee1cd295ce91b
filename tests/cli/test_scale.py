"""`sightline scale`: what it refuses, before anything is read."""

from collections.abc import Callable

import pytest

Cli = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--budget", "2"], "--budget says how many times the base's cost, such as 2x, got '2'"),
        (["--budget", "0x"], "--budget says how many times"),
        (["--budget", "1x"], "--budget must be 1.2x to 64x"),
        (["--step", "fast"], "--step says how many times"),
        (["--by", "watts"], "--by must be macs or latency, got 'watts'"),
        (["--among", "resnet20,resnet32"], "such as 5ms, or its multiply-accumulates, such as 60M or 4G; got '2x'"),
        (["--among", "resnet20,resnet32", "--budget", "-5ms"], "got '-5ms'"),
        (["--among", "resnet20", "--budget", "5ms"], "two networks at least"),
        (["--among", "resnet20,resnet32", "--by", "latency"], "leave --base, --by and --step out"),
        (["--engine", "onnx"], "--engine onnx says what latency is measured with"),
        (["--repeats", "0"], "--repeats must be at least 1"),
        (["--confirm", "-1"], "--confirm must be at least 0"),
        (["--base", "resnet2O"], "Did you mean"),
    ],
)
def test_what_can_t_be_scaled_is_one_sentence_and_exit_code_two(run_cli: Cli, words: list[str], told: str) -> None:
    code, _, error = run_cli("scale", "digits", *words)
    assert code == 2
    assert told in error
    assert len(error.strip().splitlines()) == 1
