"""The most memory that a process had while something was done."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Self

import psutil

__all__ = ["PeakMemory"]

_LOOK_S = 0.002
_PEAK, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """Bytes of resident memory that a block took above what there was before it.

    On Linux the kernel notes the peak itself; elsewhere, and where it may not be asked, a thread looks every
    two milliseconds, and shorter peaks are missed.

    Attributes
    ----------
    above : int
        Most resident memory in the block less that before it, in bytes; once the block has ended.
    """

    def __init__(self) -> None:
        self.above = 0
        self._process = psutil.Process()
        self._most = 0
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Begin."""
        self._before = self._process.memory_info().rss
        if not _reset_kernels_peak():
            self._thread = threading.Thread(target=self._watch, name="livestain-peak", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Note the peak."""
        if self._thread is not None:
            self._over.set()
            self._thread.join()
        else:
            self._most = _kernels_peak()
        self.above = max(0, max(self._most, self._process.memory_info().rss) - self._before)

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_S):
            self._most = max(self._most, self._process.memory_info().rss)


def _reset_kernels_peak() -> bool:
    """Make the kernel forget the peak so far; False where it cannot be asked."""
    if sys.platform != "linux":
        return False
    try:
        _RESET.write_text("5", encoding="ascii")
        return _kernels_peak() > 0
    except OSError:
        return False


def _kernels_peak() -> int:
    """Return Linux's note of the most resident memory, in bytes; 0 where it has none."""
    for line in _PEAK.read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
