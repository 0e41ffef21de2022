"""Planes as the training sees them: corrected, resampled, and the last of them kept in memory."""

from __future__ import annotations

from collections import OrderedDict
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from livestain.errors import DataError
from livestain.flat_field import FlatField
from livestain.inference.geometry import resample

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from livestain.recordings import Recording
    from livestain.training.pair import ChannelSpec, PairSpec

__all__ = ["PlanePool", "depth_weights"]

_CACHE_BYTES = 2**30
"""Planes kept in memory, over all loader processes; the rest is read when it is needed."""

_SAME_SIZE = 0.005
"""Relative difference of pixel sizes that counts as none."""

_Key = tuple[str, int, int, int, int]


class PlanePool:
    """Planes of all recordings, by movie, place, slot, time point and z.

    Not for several threads at once. It can be sent to other processes, without what it keeps.

    Parameters
    ----------
    recordings : mapping of str to Recording
        By the movie's name.
    spec : PairSpec
        Slots (sources, then targets), pixel size.
    data : Path
        What flat fields and dark frames are relative to.
    """

    def __init__(self, recordings: Mapping[str, Recording], spec: PairSpec, data: Path) -> None:
        self.recordings = dict(recordings)
        self._spec = spec
        self._data = data
        self._numbers = {
            name: tuple(recording.c_of(slot.channel) for slot in spec.slots)
            for name, recording in self.recordings.items()
        }
        self._present: dict[tuple[str, int, int], NDArray[np.bool_]] = {}
        self._corrections: dict[ChannelSpec, FlatField] = {}
        self._kept: OrderedDict[_Key, NDArray[Any]] = OrderedDict()
        self._kept_bytes = 0

    def close(self) -> None:
        """Close the files and forget the planes; a second time does nothing."""
        for recording in self.recordings.values():
            recording.close()
        self._kept.clear()
        self._kept_bytes = 0

    def __getstate__(self) -> dict[str, Any]:
        """Leave the planes behind."""
        return {**self.__dict__, "_corrections": {}, "_kept": OrderedDict(), "_kept_bytes": 0}

    def has(self, movie: str, slot: int) -> bool:
        """Return whether a movie has the channel of a slot at all."""
        return self._numbers[movie][slot] is not None

    def present(self, movie: str, place: int, slot: int) -> NDArray[np.bool_]:
        """Return which planes are there: bool, (n_t, n_z); none where the channel is missing."""
        key = (movie, place, slot)
        if key not in self._present:
            recording = self.recordings[movie]
            c = self._numbers[movie][slot]
            grid = (recording.places[place].n_t, recording.places[place].n_z)
            self._present[key] = (
                np.zeros(grid, dtype=bool) if c is None else recording.present(place, c)
            )
        return self._present[key]

    def planes(
        self, movie: str, place: int, slot: int, at: Sequence[tuple[int, int]]
    ) -> list[NDArray[Any]]:
        """Return planes that are there, (y, x) each; not to be written to.

        Parameters
        ----------
        movie, place, slot
            Which channel of which field.
        at : sequence of (t, z)
            May repeat itself.

        Returns
        -------
        list of array
            uint8, uint16 or float32; float32 where they were corrected or resampled.

        Raises
        ------
        DataError
            If one cannot be read, has values that are no numbers, or does not fit its correction.
        """
        keys = {one: (movie, place, slot, *one) for one in at}
        found = {}
        missing = []
        for one, key in keys.items():
            if key in self._kept:
                self._kept.move_to_end(key)
                found[one] = self._kept[key]
            else:
                missing.append(one)
        if missing:
            recording = self.recordings[movie]
            c = self._numbers[movie][slot]
            if c is None:
                raise ValueError(f"movie {movie} has no channel for slot {slot}")
            for one, plane in zip(missing, recording.planes(place, c, missing), strict=True):
                found[one] = self._finish(plane, recording, place, c, slot, one)
                self._keep(keys[one], found[one])
        return [found[one] for one in at]

    def _keep(self, key: _Key, plane: NDArray[Any]) -> None:
        worker = torch.utils.data.get_worker_info()
        limit = _CACHE_BYTES // (worker.num_workers if worker is not None else 1)
        self._kept[key] = plane
        self._kept_bytes += plane.nbytes
        while self._kept_bytes > limit and len(self._kept) > 1:
            _, old = self._kept.popitem(last=False)
            self._kept_bytes -= old.nbytes

    def _finish(
        self,
        plane: NDArray[Any],
        recording: Recording,
        place: int,
        c: int,
        slot: int,
        at: tuple[int, int],
    ) -> NDArray[Any]:
        if plane.dtype.kind == "f" and (bad := int((~np.isfinite(plane)).sum())):
            raise DataError(
                f"{recording.where(place, c, *at)} has {bad} pixels that are no numbers (NaN or "
                "infinite); expected a number in each. Mend or remove it."
            )
        settings = self._spec.slots[slot]
        if settings.flat_field or settings.dark_frame:
            if settings not in self._corrections:
                self._corrections[settings] = _correction(settings, self._data)
            plane = self._corrections[settings].correct(plane, recording.where(place, c, *at))
        own = recording.pixel_size_um
        if own is not None and abs(own / self._spec.pixel_size_um - 1) > _SAME_SIZE:
            ratio = own / self._spec.pixel_size_um
            height, width = (max(1, round(side * ratio)) for side in plane.shape)
            x = torch.from_numpy(plane.astype(np.float32))[None, None]
            plane = resample(x, (height, width))[0, 0].numpy()
        return plane


def _correction(settings: ChannelSpec, data: Path) -> FlatField:
    """Read what corrects a channel; names are paths, or relative to the data folder."""
    folder = data if data.is_dir() else data.parent
    names = (settings.flat_field, settings.dark_frame)
    flat, dark = (folder / name if name else None for name in names)
    return FlatField(flat, dark)


@lru_cache(maxsize=256)
def depth_weights(n: int, depth: int) -> NDArray[np.float32]:
    """Return how planes of a resampled stack are mixed from its own: float32, (depth, n).

    The rows are those of the one resampling along z that there is (`livestain.inference.geometry`), read
    off the unit vectors, so that a few planes can be had without reading all.
    """
    unit = torch.eye(n)[None, None]
    weights: NDArray[np.float32] = resample(unit, (depth, n))[0, 0].numpy()
    return weights
