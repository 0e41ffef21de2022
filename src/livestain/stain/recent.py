"""The planes that were read last, for windows that share them with the windows before."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np
import psutil

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from livestain.planes import PlaneIndex
    from livestain.stain.planes import Planes

__all__ = ["RecentPlanes", "bytes_to_keep"]

_MOST_BYTES = 2**27
"""128 MiB: 16 planes of 2048 x 2048."""

_SHARE = 8
"""One part in so many of the memory that is free may be kept."""


def bytes_to_keep(planes: int, shape: tuple[int, int]) -> int:
    """Return how many bytes to keep, so that so many planes stay as long as they are asked for.

    128 MiB; more where the planes need it, up to an eighth of the free memory.
    """
    needed = planes * shape[0] * shape[1] * 2
    return max(_MOST_BYTES, min(needed, psutil.virtual_memory().available // _SHARE))


class RecentPlanes:
    """Reads the planes of windows; one that the window before had too is not read again.

    A plane of the camera never changes once it is there. Windows of one depth at one time point, and whole
    stacks, share no planes with others, so of these nothing is kept.

    Parameters
    ----------
    most_bytes : int
        So much is kept at most, what was asked for last.
    """

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._kept: OrderedDict[PlaneIndex, NDArray[np.uint16]] = OrderedDict()
        self._bytes = 0

    def read(
        self, there: Planes, sources: Sequence[PlaneIndex], *, whole_stack: bool = False
    ) -> NDArray[np.uint16]:
        """Return the planes of a window, (planes, y, x), a new array.

        Parameters
        ----------
        there : Planes
            Where they are.
        sources : sequence of PlaneIndex
            Which.
        whole_stack : bool
            Whether every plane of the stack is predicted from these at once.

        Raises
        ------
        LivestainError
            If one is not there, or damaged.
        """
        found: dict[PlaneIndex, NDArray[np.uint16]] = {}
        for index in sources:  # of which several may be one plane: edges are repeated
            if index not in found:
                kept = self._kept.get(index)
                found[index] = there.read(index) if kept is None else kept
        if not whole_stack and len({(index.t, index.z) for index in sources}) > 1:
            self._keep(found)
        return np.stack([found[index] for index in sources])

    def _keep(self, found: dict[PlaneIndex, NDArray[np.uint16]]) -> None:
        for index, plane in found.items():
            if index not in self._kept:
                self._bytes += plane.nbytes
            self._kept[index] = plane
            self._kept.move_to_end(index)
        while self._bytes > self._most_bytes:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
