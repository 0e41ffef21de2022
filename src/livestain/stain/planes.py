"""Where predictions find their sources: in the store, or in the recording that another program wrote."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from livestain.errors import DataError
from livestain.planes import PlaneIndex

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from livestain.recordings import Recording
    from livestain.store import RecordingPlan, Store, StorePlan

__all__ = ["Planes", "RecordedPlanes", "find_recording", "planes_of"]


class Planes(Protocol):
    """What is there, and its pixels: a store is one."""

    def present_indices(self) -> frozenset[PlaneIndex]:
        """Return the planes of all channels that are there."""

    def read(self, index: PlaneIndex) -> NDArray[Any]:
        """Return a plane's counts, (y, x).

        Raises
        ------
        LivestainError
            If it is not there, or damaged.
        """


class RecordedPlanes:
    """The raw planes of a recording, and the predictions of the store beside it.

    Parameters
    ----------
    recording : Recording
        Its channels are the first of the store's plan, its places the positions.
    store : Store
    """

    def __init__(self, recording: Recording, store: Store) -> None:
        self._recording = recording
        self._store = store
        self._raw = frozenset(
            PlaneIndex(p, t, c, z)
            for p in range(len(recording.places))
            for c in range(len(recording.channels))
            for t, z in np.argwhere(recording.present(p, c)).tolist()
        )

    def present_indices(self) -> frozenset[PlaneIndex]:
        """Return the planes of all channels that are there; the recording is taken to be finished."""
        return self._raw | self._store.present_indices()

    def read(self, index: PlaneIndex) -> NDArray[Any]:
        """Return a plane's counts, (y, x)."""
        if index.c >= self._store.plan.first_c:
            return self._store.read(index)
        return self._recording.planes(index.p, index.c, [(index.t, index.z)])[0]


@contextmanager
def planes_of(store: Store) -> Iterator[Planes]:
    """Give the planes that a store's predictions are made from.

    Raises
    ------
    DataError
        If they lie in a recording that is not found, or is another than it was.
    """
    if store.plan.recording is None:
        yield store
        return
    recording = find_recording(store.plan.recording, store.plan, store.path)
    try:
        yield RecordedPlanes(recording, store)
    finally:
        recording.close()


def find_recording(told: RecordingPlan, plan: StorePlan, store: Path) -> Recording:
    """Open the recording that a store's plan names, and see that it is the one it was.

    Raises
    ------
    DataError
        If it is not there, or has other channels or positions now.
    """
    from livestain.recordings import open_recording

    places = (store.parent / told.beside, Path(told.path))
    found = next((place for place in places if place.exists()), None)
    if found is None:
        raise DataError(
            f"The recording that {store.name} was predicted from is not there: neither {places[0]} nor "
            f"{places[1]}. Put it back, beside the store or where it was."
        )
    recording = open_recording(found)
    raw = tuple(channel.name for channel in plan.channels if channel.kind == "raw")
    if recording.channels != raw or len(recording.places) != plan.n_p:
        raise DataError(
            f"{found} is not the recording that {store.name} was predicted from: it has the channels "
            f"{', '.join(recording.channels)} at {len(recording.places)} positions, and had "
            f"{', '.join(raw)} at {plan.n_p}. Put that one back, or give another --out."
        )
    return recording
