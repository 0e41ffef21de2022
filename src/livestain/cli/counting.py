"""The progress bar of the verbs that count planes."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.progress import TaskID

__all__ = ["counted"]


@contextmanager
def counted(what: str) -> Iterator[tuple[Progress, Callable[[int, int], None]]]:
    """Give a bar on standard error, and what is to be called as ``(done, of)``.

    It shows nothing before there is something to count: a full bar before an error looks like work done.
    """
    tasks: list[TaskID] = []
    bar = Progress(console=Console(stderr=True))

    def count(done: int, of: int) -> None:
        if not tasks:
            tasks.append(bar.add_task(what, total=of))
            bar.start()
        bar.update(tasks[0], completed=done, total=of)

    try:
        yield bar, count
    finally:
        # Of a bar that never began, nothing is written: not even the empty line at its end.
        if tasks:
            bar.stop()
