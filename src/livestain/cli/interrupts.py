"""Ctrl-C, counted."""

from __future__ import annotations

import signal
import threading
from typing import Any, Self

__all__ = ["Interrupts"]


class Interrupts:
    """Counts Ctrl-C in a block, where as an exception it could come between any two lines.

    Parameters
    ----------
    stop : threading.Event, optional
        Is set by the first one.
    """

    def __init__(self, stop: threading.Event | None = None) -> None:
        self.count = 0
        self._stop = stop
        self._before: Any = None

    def __enter__(self) -> Self:
        """Listen from now on."""
        # Python lets the main thread alone have a say; elsewhere Ctrl-C is not ours.
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def _note(self, *_: object) -> None:
        self.count += 1
        if self._stop is not None:
            self._stop.set()

    def __exit__(self, *_: object) -> None:
        """Give Ctrl-C back."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
