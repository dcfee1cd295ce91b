"""What a search is at, on the terminal: the trials that run, the best so far, how many are left and for how long."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sightline.evaluation.text import shorten

_WIDEST = 60


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A trial that is training."""

    number: int
    settings: tuple[str, ...]
    epoch: int
    """Epochs that have ended."""
    epochs: int
    value: float | None
    """The judged figure after them."""


class Board:
    """A live table below what is logged; nothing where the standard error stream is no terminal."""

    def __init__(self, console: Any = None) -> None:
        """`console` is rich's; left out, the standard error stream."""
        from rich.console import Console
        from rich.live import Live

        self._console = console or Console(stderr=True)
        self._live = Live(console=self._console, transient=True, refresh_per_second=2, redirect_stdout=False)
        self._began = time.monotonic()
        self._ended = 0

    def __enter__(self) -> "Board":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def ended(self) -> None:
        """Another trial of this call is over."""
        self._ended += 1

    def show(self, running: Sequence[Standing], *, begun: int, trials: int, best: float | None) -> None:
        """Draw it: `begun` of `trials` have begun, those of other calls included."""
        if not self._console.is_terminal:
            return
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        for column in ("trial", "epoch", "now", "settings"):
            table.add_column(column, justify="left" if column == "settings" else "right", no_wrap=True)
        for each in running:
            value = "" if each.value is None else f"{each.value:.2%}"
            words = shorten(" ".join(each.settings), _WIDEST)
            table.add_row(f"{each.number}", f"{each.epoch}/{each.epochs}", value, words)
        done = begun - len(running)
        table.caption = " · ".join(
            part
            for part in (
                f"{done} of {trials} trials",
                "" if best is None else f"best {best:.2%}",
                self._left(trials - done),
            )
            if part
        )
        table.caption_justify = "left"
        self._live.update(table)

    def _left(self, trials: int) -> str:
        """Time left, by the trials that have ended; "" before one has."""
        if not self._ended or not trials:
            return ""
        each = (time.monotonic() - self._began) / self._ended  # several at once are in it already
        minutes = round(each * trials / 60)
        return f"about {minutes // 60} h {minutes % 60} min left" if minutes >= 60 else f"about {minutes or 1} min left"
