"""How much memory a run takes: looked at once a second, written down ever more rarely."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from livestain.store import Journal

__all__ = ["MemoryWatch"]

_LOOK_S = 1.0

_LINES = 100
"""A line of the journal comes when the run is so much longer again: 100 in the first 100 seconds, 700 in
twelve hours."""


class MemoryWatch:
    """Watches the resident memory of this process and of its workers.

    Each line of the journal holds the most that was seen since the one before, so that no peak of a second
    is lost. Looking takes some ten microseconds a process.
    """

    def __init__(self) -> None:
        self._own = psutil.Process()
        self._workers: dict[int, psutil.Process] = {}
        self._most: dict[str, float] = {}
        self._peak: dict[str, float] = {}
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self.error: Exception | None = None
        """Why nothing was written down any more, if so."""

    @property
    def peak_mib(self) -> dict[str, float]:
        """The most that was seen, MiB: `acquisition`, and `workers` together where there are any."""
        return dict(self._peak)

    def add(self, pid: int) -> None:
        """Watch a worker, too; of one that is a thread of this process there is nothing to add."""
        if pid != os.getpid():
            try:
                self._workers[pid] = psutil.Process(pid)
            except psutil.Error:  # it died a moment ago
                return

    def begin(self, journal: Journal) -> None:
        """Watch on a thread of its own from now on."""
        self._thread = threading.Thread(
            target=self._watch, args=(journal,), name="livestain-memory", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Write down what was seen last and end the thread; a second call does nothing."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self, journal: Journal) -> None:
        began, due, pause = time.monotonic(), 0.0, 0.0
        try:
            while True:
                over = self._over.wait(pause)
                pause = _LOOK_S
                self._look()
                elapsed = time.monotonic() - began
                if over or elapsed >= due:
                    journal.append("memory", mib=self._most)
                    self._most = {}
                    due = elapsed + max(_LOOK_S, elapsed / _LINES)
                if over:
                    return
        except Exception as error:  # a run does not end for it; its report says so
            self.error = error

    def _look(self) -> None:
        """Take in what there is now."""
        now = {"acquisition": self._own.memory_info().rss}
        for pid, process in list(self._workers.items()):
            try:
                if process.is_running():
                    now["workers"] = now.get("workers", 0) + process.memory_info().rss
                    continue
            except psutil.Error:
                pass  # it is leaving
            self._workers.pop(pid, None)
        for name, size in now.items():
            mib = round(size / 2**20, 1)
            self._most[name] = max(mib, self._most.get(name, 0.0))
            self._peak[name] = max(mib, self._peak.get(name, 0.0))
