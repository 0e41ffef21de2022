"""Finding pairs in recordings of any kind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from livestain.errors import DataError
from livestain.planes import PlaneIndex
from livestain.training.opening import find_recordings
from livestain.training.pair import Pair
from livestain.training.pairs import Movie, PairSet
from livestain.training.pool import PlanePool
from livestain.training.reading import PairReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from livestain.recordings import Recording
    from livestain.training.pair import PairSpec

__all__ = ["find_pairs"]

_SAME_PIXEL_SIZE = 0.005
"""Relative difference of pixel sizes that counts as none."""


def find_pairs(data: Path | str, spec: PairSpec) -> PairSet:
    """Find the pairs in a folder.

    Parameters
    ----------
    data : Path or str
        A folder of movies, or one of them by itself. A movie is a folder `movie-NAME` with one folder of
        images (PNG, TIFF; planes or stacks) a channel and equal names in each; a store of livestain; an
        OME-Zarr (0.4 or 0.5) of another program; an OME-TIFF or ImageJ hyperstack; or an NDTiff data set or
        OME-TIFF of Micro-Manager. What a file does not say of itself may be said in `movie.yaml` in the
        folder, or `NAME.movie.yaml` beside the file: pixel_size_um, z_step_um, channels.
    spec : PairSpec
        Which planes make a pair.

    Raises
    ------
    DataError
        If a folder, a channel or a counterpart is missing, or there are no pairs at all.
    """
    data = Path(data)
    recordings = {recording.name: recording for recording in find_recordings(data, spec)}
    pool = PlanePool(recordings, spec, data)
    movies, without = [], []
    for name, recording in recordings.items():
        _check_channels(recording, pool, spec)
        _check_voxels(recording, spec)
        pairs = tuple(_Finder(recording, pool, spec).pairs())
        if pairs:
            movies.append(Movie(name, pairs, recording.simulated))
        else:
            without.append(name)
    if not movies:
        raise DataError(
            f"There are no pairs in {data}. Expected {spec.folders} with images of equal names "
            "(.png, .tif), or livestain stores NAME.ome.zarr, OME-Zarr or OME-TIFF with these channels."
        )
    found = PairSet(movies, PairReader(pool, spec), spec, without_pairs=without)
    if spec.pairing == "unpaired":
        for half, slots in (("source", spec.sources), ("target", spec.targets)):
            if not any(getattr(pair, f"has_{half}") for pair in found.pairs):
                raise DataError(
                    f"There is no {half} in {data}. Expected images of "
                    f"{', '.join(slot.channel for slot in slots)} in one of the movies."
                )
    return found


def _check_channels(recording: Recording, pool: PlanePool, spec: PairSpec) -> None:
    """Refuse a movie without a channel that it needs; for unpaired data, without any."""
    lacking = [slot.channel for n, slot in enumerate(spec.slots) if not pool.has(recording.name, n)]
    needed = [
        slot.channel
        for n, slot in enumerate(spec.slots)
        if slot.channel in lacking and (n < len(spec.sources) or slot.required)
    ]
    if spec.pairing == "unpaired" and len(lacking) < len(spec.slots):
        return
    if needed:
        raise DataError(
            f"{recording.path} has no {recording.kind_of_channel} {needed[0]!r}; it has: "
            f"{', '.join(recording.channels) or 'none of the recipe'}. Name its own in the recipe, or name "
            "them all by `channels: [...]` in notes beside the data (see docs/training.md)."
        )


def _check_voxels(recording: Recording, spec: PairSpec) -> None:
    """Refuse other voxels than asked for, unless they are resampled."""
    own = recording.pixel_size_um
    if own is not None and not spec.resample:
        if abs(own / spec.pixel_size_um - 1) > _SAME_PIXEL_SIZE:
            raise DataError(
                f"{recording.path} has pixels of {own:g} um; {spec.asker} expects "
                f"{spec.pixel_size_um:g} um. Give the data's own pixel size, or `resample: true`."
            )
    if not spec.stacks or spec.z_step_um is None:
        return
    step = recording.z_step_um
    if step is None and not _says_voxels(recording):
        return  # bare images: taken for what the recipe says
    if step is not None and spec.resample and spec.dims == 3:
        return
    expected = spec.z_step_um
    if step is None or abs(step - expected) > spec.z_step_tolerance * expected + 1e-9:
        told = "no even distance of z-planes" if step is None else f"z-planes {step:g} um apart"
        cure = ", or `resample: true`" if spec.dims == 3 else ""
        raise DataError(
            f"{recording.path} has {told}; {spec.asker} expects {expected:g} um. Give the data's own "
            f"z-step (in a movie.yaml, where the data does not say it){cure}."
        )


def _says_voxels(recording: Recording) -> bool:
    return recording.pixel_size_um is not None


class _Finder:
    """Finds the pairs of one recording."""

    def __init__(self, recording: Recording, pool: PlanePool, spec: PairSpec) -> None:
        self._recording = recording
        self._pool = pool
        self._spec = spec
        self._lag = 1 if spec.same_channel else 0

    def pairs(self) -> Iterator[Pair]:
        """Yield the pairs in the order of places, time points and planes."""
        spec = self._spec
        self._check_order()
        for number, place in enumerate(self._recording.places):
            source, target = self._there(number)
            if spec.dims == 2:
                yield from self._single(number, source, target)
                continue
            if spec.depth_axis != "t":
                for t in range(place.n_t):
                    yield from self._series(number, "z", t, source[t], target[t])
            if spec.depth_axis != "z":
                for z in range(place.n_z):
                    yield from self._series(number, "t", z, source[:, z], target[:, z])

    def _check_order(self) -> None:
        """Refuse windows and stacks of images of which nobody knows the neighbours."""
        spec, recording = self._spec, self._recording
        single = [place.label or place.name for place in recording.places if place.n_t == 1]
        if spec.time_series and recording.places and (single or not recording.ordered):
            some = len(single) < len(recording.places)
            what = "has a single time point" + (f" at {single[0]!r}" if some and single else "")
            if not recording.ordered:
                what = "does not say what came when"
            raise DataError(
                f"Running normalisation, which {spec.asker} asks for, needs time series: its statistics are "
                f"those of earlier time points, and {recording.path} {what}. Give recordings over time "
                "(livestain stores, OME-Zarr, OME-TIFF), or normalisation.kind: frame."
            )
        if recording.ordered or not recording.places:
            return
        if spec.dims == 2 and spec.window.n_planes > 1:
            raise DataError(
                f"One prediction of {spec.asker} needs {spec.window.n_planes} planes, but the images in "
                f"{recording.path} do not say which belong together. Expected livestain stores, or files "
                "of stacks."
            )
        if spec.dims == 3 or self._lag:
            raise DataError(
                f"{spec.asker[0].upper()}{spec.asker[1:]} needs stacks or time series, but the images in "
                f"{recording.path} do not say which planes belong together. Expected livestain stores, or "
                "files of stacks."
            )

    def _there(self, number: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return where all sources are, and where targets are that make a pair: bool, (n_t, n_z).

        With a lag, the targets of the next time point.
        """
        spec, name = self._spec, self._recording.name
        there = [self._pool.present(name, number, slot) for slot in range(len(spec.slots))]
        n = len(spec.sources)
        source = np.all(there[:n], axis=0)
        needed = [grid for grid, slot in zip(there[n:], spec.targets, strict=True) if slot.required]
        target = (
            np.all(needed, axis=0) & np.any(there[n:], axis=0)
            if needed
            else np.any(there[n:], axis=0)
        )
        if self._lag:
            target = np.concatenate((target[1:], np.zeros_like(target[:1])))
        return source, target

    def _single(
        self, number: int, source: NDArray[np.bool_], target: NDArray[np.bool_]
    ) -> Iterator[Pair]:
        place = self._recording.places[number]
        window = self._spec.window.window()
        if window.z == "all" and self._spec.window.depth != place.n_z:
            raise DataError(
                f"{self._recording.path} has stacks of {place.n_z} planes; {self._spec.asker} expects "
                f"{self._spec.window.depth}. Give the data's own number."
            )
        both = source & target
        other = self._other_take(number)
        unpaired = self._spec.pairing == "unpaired"
        for t, z in np.argwhere(source | target if unpaired else both).tolist():
            at = PlaneIndex(0, t, 0, z)
            planes = window.sources(at, 0, n_t=place.n_t, n_z=place.n_z)
            whole = all(source[plane.t, plane.z] for plane in planes)
            if other is not None:
                moved = window.sources(at.at(t=t + self._lag), 0, n_t=place.n_t, n_z=place.n_z)
                whole = whole and all(other[plane.t, plane.z] for plane in moved)
            if whole or (unpaired and target[t, z]):
                yield Pair(
                    movie=self._recording.name,
                    name=place.name_of(t, z),
                    frame=place.frame_of(t),
                    position=place.position,
                    place=number,
                    t=t,
                    z=z,
                    lag=self._lag,
                    has_source=whole,
                    has_target=bool(target[t, z]),
                )

    def _other_take(self, number: int) -> NDArray[np.bool_] | None:
        """Return where the planes are that swapped roles need as a source; None if none swap."""
        if self._spec.pairing != "noise2noise":
            return None
        return self._pool.present(self._recording.name, number, len(self._spec.sources))

    def _series(
        self,
        number: int,
        axis: Literal["z", "t"],
        fixed: int,
        source: NDArray[np.bool_],
        target: NDArray[np.bool_],
    ) -> Iterator[Pair]:
        """Yield unbroken runs along an axis: every source plane of a run is there."""
        if self._spec.pairing == "noise2noise":
            # Roles change, so that both takes have to be whole.
            source = target = source & target
        runs = [(run, True) for run in _runs(source)]
        if self._spec.pairing == "unpaired":
            runs += [(run, False) for run in _runs(target) if run not in _runs(source)]
        place = self._recording.places[number]
        for (start, stop), has_source in sorted(runs, key=lambda run: (run[0], not run[1])):
            has_target = bool(target[start:stop].any())
            if self._spec.pairing == "unpaired":
                has_target = not has_source or bool(target[start:stop].all())
            elif not has_target:
                continue
            t, z = (fixed, start) if axis == "z" else (start, fixed)
            whole = (start, stop) == (0, len(source))
            name = place.name_of(t if axis == "z" else None, z if axis == "t" else None)
            yield Pair(
                movie=self._recording.name,
                name=name if whole else f"{name}_{axis}{start:03d}-{stop - 1:03d}",
                frame=place.frame_of(t) if axis == "z" else (place.frame or "all"),
                position=place.position,
                place=number,
                t=t,
                z=z,
                axis=axis,
                length=stop - start,
                depth=self._depth(stop - start, axis),
                lag=self._lag,
                has_source=has_source,
                has_target=has_target,
            )

    def _depth(self, length: int, axis: str) -> int:
        own, wanted = self._recording.z_step_um, self._spec.z_step_um
        if axis == "t" or not self._spec.resample or own is None or wanted is None:
            return length
        if abs(own / wanted - 1) <= self._spec.z_step_tolerance:
            return length
        return max(1, round(length * own / wanted))


def _runs(there: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the unbroken runs of True, as (start, stop)."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], there, [False])).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]
