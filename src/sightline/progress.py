"""A progress bar with the rate and the time left, on the terminal only."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def track(items: Iterable[Item], *, total: int, label: str, unit: str = "images", size: int = 1) -> Iterator[Item]:
    """Pass `items` on and show how far they are: each counts `size` of the `total` units.

    Where the standard error stream is no terminal nothing is drawn.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(compact=True),
    )
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, disable=not console.is_terminal, transient=True, redirect_stdout=False
    ) as progress:  # what is printed meanwhile goes where it should, a file perhaps
        task = progress.add_task(label, total=total, unit=unit, rate="")
        for item in items:
            yield item
            progress.advance(task, size)
            speed = progress.tasks[0].speed
            progress.update(task, rate=f"{speed:,.0f}/s" if speed else "")
