"""Timing in turns, with doubles in place of processes."""

from typing import Any

import pytest

from sightline.errors import SightlineError
from sightline.measuring import Rounds, in_turns


class Double:
    """A worker whose calls take a stated time, and which fails in a stated turn."""

    def __init__(self, name: str, seconds: float, said: list[str], fails_at: int | None = None) -> None:
        self.name, self.seconds, self.said, self.fails_at = name, seconds, said, fails_at
        self.turns = 0

    def run(self, at_least: float) -> list[float]:
        self.said.append(self.name)
        self.turns += 1
        if self.turns == self.fails_at:
            raise SightlineError("out of breath")
        return [self.seconds] * max(1, int(at_least / self.seconds))


def last(doubles: dict[str, Any], **settings: Any) -> tuple[dict[str, Rounds], int]:
    turns = list(in_turns(doubles, **settings))
    return turns[-1], len(turns)


def test_networks_take_turns_and_the_warm_up_does_not_count() -> None:
    said: list[str] = []
    doubles = {name: Double(name, 0.1, said) for name in "ab"}
    found, turns = last(doubles, rounds=2, seconds=0.2)
    assert said == ["a", "b", "a", "b", "a", "b"]
    assert turns == 6
    assert found["a"].rounds == [[0.1, 0.1], [0.1, 0.1]]
    assert found["a"].median == 0.1


def test_a_network_that_fails_has_its_reason_and_no_figures_and_the_others_go_on() -> None:
    doubles = {"a": Double("a", 0.1, []), "b": Double("b", 0.1, [], fails_at=3)}
    found, turns = last(doubles, rounds=4, seconds=0.1)
    assert (found["b"].failure, found["b"].rounds, doubles["b"].turns) == ("out of breath", [], 3)
    assert len(found["a"].rounds) == 4
    assert turns == 10  # so many as were announced, for the bar


def test_what_is_hopelessly_slow_is_timed_once() -> None:
    doubles = {"quick": Double("quick", 0.01, []), "slow": Double("slow", 0.1, [])}
    found, _ = last(doubles, rounds=5, seconds=0.1, hopeless=2)
    assert len(found["slow"].rounds) == 1
    assert len(found["quick"].rounds) == 5
    assert found["slow"].failure is None


def test_slow_calls_end_after_three_rounds_when_the_time_is_up() -> None:
    double = Double("a", 0.1, [])
    found, _ = last({"a": double}, rounds=8, seconds=0.1, limit=0)
    assert len(found["a"].rounds) == 3
    assert len(last({"a": double}, rounds=8, seconds=0.1, limit=60)[0]["a"].rounds) == 8


def test_nothing_measured_is_infinitely_slow() -> None:
    assert Rounds().median == pytest.approx(float("inf"))
