"""How bright a channel is: smallest and largest count, and a histogram, for the windows of viewers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from livestain.errors import MissingPlaneError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from livestain.store.store import Store

__all__ = ["ChannelStatistics", "channel_statistics"]

_PLANES = 16
"""Planes of a channel that are looked at: enough for a window, and a second or two at the end of a run."""

_BINS = 256
_WINDOW = (0.001, 0.999)


@dataclass(frozen=True)
class ChannelStatistics:
    """Of the stored counts of some planes of a channel, spread evenly over the run.

    Attributes
    ----------
    planes, of : int
        How many were looked at, of how many that are there.
    min, max : int
        Smallest and largest count.
    window : tuple of int
        Counts below and above which a thousandth of the pixels lies.
    histogram : list of int
        Pixels in 256 bins of equal width from `min` to `max`, both included.
    """

    planes: int
    of: int
    min: int
    max: int
    window: tuple[int, int]
    histogram: list[int]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON types."""
        return asdict(self) | {"window": list(self.window)}


def channel_statistics(store: Store, c: int, *, planes: int = _PLANES) -> ChannelStatistics | None:
    """Look at a channel.

    Parameters
    ----------
    store : Store
    c : int
        The channel's place.
    planes : int
        Look at so many, evenly spread.

    Returns
    -------
    ChannelStatistics or None
        None where no plane is there.

    Raises
    ------
    StoreError
        If a plane is damaged.
    """
    there = sorted(index for index in store.present_indices() if index.c == c)
    chosen = np.unique(np.linspace(0, len(there) - 1, min(planes, len(there))).round().astype(int))
    counts: NDArray[np.int64] = np.zeros(2**16, dtype=np.int64)
    seen = 0
    for n in chosen:
        try:
            plane = store.read(there[n])
        except MissingPlaneError:  # taken away meanwhile
            continue
        counts += np.bincount(plane.reshape(-1), minlength=counts.size)
        seen += 1
    if not seen:
        return None
    used = np.flatnonzero(counts)
    low, high = int(used[0]), int(used[-1])
    below = np.cumsum(counts) / counts.sum()
    start, end = (int(np.searchsorted(below, part)) for part in _WINDOW)
    bins, _ = np.histogram(
        used, bins=_BINS, range=(low, high + 1), weights=counts[used].astype(np.float64)
    )
    return ChannelStatistics(
        planes=seen,
        of=len(there),
        min=low,
        max=high,
        window=(start, end),
        histogram=[int(n) for n in bins],
    )
