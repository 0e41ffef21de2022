"""What a run tells while it goes on and when it is over."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from livestain.planes import PlaneIndex

__all__ = ["Acquired", "Latency", "Progress", "RunReport", "Stained"]


@dataclass(frozen=True, slots=True)
class Acquired:
    """A raw plane is in the store.

    Attributes
    ----------
    index : PlaneIndex
        Its place.
    channel : str
        Its channel's name.
    """

    index: PlaneIndex
    channel: str


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
class Progress:
    """A snapshot of a run."""

    acquired: int
    planned_raw: int
    stained: int
    planned_virtual: int
    owed: int
    latency_ms: float | None


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from frameReady until the virtual plane can be read by another process.

    Of planes stained while they were news; planes filled in later are counted, not timed.
    """

    p50: float | None
    p95: float | None

    @classmethod
    def of(cls, milliseconds: Sequence[float]) -> Latency:
        """Return the median and the 95th percentile; None of an empty list."""
        if not milliseconds:
            return cls(None, None)
        p50, p95 = np.percentile(milliseconds, (50, 95))
        return cls(round(float(p50), 2), round(float(p95), 2))


@dataclass(frozen=True)
class RunReport:
    """How a run ended.

    Attributes
    ----------
    store : str
        Path of the store.
    planes_acquired, planes_stained : int
        Raw and virtual planes that this run wrote.
    planes_missing : int
        Planes that were planned, are not there, and that no lag policy has given up.
    planes_skipped : int
        Planes that a lag policy has given up.
    planes_uncertain : int
        Raw planes that may lie in another's place: of bursts that came short from a camera without
        numbers of its own.
    planes_filled_in_later : int
        Virtual planes stained after a newer time point had come; not in `latency_ms`.
    latency_ms : Latency
        See there.
    worker_deaths : int
        How often the worker died or was killed for hanging.
    interrupted : bool
        Whether the user stopped the run.
    seconds : float
        Wall time from the first hardware move to the end of staining.
    models : list of dict
        Virtual channel, bundle, device and backend.
    notes : list of str
        What went wrong without ending the run.
    """

    store: str
    planes_acquired: int
    planes_stained: int
    planes_missing: int
    planes_skipped: int
    planes_uncertain: int
    planes_filled_in_later: int
    latency_ms: Latency
    worker_deaths: int
    interrupted: bool
    seconds: float
    models: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON types."""
        return asdict(self)
