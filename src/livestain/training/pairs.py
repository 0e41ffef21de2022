"""Pairs: what was seen and what is to be predicted, read from any recording.

A movie is what is split by: crops and frames of one movie show the same cells.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from livestain.errors import DataError
from livestain.planes import PlaneIndex
from livestain.training.pair_spec import ChannelSpec, PairSpec
from livestain.training.pool import depth_weights
from livestain.training.recordings.base import movie_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from livestain.training.pool import PlanePool

__all__ = [
    "ChannelSpec",
    "LeakingCrops",
    "Movie",
    "Pair",
    "PairData",
    "PairSet",
    "PairSpec",
    "movie_name",
]

_HASH_BYTES = 2**32
"""Of a movie's pixels that are hashed; of larger ones a sample is."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Source and target planes that belong together, not yet read.

    Attributes
    ----------
    movie : str
        The movie's name.
    name : str
        Its own name within the movie.
    frame : str
        Pairs with the same frame are not independent of each other.
    position : str or None
        The position of the stage; None where the data does not say.
    place : int
        Number of the field of view (or file) in the recording.
    t, z : int
        Time point and z-plane of the target; of series along them, the first.
    axis : {"", "z", "t"}
        What the depth is of; empty for 2-D networks.
    length : int
        Planes along the axis, as they were recorded.
    depth : int
        Planes along the axis, as they are read: resampled, for stacks. 1 for 2-D networks.
    lag : int
        Time points that the target is later than the source: 1 for two takes of one channel.
    has_source, has_target : bool
        Both, but for unpaired data.
    """

    movie: str
    name: str
    frame: str
    position: str | None
    place: int
    t: int
    z: int
    axis: Literal["", "z", "t"] = ""
    length: int = 1
    depth: int = 1
    lag: int = 0
    has_source: bool = True
    has_target: bool = True


@dataclass(frozen=True, slots=True)
class PairData:
    """The pixels of a pair, or of a part of it; not to be written to.

    Attributes
    ----------
    source : array of uint8, uint16 or float32, (sources, planes, y, x)
        Counts, corrected by flat field and dark frame. For 2-D networks the planes of the window, for
        3-D networks those of the depth. Without sources (0, planes, y, x), if the pair has none.
    target : array of uint8, uint16 or float32, (targets, depth, y, x)
        Zeros where there is none.
    present : array of bool, (targets, depth)
        Where there is one.
    """

    source: NDArray[Any]
    target: NDArray[Any]
    present: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Movie:
    """A recording, by name, and its pairs in the order of their places."""

    name: str
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class LeakingCrops:
    """Says that a set is random crops of its pairs, which others train on.

    Attributes
    ----------
    number : int
        How many crops.
    stream : int
        Tells their random numbers from those of other crops.
    """

    number: int
    stream: int


class PairSet:
    """Movies whose planes are read when they are asked for; a bounded number of bytes is kept.

    Not for several threads at once. It can be sent to other processes, which open the files anew. Sets
    that were selected from it read through it, and are closed with it.

    Parameters
    ----------
    movies : sequence of Movie
    pool : PlanePool
        Reads their planes.
    spec : PairSpec
        What makes a pair.
    crops : LeakingCrops, optional
        Where the set is random crops, and not whole pairs.
    """

    def __init__(
        self,
        movies: Sequence[Movie],
        pool: PlanePool,
        spec: PairSpec,
        *,
        crops: LeakingCrops | None = None,
    ) -> None:
        self.movies = tuple(sorted(movies, key=lambda movie: movie.name))
        self.pairs = tuple(pair for movie in self.movies for pair in movie.pairs)
        self.spec = spec
        self.crops = crops
        self._pool = pool
        self._shapes: dict[tuple[str, int, str], tuple[int, int]] = {}

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Close the files and forget the planes; a second time does nothing."""
        self._pool.close()

    # -- choosing --------------------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the movies, sorted."""
        return tuple(movie.name for movie in self.movies)

    def select(self, movies: Iterable[str] | None = None, leave_out: Iterable[str] = ()) -> PairSet:
        """Return the set of some movies alone.

        Parameters
        ----------
        movies : names, optional
            These, with or without `movie-` before them; all where left out.
        leave_out : names
            But not these.

        Raises
        ------
        DataError
            If there is no movie of such a name, or none is left.
        """
        wanted = {self.known(name) for name in movies} if movies is not None else set(self.names)
        wanted -= {self.known(name) for name in leave_out}
        if not wanted:
            raise DataError(
                f"No movie is left of {', '.join(self.names)}. Leave out fewer, or name others."
            )
        return self.only(pair for pair in self.pairs if pair.movie in wanted)

    def only(self, pairs: Iterable[Pair], *, crops: LeakingCrops | None = None) -> PairSet:
        """Return the set of some pairs alone, in the same order; `crops` as for the class."""
        kept = set(pairs)
        movies = [
            Movie(movie.name, left)
            for movie in self.movies
            if (left := tuple(pair for pair in movie.pairs if pair in kept))
        ]
        return PairSet(movies, self._pool, self.spec, crops=crops)

    def known(self, name: str) -> str:
        """Return the name of a movie, given with or without `movie-` before it.

        Raises
        ------
        DataError
            If there is none.
        """
        for known in (name, movie_name(name)):
            if known in self.names:
                return known
        raise DataError(
            f"There is no movie {name!r} in the data; there are: {', '.join(self.names)}."
        )

    # -- reading ---------------------------------------------------------------------------------

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
        n = len(self.spec.sources)
        slots = list(range(len(self.spec.slots)))
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
        n = len(self.spec.sources)
        if not pair.has_target:
            return np.zeros((len(self.spec.targets), pair.depth), dtype=bool)
        rows = [
            self._target_present(pair, slot, pair.lag) for slot in range(n, len(self.spec.slots))
        ]
        return np.stack(rows)

    def shape(self, pair: Pair, *, only: Literal["source", "target"] = "source") -> tuple[int, int]:
        """Return the size (y, x) of a pair's planes in pixels, as they are read."""
        key = (pair.movie, pair.place, only)
        if key not in self._shapes:
            if only == "source":
                data = self.read(pair, slice(0, 1), only="source").source
            else:
                first = int(np.argmax(self.present(pair).any(axis=0)))
                data = self.read(pair, slice(first, first + 1), only="target").target
            self._shapes[key] = (int(data.shape[-2]), int(data.shape[-1]))
        return self._shapes[key]

    def _source(self, pair: Pair, slot: int, rows: range, lag: int) -> list[NDArray[Any]]:
        if pair.axis:
            mixed = self._along(pair, slot, rows, lag, None)
            return [plane for plane in mixed if plane is not None]
        place = self._pool.recordings[pair.movie].places[pair.place]
        window = self.spec.window.window().sources(
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

    # -- what it is ------------------------------------------------------------------------------

    def sha256(self) -> dict[str, str]:
        """Return a hash of the pixels and names of each movie, whatever file format they are in.

        Of movies beyond 4 GiB evenly spaced pairs are hashed, and the hash says so: "… of every 3rd pair".
        """
        return {movie.name: self._sha256(movie) for movie in self.movies}

    def _sha256(self, movie: Movie) -> str:
        first = self.read(movie.pairs[0], slice(0, 1))
        planes = sum(pair.depth for pair in movie.pairs)
        step = -(-(first.source.nbytes + first.target.nbytes) * planes // _HASH_BYTES)
        digest = hashlib.sha256()
        for pair in movie.pairs[:: max(step, 1)]:
            for row in range(pair.depth):
                data = self.read(pair, slice(row, row + 1))
                if pair.axis:
                    digest.update(f"{row} {data.present.tolist()}\n".encode())
                for half in (data.source, data.target):
                    # One hash for 8 and 16 bits of the same counts.
                    counts = half.reshape(-1, *half.shape[2:])
                    kind = "<f4" if counts.dtype.kind == "f" else "<u2"
                    digest.update(f"{pair.name} {counts.shape}\n".encode())
                    digest.update(counts.astype(kind).tobytes())
        sample = f" of every {step}th pair" if step > 1 else ""
        return digest.hexdigest() + sample


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
    dtype = np.result_type(*planes) if planes else np.dtype(np.uint16)
    stacked = np.zeros((len(rows), *shape), dtype=dtype)
    for i, row in enumerate(rows):
        for k, plane in enumerate(row):
            if plane is not None:
                stacked[i, k] = plane
    return stacked
