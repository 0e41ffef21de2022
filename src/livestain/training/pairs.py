"""Pairs: what was seen and what is to be predicted, read from any recording.

A movie is what is split by: crops and frames of one movie show the same cells.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

from livestain.errors import DataError
from livestain.recordings.base import movie_name
from livestain.training.pair import ChannelSpec, Pair, PairData, PairSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from livestain.training.reading import PairReader

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
class Movie:
    """A recording, by name, its pairs in the order of their places, and whether its cells are simulated."""

    name: str
    pairs: tuple[Pair, ...]
    simulated: bool = False


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
    reader : PairReader
        Reads their planes; shared by the sets selected from this one.
    spec : PairSpec
        What makes a pair.
    crops : LeakingCrops, optional
        Where the set is random crops, and not whole pairs.
    without_pairs : sequence of str
        Recordings that were found and have none.
    """

    def __init__(
        self,
        movies: Sequence[Movie],
        reader: PairReader,
        spec: PairSpec,
        *,
        crops: LeakingCrops | None = None,
        without_pairs: Sequence[str] = (),
    ) -> None:
        self.without_pairs = tuple(without_pairs)
        self.movies = tuple(sorted(movies, key=lambda movie: movie.name))
        self.pairs = tuple(pair for movie in self.movies for pair in movie.pairs)
        self.spec = spec
        self.crops = crops
        self.reader = reader
        self._shapes: dict[tuple[str, int, str], tuple[int, int]] = {}

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Close the files and forget the planes; a second time does nothing."""
        self.reader.close()

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
            Movie(movie.name, left, movie.simulated)
            for movie in self.movies
            if (left := tuple(pair for pair in movie.pairs if pair in kept))
        ]
        return PairSet(
            movies, self.reader, self.spec, crops=crops, without_pairs=self.without_pairs
        )

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
            if known in self.without_pairs:
                raise DataError(
                    f"The movie {name!r} has no pairs: no place there has both what is seen and what is "
                    f"predicted. Name others of: {', '.join(self.names)}."
                )
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
        """Return a pair's counts, or those of a part of it; see `PairReader.read`."""
        return self.reader.read(pair, depth, part=part, swapped=swapped, only=only)

    def present(self, pair: Pair) -> NDArray[np.bool_]:
        """Return which target planes are there, without reading them: bool, (targets, depth)."""
        return self.reader.present(pair)

    def shape(self, pair: Pair, *, only: Literal["source", "target"] = "source") -> tuple[int, int]:
        """Return the size (y, x) of a pair's planes in pixels, as they are read."""
        key = (pair.movie, pair.place, only)
        if key not in self._shapes:
            if only == "source":
                data = self.read(pair, slice(0, 1), only="source").source
            else:
                first = int(np.flatnonzero(self.present(pair).any(axis=0))[0])
                data = self.read(pair, slice(first, first + 1), only="target").target
            self._shapes[key] = (int(data.shape[-2]), int(data.shape[-1]))
        return self._shapes[key]

    def ends(self, pair: Pair) -> tuple[bool, bool]:
        """Return whether a series begins and ends where the recording does, and not at a missing plane."""
        return self.reader.ends(pair)

    # -- what it is ------------------------------------------------------------------------------

    def sha256(self) -> dict[str, str]:
        """Return a hash of the pixels and names of each movie, whatever file format they are in.

        Of movies beyond 4 GiB evenly spaced pairs are hashed, and the hash says so: "… (1 in 3 pairs)".
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
        sample = f" (1 in {step} pairs)" if step > 1 else ""
        return digest.hexdigest() + sample
