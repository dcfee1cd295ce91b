"""The live table of a search."""

import io

from rich.console import Console

from sightline.tuning.board import Board, Standing

ROW = Standing(number=7, settings=("optim.lr=0.1",), epoch=2, epochs=3, value=0.5)


def drawn(*, terminal: bool) -> str:
    stream = io.StringIO()
    with Board(Console(file=stream, force_terminal=terminal, width=100)) as board:
        board.ended()
        board.show([ROW], begun=8, trials=20, best=0.625)
    return stream.getvalue()


def test_a_terminal_shows_the_running_trials_the_best_and_what_is_left() -> None:
    text = drawn(terminal=True)
    for words in ("2/3", "50.00%", "optim.lr=0.1", "7 of 20 trials", "best 62.50%", "about 1 min left"):
        assert words in text


def test_elsewhere_nothing_is_drawn() -> None:
    assert drawn(terminal=False) == ""
