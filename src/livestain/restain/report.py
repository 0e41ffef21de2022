"""How a staining without a microscope ended."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["RestainReport"]


@dataclass(frozen=True)
class RestainReport:
    """How a staining after the run ended.

    Attributes
    ----------
    store : str
        Path of the store.
    channels : list of str
        The virtual channels that were looked after.
    added : list of str
        Those of them that the store did not have before.
    planes_stained : int
        Virtual planes that were written now.
    planes_owed : int
        Those that can be stained and are not yet: it was interrupted.
    planes_waiting : int
        Those whose source planes are not there, of a run that has not come to its end.
    planes_failed : int
        Those on which the model failed now, or killed its worker.
    planes_given_up : int
        Those that are skipped or impossible, with these.
    interrupted : bool
        Whether the user stopped it.
    worker_deaths : int
        How often the worker died or was killed for hanging.
    seconds : float
        Wall time.
    models : list of dict
        Virtual channel, bundle, device and backend.
    notes : list of str
        What went wrong without ending it.
    """

    store: str
    channels: list[str]
    added: list[str]
    planes_stained: int
    planes_owed: int
    planes_waiting: int
    planes_failed: int
    planes_given_up: int
    interrupted: bool
    worker_deaths: int
    seconds: float
    models: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON types."""
        return asdict(self)
