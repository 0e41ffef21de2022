"""Room for a triggered burst in the core's buffer, so that a moment's hold-up costs no frame."""

from __future__ import annotations

import ctypes
import logging
import math
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import useq
    from pymmcore_plus import CMMCorePlus

__all__ = ["burst_buffer", "free_memory", "write_room"]

_log = logging.getLogger(__name__)

_SHARE = 8
"""The buffer takes at most one part in this many of the memory that is free."""

_MB = 2**20

_WRITE_SHARE = 16
_LEAST_ROOM, _MOST_ROOM = 256 * _MB, 1024 * _MB


@contextmanager
def burst_buffer(core: CMMCorePlus, sequence: Iterable[useq.MDAEvent]) -> Iterator[int]:
    """Make the core's circular buffer hold the longest burst of a sequence, while the block runs.

    In a triggered burst the camera does not wait: when the buffer is full, the run ends with "Buffer
    overflowed". A burst that fits as a whole cannot overflow it, however slow the disk is. The buffer
    is never made smaller than the user has set it, is at most an eighth of the free memory, and is as
    it was when the block ends. Snaps do not use it.

    Parameters
    ----------
    core : CMMCorePlus
        Configured as for the run.
    sequence : useq.MDASequence, or list of useq.MDAEvent
        What the runner will run.

    Yields
    ------
    int
        The buffer's size in the block, in MB (2**20 bytes).
    """
    before = core.getCircularBufferMemoryFootprint()
    plane = core.getImageWidth() * core.getImageHeight() * core.getBytesPerPixel()
    # One plane more, since MMCore rounds the number of planes down.
    wanted = math.ceil(plane * (_longest_burst(core, sequence) + 1) / _MB)
    size = min(wanted, free_memory() // _SHARE // _MB)
    if size <= before:
        yield before
        return
    try:
        core.setCircularBufferMemoryFootprint(size)
    except (RuntimeError, MemoryError) as error:
        _log.warning("the core's buffer stays at %d MB, %d MB refused: %s", before, size, error)
        core.setCircularBufferMemoryFootprint(before)
        size = before
    try:
        yield size
    finally:
        if size != before:
            core.setCircularBufferMemoryFootprint(before)


def write_room() -> int:
    """Return the bytes of planes that may be on their way to the disk at once, by the memory that is free.

    While the disk is behind, a frame waits either here or in the core's buffer: it is the same memory. Here
    the acquisition goes on meanwhile.
    """
    return min(max(free_memory() // _WRITE_SHARE, _LEAST_ROOM), _MOST_ROOM)


def free_memory() -> int:
    """Return the bytes that new buffers may take without pushing others out."""
    if sys.platform == "win32":
        status = _MemoryStatus()
        status.length = ctypes.sizeof(status)
        ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
        return int(status.available)
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        for line in meminfo.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    # macOS tells only how much there is; half of it is a careful guess.
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _longest_burst(core: CMMCorePlus, sequence: Iterable[useq.MDAEvent]) -> int:
    """Return the number of planes in the longest burst that the core's engine would trigger."""
    engine = core.mda.engine
    split = getattr(engine, "event_iterator", None)
    if split is None:
        return 0
    return max((len(getattr(event, "events", ())) for event in split(sequence)), default=0)


class _MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX of the Windows API."""

    _fields_ = (
        ("length", ctypes.c_ulong),
        ("load", ctypes.c_ulong),
        ("total", ctypes.c_ulonglong),
        ("available", ctypes.c_ulonglong),
        ("total_page_file", ctypes.c_ulonglong),
        ("available_page_file", ctypes.c_ulonglong),
        ("total_virtual", ctypes.c_ulonglong),
        ("available_virtual", ctypes.c_ulonglong),
        ("available_extended_virtual", ctypes.c_ulonglong),
    )
