"""Which backends ended the process when they were tried, so that the next start goes without them.

A runtime that finds no memory, or crashes, may take the process along, and nobody is left to refuse it. A
note is therefore written before a backend is tried, and removed once it has predicted a frame.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import weakref
from typing import TYPE_CHECKING, Any

import psutil

from livestain.inference.cache import cache_folder, key_of

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Trial", "ended_the_process"]

_COUNTS_S = 24 * 3600.0
"""After so long a backend is tried again: its process may have been killed for another reason."""


class Trial:
    """A note that this process tries a backend, until `end` or the process's regular end.

    Parameters
    ----------
    facts : dict
        What the outcome depends on: bundle, device, versions.
    name : str
        The backend's.
    """

    def __init__(self, facts: dict[str, Any], name: str) -> None:
        path = _folder() / f"{key_of(facts)}-{os.getpid()}.json"
        note = {"name": name, "pid": os.getpid(), "since": psutil.Process().create_time()}
        with contextlib.suppress(OSError):  # without a cache nothing is remembered
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(note), "utf-8")
        self._end = weakref.finalize(self, _remove, path)

    def end(self) -> None:
        """Remove the note: the process is still here."""
        self._end()


def ended_the_process(facts: dict[str, Any]) -> set[str]:
    """Return the backends whose trial was the last thing that a process did, lately."""
    found = set()
    for path in _folder().glob(f"{key_of(facts)}-*.json"):
        try:
            note = json.loads(path.read_text("utf-8"))
            name, pid, since = str(note["name"]), int(note["pid"]), float(note["since"])
            old = time.time() - path.stat().st_mtime > _COUNTS_S
        except (OSError, ValueError, KeyError, TypeError):  # half written, or removed meanwhile
            continue
        if _lives(pid, since):
            continue
        if old:
            _remove(path)
        else:
            found.add(name)
    return found


def _lives(pid: int, since: float) -> bool:
    try:
        return abs(psutil.Process(pid).create_time() - since) < 1
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:  # another user's
        return True


def _folder() -> Path:
    return cache_folder() / "trials"


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
