"""The bar that shows how far a training is."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from livestain.training.extra import needs_train_extra

with needs_train_extra():
    from lightning.pytorch.callbacks import Callback

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from livestain.training.watching import Watch

__all__ = ["Bar", "new_progress", "tell"]


def new_progress() -> Progress:
    """Return a progress display on standard error, if that is a terminal; its tasks have a field `note`.

    In a narrow terminal the note is broken into lines, and steps and times stay whole.
    """
    console = Console(stderr=True)
    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        TimeElapsedColumn(table_column=Column(no_wrap=True)),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[note]}", table_column=Column(no_wrap=False)),
        console=console,
        disable=not console.is_terminal,
    )


def tell(*sentences: str) -> None:
    """Write sentences to standard error, one a line, whether or not it is a terminal."""
    for sentence in sentences:
        print(f"livestain: {sentence}", file=sys.stderr)


class Bar(Callback):
    """Show steps, and the values that were last logged.

    Parameters
    ----------
    watch : Watch
        Knows them.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._progress = new_progress()

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Begin where the run begins."""
        total = pl_module.recipe.steps
        self._task = self._progress.add_task(
            "training", total=total, completed=pl_module.done, note=""
        )
        self._progress.start()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
        """Go one on."""
        note = "  ".join(
            f"{name.replace('_', ' ')} {value:.3g}" for name, value in self._watch.latest.items()
        )
        self._progress.update(self._task, completed=pl_module.done, note=note)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Stop."""
        self._progress.stop()

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        """Stop, so that the message has a line of its own."""
        self._progress.stop()
