"""What a run tells while it goes on and when it is over."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from livestain.planes import PlaneIndex
    from livestain.stain.stained import Latency

__all__ = ["Acquired", "Progress", "RunReport"]


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
class Progress:
    """A snapshot of a run; what is planned is None where nobody knows how many time points there will be."""

    acquired: int
    planned_raw: int | None
    stained: int
    planned_virtual: int | None
    owed: int
    latency_ms: float | None


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
    planes_owed : int
        Virtual planes that can still be stained: the run was stopped, or told to leave them. Those that it
        was told to leave are not missing.
    planes_uncertain : int
        Raw planes that may lie in another's place: of bursts that came short from a camera without
        numbers of its own.
    planes_filled_in_later : int
        Virtual planes stained after a newer time point had come; not in `latency_ms`.
    latency_ms : Latency
        From frameReady until the virtual plane can be read by another process, of planes stained while they
        were news.
    answer_ms : Latency
        Of runs whose events are decided as they go on: from a frame to the decision on the next event.
    worker_deaths : int
        How often the worker died or was killed for hanging.
    interrupted : bool
        Whether the user stopped the run.
    seconds : float
        Wall time from the first hardware move to the end of staining.
    models : list of dict
        Virtual channel, bundle, device and backend.
    memory_peak_mib : dict of str to float
        Most resident memory, MiB: of `acquisition`, which is this process, and of its `workers` together.
    notes : list of str
        What went wrong without ending the run.
    """

    store: str
    planes_acquired: int
    planes_stained: int
    planes_missing: int
    planes_skipped: int
    planes_owed: int
    planes_uncertain: int
    planes_filled_in_later: int
    latency_ms: Latency
    answer_ms: Latency
    worker_deaths: int
    interrupted: bool
    seconds: float
    models: list[dict[str, Any]] = field(default_factory=list)
    memory_peak_mib: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON types."""
        return asdict(self)
