"""Pairs: what was seen and what is to be predicted, found in folders of images and in stores.

A movie is what is split by: crops and frames of one movie show the same cells.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from livestain.errors import DataError
from livestain.training.images import read_image

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from livestain.bundle.description import WindowSpec
    from livestain.planes import PlaneIndex
    from livestain.store import Store
    from livestain.training.recipe import Recipe

__all__ = ["Movie", "Pair", "PairSet", "PairSpec", "movie_name"]

_CACHE_BYTES = 2**30
"""Planes kept in memory; the rest is read when it is needed."""


@dataclass(frozen=True, slots=True)
class PairSpec:
    """Which planes make a pair.

    Attributes
    ----------
    asker : str
        Who asks, for messages: "the recipe demo".
    source : str
        Channel that is looked at: a folder of images, or a channel of a store; capitals do not matter.
    targets : tuple of str
        Channels that are predicted.
    window : WindowSpec
        Source planes of one prediction.
    pixel_size_um : float
        That stores must have, in micrometres.
    z_step_um : float, optional
        Distance of z-planes that stores must have, in micrometres, where the window has several.
    z_step_tolerance : float
        Largest relative deviation from it.
    """

    asker: str
    source: str
    targets: tuple[str, ...]
    window: WindowSpec
    pixel_size_um: float
    z_step_um: float | None = None
    z_step_tolerance: float = 0.005

    @classmethod
    def of_recipe(cls, recipe: Recipe) -> PairSpec:
        """Return what a recipe asks for."""
        return cls(
            asker=f"the recipe {recipe.name}",
            source=recipe.sources[0].channel,
            targets=tuple(target.channel for target in recipe.targets),
            window=recipe.window,
            pixel_size_um=recipe.pixel_size_um,
            z_step_um=recipe.z_step_um,
        )

    @property
    def channels(self) -> tuple[str, ...]:
        """Source and targets."""
        return (self.source, *self.targets)

    @property
    def folders(self) -> str:
        """The folders of images, for messages."""
        return " and ".join(f"movie-NAME/{channel}" for channel in self.channels)


@dataclass(frozen=True, slots=True)
class Pair:
    """Source and target planes of one prediction, not yet read.

    Attributes
    ----------
    movie : str
        The movie's name.
    name : str
        Its own name within the movie.
    frame : str
        Pairs with the same frame are not independent of each other.
    sources, targets : tuple of Path, or of PlaneIndex
        Files; or places in the store `store`.
    store : Path, optional
        See there.
    """

    movie: str
    name: str
    frame: str
    sources: tuple[Path, ...] | tuple[PlaneIndex, ...]
    targets: tuple[Path, ...] | tuple[PlaneIndex, ...]
    store: Path | None = None


@dataclass(frozen=True, slots=True)
class Movie:
    """A recording, by name, and its pairs in the order of their names."""

    name: str
    pairs: tuple[Pair, ...]


class PairSet:
    """Movies whose planes are read when they are asked for; a bounded number of bytes is kept.

    Not for several threads at once. When it is closed, it closes the stores it opened, and the sets
    that were selected from it.
    """

    def __init__(self, movies: Sequence[Movie]) -> None:
        self.movies = tuple(sorted(movies, key=lambda movie: movie.name))
        self.pairs = tuple(pair for movie in self.movies for pair in movie.pairs)
        self._selected: list[PairSet] = []
        self._stores: dict[Path, Store] = {}
        self._kept: OrderedDict[Pair, tuple[NDArray[np.uint16], NDArray[np.uint16]]] = OrderedDict()
        self._kept_bytes = 0

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Close the stores and forget the planes; a second time does nothing."""
        for selected in self._selected:
            selected.close()
        for store in self._stores.values():
            store.close()
        self._stores.clear()
        self._kept.clear()
        self._kept_bytes = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the movies, sorted."""
        return tuple(movie.name for movie in self.movies)

    def select(self, movies: Iterable[str] | None = None, leave_out: Iterable[str] = ()) -> PairSet:
        """Return the set of some movies alone, which is closed with this one.

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
        wanted = {self._known(name) for name in movies} if movies is not None else set(self.names)
        wanted -= {self._known(name) for name in leave_out}
        if not wanted:
            raise DataError(
                f"No movie is left of {', '.join(self.names)}. Leave out fewer, or name others."
            )
        selected = PairSet([movie for movie in self.movies if movie.name in wanted])
        self._selected.append(selected)
        return selected

    def _known(self, name: str) -> str:
        short = movie_name(name)
        if short not in self.names:
            raise DataError(
                f"There is no movie {name!r} in the data; there are: {', '.join(self.names)}."
            )
        return short

    def read(self, pair: Pair) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
        """Return a pair's raw counts; not to be written to.

        Returns
        -------
        source : array of uint16, (planes, y, x)
        target : array of uint16, (targets, y, x)

        Raises
        ------
        DataError
            If an image cannot be used, or the shapes of source and target differ.
        """
        if pair in self._kept:
            self._kept.move_to_end(pair)
            return self._kept[pair]
        planes = [self._plane(pair, place) for place in (*pair.sources, *pair.targets)]
        shapes = {plane.shape for plane in planes}
        if len(shapes) > 1:
            told = ", ".join(" x ".join(map(str, shape)) for shape in sorted(shapes))
            raise DataError(
                f"The planes of {pair.name} in movie {pair.movie} differ in shape: {told}. Expected "
                "source and target of the same field, pixel by pixel."
            )
        n = len(pair.sources)
        read = (np.stack(planes[:n]), np.stack(planes[n:]))
        self._kept[pair] = read
        self._kept_bytes += sum(array.nbytes for array in read)
        while self._kept_bytes > _CACHE_BYTES and len(self._kept) > 1:
            _, old = self._kept.popitem(last=False)
            self._kept_bytes -= sum(array.nbytes for array in old)
        return read

    def _plane(self, pair: Pair, place: Any) -> NDArray[np.uint16]:
        if pair.store is None:
            return read_image(place).astype(np.uint16)
        if pair.store not in self._stores:
            from livestain.store import open_store

            self._stores[pair.store] = open_store(pair.store)
        return self._stores[pair.store].read(place)

    def sha256(self) -> dict[str, str]:
        """Return a hash of the pixels and names of each movie, whatever file format they are in."""
        found = {}
        for movie in self.movies:
            digest = hashlib.sha256()
            for pair in movie.pairs:
                for planes in self.read(pair):
                    digest.update(f"{pair.name} {planes.shape}\n".encode())
                    digest.update(planes.astype("<u2").tobytes())
            found[movie.name] = digest.hexdigest()
        return found


def movie_name(name: str) -> str:
    """Return a movie's name without `movie-` before it and the store's suffix behind it."""
    short = name.removesuffix(".ome.zarr").removesuffix(".zarr")
    return short.removeprefix("movie-") or short
