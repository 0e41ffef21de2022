"""Pairs: what was seen and what is to be predicted, found in folders of images and in stores.

A movie is what is split by: crops and frames of one movie show the same cells.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from livestain.errors import DataError
from livestain.training.images import IMAGE_SUFFIXES, read_image

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from livestain.planes import PlaneIndex
    from livestain.store import Store
    from livestain.training.recipe import Recipe

__all__ = ["Movie", "Pair", "PairSet", "find_pairs"]

_CACHE_BYTES = 2**30
"""Planes kept in memory; the rest is read when it is needed."""

_SAME_PIXEL_SIZE = 0.005
"""Relative difference of pixel sizes that counts as none."""

_CROP_OF_FRAME = re.compile(r"(t[^_]*_z[^_]*)_[^_]*")
"""Files named tTIME_zPLANE_CROP: crops of one frame share its cells."""


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

    Not for several threads at once. Closes the stores it opened when it is closed.
    """

    def __init__(self, movies: Sequence[Movie]) -> None:
        self.movies = tuple(sorted(movies, key=lambda movie: movie.name))
        self.pairs = tuple(pair for movie in self.movies for pair in movie.pairs)
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
        wanted = {self._known(name) for name in movies} if movies is not None else set(self.names)
        wanted -= {self._known(name) for name in leave_out}
        if not wanted:
            raise DataError(
                f"No movie is left of {', '.join(self.names)}. Leave out fewer, or name others."
            )
        return PairSet([movie for movie in self.movies if movie.name in wanted])

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


def find_pairs(data: Path | str, recipe: Recipe) -> PairSet:
    """Find the pairs that a recipe asks for.

    Parameters
    ----------
    data : Path or str
        A folder of movies: each a folder `movie-NAME` with one folder of images a channel, equal names
        in each, or a livestain store `NAME.ome.zarr`. Or one such movie by itself.
    recipe : Recipe
        Says channels, window and pixel size.

    Raises
    ------
    DataError
        If a folder, a channel or a counterpart is missing, or there are no pairs at all.
    """
    data = Path(data)
    if not data.is_dir():
        raise DataError(
            f"There is no folder {data}. Expected a folder with movie-NAME/"
            f"{recipe.source.channel} and movie-NAME/{recipe.targets[0].channel}, or with stores."
        )
    places = (
        [data]
        if _is_movie(data, recipe)
        else sorted(
            child
            for child in data.iterdir()
            if child.is_dir() and (child.name.startswith("movie-") or _is_movie(child, recipe))
        )
    )
    movies = [
        Movie(
            movie_name(place.name),
            _pairs_in_store(place, recipe) if _is_store(place) else _pairs_in_folder(place, recipe),
        )
        for place in places
    ]
    names = [movie.name for movie in movies]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"Two movies in {data} are called {name!r}. Rename one of them.")
    movies = [movie for movie in movies if movie.pairs]
    if not movies:
        raise DataError(
            f"There are no pairs in {data}. Expected movie-NAME/{recipe.source.channel} and movie-NAME/"
            f"{recipe.targets[0].channel} with images of equal names (.png, .tif), or livestain stores "
            "NAME.ome.zarr with both channels."
        )
    return PairSet(movies)


def _is_store(place: Path) -> bool:
    return (place / "zarr.json").is_file()


def _is_movie(place: Path, recipe: Recipe) -> bool:
    return _is_store(place) or _channel_folder(place, recipe.source.channel) is not None


def _channel_folder(movie: Path, channel: str) -> Path | None:
    exact = movie / channel
    if exact.is_dir():
        return exact
    for child in sorted(movie.iterdir()):
        if child.is_dir() and child.name.lower() == channel.lower():
            return child
    return None


def _pairs_in_folder(movie: Path, recipe: Recipe) -> tuple[Pair, ...]:
    if recipe.window.n_planes > 1:
        raise DataError(
            f"The recipe {recipe.name} looks at {recipe.window.n_planes} planes at once, but the images in "
            f"{movie} do not say which belong together. Expected livestain stores."
        )
    channels = [recipe.source.channel, *(target.channel for target in recipe.targets)]
    files: list[dict[str, Path]] = []
    for channel in channels:
        folder = _channel_folder(movie, channel)
        if folder is None:
            raise DataError(
                f"{movie} has no folder {channel!r}. Expected one folder of images for each of: "
                f"{', '.join(channels)}."
            )
        files.append(_images(folder))
    for channel, found in zip(channels[1:], files[1:], strict=True):
        alone = sorted(set(files[0]) ^ set(found))
        if alone:
            here = channels[0] if alone[0] in files[0] else channel
            raise DataError(
                f"{len(alone)} images in {movie} have no counterpart of the same name in {channels[0]} "
                f"and {channel}; the first is {here}/{alone[0]}. Remove them, or add the counterparts."
            )
    name = movie_name(movie.name)
    return tuple(
        Pair(
            movie=name,
            name=stem,
            frame=match[1] if (match := _CROP_OF_FRAME.fullmatch(stem)) else stem,
            sources=(files[0][stem],),
            targets=tuple(found[stem] for found in files[1:]),
        )
        for stem in sorted(files[0])
    )


def _images(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
            if path.stem in found:
                raise DataError(
                    f"{found[path.stem].name} and {path.name} in {folder} differ by their suffix alone. "
                    "Keep one of them."
                )
            found[path.stem] = path
    return found


def _pairs_in_store(place: Path, recipe: Recipe) -> tuple[Pair, ...]:
    """Pair the planes that are there: fluorescence may be as sparse as it likes."""
    from livestain.planes import PlaneIndex
    from livestain.store import open_store

    with open_store(place) as store:
        plan = store.plan
        raw = {ch.name.lower(): c for c, ch in enumerate(plan.channels) if ch.kind == "raw"}
        wanted = [recipe.source.channel, *(target.channel for target in recipe.targets)]
        missing = [channel for channel in wanted if channel.lower() not in raw]
        if missing:
            raise DataError(
                f"{place} has no raw channel {missing[0]!r}; it has: "
                f"{', '.join(plan.channels[c].name for c in raw.values())}. Name its channels in the recipe."
            )
        difference = abs(plan.pixel_size_um / recipe.pixel_size_um - 1)
        if difference > _SAME_PIXEL_SIZE:
            raise DataError(
                f"{place} has pixels of {plan.pixel_size_um:g} um, the recipe {recipe.name} says "
                f"{recipe.pixel_size_um:g} um. Put the data's own pixel size into the recipe."
            )
        source, *targets = (raw[channel.lower()] for channel in wanted)
        if recipe.window.z == "all" and recipe.window.depth != plan.n_z:
            raise DataError(
                f"{place} has stacks of {plan.n_z} planes, the recipe {recipe.name} says "
                f"{recipe.window.depth}. Put the data's own number into the recipe."
            )
        present = store.present_grid()
    window = recipe.window.window()
    name = movie_name(place.name)
    pairs = []
    for t, z in np.argwhere(present[:, targets].all(axis=1)).tolist():
        at = PlaneIndex(0, t, source, z)
        sources = window.sources(at, source, n_t=plan.n_t, n_z=plan.n_z)
        if all(present[place_.t, place_.c, place_.z] for place_ in sources):
            pairs.append(
                Pair(
                    movie=name,
                    name=f"t{t:05d}_z{z:03d}",
                    frame=f"t{t:05d}",
                    sources=sources,
                    targets=tuple(at.at(c=c) for c in targets),
                    store=place,
                )
            )
    return tuple(pairs)
