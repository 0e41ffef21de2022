"""Reading the planes of a pair: windows, depths, parts of them, and what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from livestain.errors import DataError
from livestain.planes import PlaneIndex
from livestain.training.pair import PairData
from livestain.training.pool import depth_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from livestain.training.pair import Pair, PairSpec
    from livestain.training.pool import PlanePool

__all__ = ["PairReader"]


class PairReader:
    """Puts the planes of a pool together as pairs have them. Not for several threads at once.

    Parameters
    ----------
    pool : PlanePool
    spec : PairSpec
        What makes a pair.
    """

    def __init__(self, pool: PlanePool, spec: PairSpec) -> None:
        self._pool = pool
        self._spec = spec

    def close(self) -> None:
        """Close the files and forget the planes; a second time does nothing."""
        self._pool.close()

    def read(
        self,
        pair: Pair,
        depth: slice | None = None,
        *,
        part: tuple[slice, slice] | None = None,
        swapped: bool = False,
        only: Literal["both", "source", "target"] = "both",
    ) -> PairData:
        """Return a pair's counts.

        Parameters
        ----------
        pair : Pair
            Of this set.
        depth : slice, optional
            For 3-D networks: these planes of its depth; all where left out.
        part : (slice, slice), optional
            Rows and columns; all where left out.
        swapped : bool
            For noise2noise: source and target change roles.
        only : {"both", "source", "target"}
            Which half is read; the other has the length 0 along its first axis.

        Raises
        ------
        DataError, StoreError
            If an image cannot be used, or the shapes of source and target differ.
        """
        n = len(self._spec.sources)
        slots = list(range(len(self._spec.slots)))
        sources, targets = slots[:n], slots[n:]
        lag_source, lag_target = 0, pair.lag
        if swapped:
            sources, targets = targets, sources
            lag_source, lag_target = lag_target, lag_source
        rows = range(*(depth or slice(None)).indices(pair.depth))
        ys, xs = part or (slice(None), slice(None))
        source = [
            [plane[ys, xs] for plane in self._source(pair, slot, rows, lag_source)]
            for slot in sources
            if pair.has_source and only != "target"
        ]
        target: list[list[NDArray[Any] | None]] = [
            [
                plane if plane is None else plane[ys, xs]
                for plane in self._target(pair, slot, rows, lag_target)
            ]
            for slot in targets
            if pair.has_target and only != "source"
        ]
        planes = [plane for row in source for plane in row]
        shape = self._common_shape(pair, [*planes, *(plane for row in target for plane in row)])
        present = np.array([[plane is not None for plane in row] for row in target], dtype=bool)
        n_planes = len(source[0]) if source else len(rows)
        return PairData(
            source=_stack(source, (n_planes, *shape)),
            target=_stack(target, (len(rows), *shape)),
            present=present.reshape(len(target), len(rows)),
        )

    def present(self, pair: Pair) -> NDArray[np.bool_]:
        """Return which target planes are there, without reading them: bool, (targets, depth)."""
        n = len(self._spec.sources)
        if not pair.has_target:
            return np.zeros((len(self._spec.targets), pair.depth), dtype=bool)
        rows = [
            self._target_present(pair, slot, pair.lag) for slot in range(n, len(self._spec.slots))
        ]
        return np.stack(rows)

    def ends(self, pair: Pair) -> tuple[bool, bool]:
        """Return whether a series begins and ends where the recording does, and not at a missing plane."""
        place = self._pool.recordings[pair.movie].places[pair.place]
        start, planned = (pair.t, place.n_t) if pair.axis == "t" else (pair.z, place.n_z)
        return start == 0, start + pair.length + pair.lag >= planned

    def _source(self, pair: Pair, slot: int, rows: range, lag: int) -> list[NDArray[Any]]:
        if pair.axis:
            mixed = self._along(pair, slot, rows, lag, None)
            return [plane for plane in mixed if plane is not None]
        place = self._pool.recordings[pair.movie].places[pair.place]
        window = self._spec.window.window().sources(
            PlaneIndex(0, pair.t + lag, 0, pair.z), 0, n_t=place.n_t, n_z=place.n_z
        )
        return self._pool.planes(pair.movie, pair.place, slot, [(at.t, at.z) for at in window])

    def _target(self, pair: Pair, slot: int, rows: range, lag: int) -> list[NDArray[Any] | None]:
        if pair.axis:
            return self._along(pair, slot, rows, lag, self._target_present(pair, slot, lag))
        if not self._target_present(pair, slot, lag)[0]:
            return [None]
        at = [(pair.t + lag, pair.z)]
        return list(self._pool.planes(pair.movie, pair.place, slot, at))

    def _along(
        self,
        pair: Pair,
        slot: int,
        rows: range,
        lag: int,
        present: NDArray[np.bool_] | None,
    ) -> list[NDArray[Any] | None]:
        """Return planes along the depth, mixed from their neighbours where the stack is resampled."""
        wanted = [row for row in rows if present is None or present[row]]
        mix = {row: self._mixed_from(pair, row) for row in wanted}
        own = sorted({i for parts in mix.values() for i, _ in parts})
        at = [
            (pair.t + lag + i, pair.z) if pair.axis == "t" else (pair.t + lag, pair.z + i)
            for i in own
        ]
        read = dict(zip(own, self._pool.planes(pair.movie, pair.place, slot, at), strict=True))
        return [_mix(read, mix[row]) if row in mix else None for row in rows]

    def _target_present(self, pair: Pair, slot: int, lag: int) -> NDArray[np.bool_]:
        """Return where a target is there along the depth as it is read: bool, (depth,)."""
        there = self._pool.present(pair.movie, pair.place, slot)
        if not pair.axis:
            return there[pair.t + lag, pair.z : pair.z + 1]
        t, z = pair.t + lag, pair.z
        line: Any = (
            there[t : t + pair.length, z] if pair.axis == "t" else there[t, z : z + pair.length]
        )
        if pair.depth == pair.length:
            return np.asarray(line, dtype=bool)
        # A mixed plane needs all that it is mixed from.
        mixed = depth_weights(pair.length, pair.depth) > 0
        present: NDArray[np.bool_] = ~(mixed & ~line).any(axis=1)
        return present

    @staticmethod
    def _mixed_from(pair: Pair, row: int) -> list[tuple[int, float]]:
        """Return the recorded planes that a plane is mixed from, and their weights."""
        if pair.depth == pair.length:
            return [(row, 1.0)]
        weights = depth_weights(pair.length, pair.depth)[row]
        return [(int(i), float(weights[i])) for i in np.flatnonzero(weights)]

    def _common_shape(self, pair: Pair, planes: list[NDArray[Any] | None]) -> tuple[int, int]:
        shapes = {plane.shape for plane in planes if plane is not None}
        if len(shapes) > 1:
            told = ", ".join(" x ".join(map(str, shape)) for shape in sorted(shapes))
            raise DataError(
                f"The planes of {pair.name} in movie {pair.movie} differ in shape: {told}. Expected "
                "source and target of the same field, pixel by pixel."
            )
        height, width = next(iter(shapes), (0, 0))
        return height, width


def _mix(planes: dict[int, NDArray[Any]], parts: list[tuple[int, float]]) -> NDArray[Any]:
    if len(parts) == 1:
        return planes[parts[0][0]]
    mixed = np.zeros(planes[parts[0][0]].shape, dtype=np.float32)
    for i, weight in parts:
        mixed += np.float32(weight) * planes[i]
    return mixed


def _stack(rows: Sequence[Sequence[NDArray[Any] | None]], shape: tuple[int, ...]) -> NDArray[Any]:
    """Stack planes, (rows, planes, y, x), with zeros where there is none."""
    planes = [plane for row in rows for plane in row if plane is not None]
    dtype = np.result_type(*{plane.dtype for plane in planes}) if planes else np.dtype(np.uint16)
    stacked = np.zeros((len(rows), *shape), dtype=dtype)
    for i, row in enumerate(rows):
        for k, plane in enumerate(row):
            if plane is not None:
                stacked[i, k] = plane
    return stacked
