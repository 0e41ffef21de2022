"""Pyramid levels of raw planes, written when nothing else is to be done."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from livestain.errors import FullDiskError, LivestainError
from livestain.store import level_shapes

if TYPE_CHECKING:
    from livestain.planes import PlaneIndex
    from livestain.stain.backlog import Stamp
    from livestain.stain.share import Share
    from livestain.store import Store

__all__ = ["Pyramids"]

_QUIET_S = 0.25
"""When no plane has come for so long, pyramids may take all the time there is."""

_PART = 5
"""While planes come, pyramids take one part in this many of the time: the camera comes first."""


_BEHIND_S = 0.1
"""A plane that took so long to the disk says that the disk is behind the camera: pyramids wait for quiet."""


class Pyramids:
    """The raw planes that have no pyramid yet, newest first.

    Parameters
    ----------
    store : Store
        Open for writing.
    share : Share
        Which planes are this worker's.
    """

    def __init__(self, store: Store, share: Share) -> None:
        self._store = store
        self._share = share
        self._any = len(level_shapes(store.plan.height, store.plan.width)) > 1
        self._waiting: deque[PlaneIndex] = deque()  # newest last
        self._due = 0.0
        self._last_plane = 0.0
        self._behind = False

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    def arrived(self, index: PlaneIndex, stamp: Stamp) -> None:
        """Note that a raw plane came, and how long it took to the disk."""
        if self._any:
            self._last_plane = time.monotonic()
            self._behind = stamp.committed_ns - stamp.ready_ns > _BEHIND_S * 1e9
            if self._share.has(index):
                self._waiting.append(index)

    def scan(self) -> None:
        """Find in the store which pyramids are missing."""
        known = set(self._waiting)
        for c, channel in enumerate(self._store.plan.channels):
            if channel.kind == "raw":
                missing = self._store.levels_missing(c)
                self._waiting.extend(i for i in missing if i not in known and self._share.has(i))

    def rest(self) -> float:
        """Return the seconds that pyramids have to wait; 0 when the acquisition is quiet."""
        now = time.monotonic()
        if now - self._last_plane >= _QUIET_S:
            return 0.0
        quiet = self._last_plane + _QUIET_S
        return max(0.0, (quiet if self._behind else min(self._due, quiet)) - now)

    def write_next(self) -> str:
        """Write the newest plane's pyramid, then let it rest: cores and disk are the acquisition's first.

        Returns
        -------
        str
            What went wrong; empty if nothing did.

        Raises
        ------
        FullDiskError
            If there is no space; it would be so of all others, too.
        """
        began = time.monotonic()
        index, why = self._waiting.pop(), ""
        try:
            self._store.write_levels(index, self._store.read(index))
        except FullDiskError:
            raise
        except LivestainError as error:
            why = f"pyramid of plane {index.words}: {error}"
        now = time.monotonic()
        self._due = now + (_PART - 1) * (now - began)
        return why
