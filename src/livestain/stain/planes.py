"""Where predictions find their sources: in the store, or in the recording that another program wrote."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from livestain.errors import DataError
from livestain.planes import PlaneIndex

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from livestain.recordings import Recording
    from livestain.store import RecordingPlan, Store, StorePlan

__all__ = ["Planes", "RecordedPlanes", "find_recording", "first_planes", "planes_of"]


class Planes(Protocol):
    """What is there, and its pixels: a store is one."""

    def present_indices(self) -> frozenset[PlaneIndex]:
        """Return the planes of all channels that are there."""

    def read(self, index: PlaneIndex) -> NDArray[np.uint16]:
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

    def read(self, index: PlaneIndex) -> NDArray[np.uint16]:
        """Return a plane's counts, (y, x); 8 bits are widened to 16, as a run does."""
        if index.c >= self._store.plan.first_c:
            return self._store.read(index)
        (plane,) = self._recording.planes(index.p, index.c, [(index.t, index.z)])
        return plane.astype(np.uint16, copy=False)


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
    was = _sizes(raw, plan.n_p, plan.n_t, plan.n_z, (plan.height, plan.width))
    here = _sizes(
        recording.channels,
        len(recording.places),
        max(place.n_t for place in recording.places),
        max(place.n_z for place in recording.places),
        recording.frame_format(0)[0],
    )
    if here != was or first_planes(recording) != told.first_planes:
        recording.close()
        what = f"it has {here}, and had {was}" if here != was else "its first planes are others"
        raise DataError(
            f"{found} is not the recording that {store.name} was predicted from: {what}. Put that one back, "
            "or give another --out."
        )
    return recording


def first_planes(recording: Recording) -> str:
    """Return a SHA-256 by which a recording is known again: of a plane of its first and its last position."""
    digest = hashlib.sha256()
    for p in sorted({0, len(recording.places) - 1}):
        for c in range(len(recording.channels)):
            there = np.argwhere(recording.present(p, c))
            if len(there):
                (plane,) = recording.planes(p, c, [(int(there[0][0]), int(there[0][1]))])
                digest.update(np.ascontiguousarray(plane).tobytes())
                break
    return digest.hexdigest()


def _sizes(channels: tuple[str, ...], n_p: int, n_t: int, n_z: int, shape: tuple[int, int]) -> str:
    return (
        f"the channels {', '.join(channels)}, {n_p} positions, {n_t} time points, {n_z} z-planes of "
        f"{shape[0]} x {shape[1]} pixels"
    )
