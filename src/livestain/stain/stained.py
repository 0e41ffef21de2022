"""What is told of a plane that was stained, and of many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from livestain.planes import PlaneIndex

__all__ = ["Latency", "Stained"]


@dataclass(frozen=True, slots=True)
class Stained:
    """A virtual plane is in the store.

    Attributes
    ----------
    index : PlaneIndex
        Its place.
    channel : str
        The virtual channel's name.
    latency_ms : dict
        Milliseconds by stage; `total` is from frameReady until another process can read the plane.
    live : bool
        Whether it was stained before a newer time point came.
    quality : dict
        Mean and std of the prediction in its unit, fraction of clipped pixels.
    """

    index: PlaneIndex
    channel: str
    latency_ms: dict[str, float]
    live: bool
    quality: dict[str, float]


@dataclass(frozen=True, slots=True)
class Latency:
    """Median and 95th percentile of some milliseconds; None of nothing."""

    p50: float | None
    p95: float | None

    @classmethod
    def of(cls, milliseconds: Sequence[float]) -> Latency:
        """Return the median and the 95th percentile; None of an empty list."""
        if not milliseconds:
            return cls(None, None)
        p50, p95 = np.percentile(milliseconds, (50, 95))
        return cls(round(float(p50), 2), round(float(p95), 2))
