"""The event loop runs a model in a quiet turn, or after others had as long as a run takes."""

from sightline.serving.loop_turns import QUIET_TURN, Turns


class Loop:
    """A loop whose turns take as long as they are told."""

    def __init__(self, patience: float) -> None:
        self.now = 1.0
        self.turns = Turns(patience, clock=lambda: self.now)

    def turn(self, seconds: float, ready: int = 1) -> bool:
        self.now += seconds
        return self.turns.should_run(ready)


def test_a_lone_image_waits_for_one_quiet_turn() -> None:
    loop = Loop(patience=0.01)
    assert not loop.turn(5.0)
    assert loop.turn(QUIET_TURN / 2)


def test_a_turn_that_brought_an_image_is_not_quiet() -> None:
    loop = Loop(patience=0.01)
    assert [loop.turn(QUIET_TURN / 2, ready) for ready in (1, 2, 3, 3)] == [False, False, False, True]


def test_busy_turns_have_as_long_as_the_last_run_took() -> None:
    loop = Loop(patience=0.01)
    busy = 0.001
    assert [loop.turn(busy) for _ in range(12)].index(True) == 11
    loop.turns.ran(0.003)
    assert [loop.turn(busy) for _ in range(5)].index(True) == 4


def test_one_turn_quicker_than_any_other_makes_no_quiet_turn_busy() -> None:
    loop = Loop(patience=0.01)
    loop.turn(0.0)
    assert loop.turn(QUIET_TURN / 50)
    loop.turns.ran(0.01)
    loop.turn(0.01)
    assert loop.turn(QUIET_TURN / 2)


def test_what_comes_after_a_rest_has_its_turns_anew() -> None:
    loop = Loop(patience=0.01)
    loop.turn(0.0)
    loop.turns.rest()
    assert not loop.turn(1.0)
