"""Which time point a window shows that follows a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from livestain.planes import PlaneIndex

__all__ = ["PATIENCE_S", "Following"]

PATIENCE_S = 2.0
"""How long raw planes may be ahead of the predictions before they are shown alone, at least."""


class Following:
    """The newest time point that is worth showing, for each position and depth.

    Where nothing is predicted, that is the newest raw plane's. Else it is the newest prediction's: of a
    model that keeps up with one plane in three nothing would ever be seen beside the newest raw plane.
    Where predictions stay away for longer than `PATIENCE_S`, and than twice the time that the last one
    took, the raw planes go on alone. What is kept is a few numbers for each position and depth, whatever
    the length of the run.

    Parameters
    ----------
    predicts : bool
        Whether the run has virtual channels.
    """

    def __init__(self, predicts: bool) -> None:
        self._predicts = predicts
        self._raw: dict[tuple[int, int], int] = {}
        self._predicted: dict[tuple[int, int], int] = {}
        self._ahead_since: dict[tuple[int, int], float] = {}
        self._took: dict[tuple[int, int], float] = {}

    def note(self, index: PlaneIndex, *, predicted: bool, now: float) -> None:
        """Take in that a plane is in the store.

        Parameters
        ----------
        index : PlaneIndex
        predicted : bool
            Whether it is a virtual channel's.
        now : float
            Seconds, of any clock that never goes back.
        """
        place = index.p, index.z
        newest = self._predicted if predicted else self._raw
        if index.t <= newest.get(place, -1):
            return
        newest[place] = index.t
        since = self._ahead_since.pop(place, now)
        if predicted:
            self._took[place] = now - since
            since = now
        if self._raw.get(place, -1) > self._predicted.get(place, -1):
            self._ahead_since[place] = since

    def newest(self, p: int, z: int, now: float) -> int | None:
        """Return the time point to show at a position and depth; None where there is none yet.

        Parameters
        ----------
        p, z : int
        now : float
            Of the clock that `note` was given.
        """
        place = p, z
        raw, predicted = self._raw.get(place), self._predicted.get(place)
        if not self._predicts:
            return raw
        patience = max(PATIENCE_S, 2 * self._took.get(place, 0.0))
        waits = now - self._ahead_since.get(place, now)
        return raw if waits > patience else predicted

    def last(self, p: int, z: int) -> int | None:
        """Return the last time point with any plane at a position and depth; None where there is none."""
        place = p, z
        found = max(self._raw.get(place, -1), self._predicted.get(place, -1))
        return None if found < 0 else found
