"""Which worker does which plane, where several share the work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from livestain.planes import PlaneIndex

__all__ = ["Share"]

_GOLDEN = 2654435769
"""2**32 divided by the golden ratio."""


@dataclass(frozen=True, slots=True)
class Share:
    """One worker's part of all planes.

    Known from a plane's place alone, so that workers need not agree on anything while they work, and one
    that is started again finds the same planes as its own. What one prediction gives, of several outputs
    or of a whole stack, is never divided.

    Attributes
    ----------
    worker : int
        Its number, counted from 0.
    of : int
        Number of workers.
    """

    worker: int = 0
    of: int = 1

    def has(self, index: PlaneIndex, *, whole_stack: bool = False) -> bool:
        """Return whether a plane is this worker's.

        Of neighbours in time, and in a stack, each worker has one. Their order changes from group to
        group, or of a channel that is taken at every second time point alone one of two workers would have
        everything.

        Parameters
        ----------
        index : PlaneIndex
            Raw, for its pyramid, or virtual.
        whole_stack : bool
            Whether all planes of its stack go together.
        """
        if self.of == 1:
            return True
        depth = 0 if whole_stack else index.z
        return sum(map(self._turn, (index.p, index.t, depth))) % self.of == self.worker

    def _turn(self, place: int) -> int:
        """Return a number whose remainder goes round with the places, each group in another order."""
        # Multiples of the golden ratio leave even remainders in any regular pick (Knuth, TAOCP 3, 6.4).
        shift = (place // self.of * _GOLDEN % 2**32) * self.of >> 32
        return place + shift
