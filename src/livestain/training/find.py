"""Finding pairs in folders of images and in stores."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from livestain.errors import DataError
from livestain.metrics import frame_of_file
from livestain.training.images import IMAGE_SUFFIXES
from livestain.training.pairs import Movie, Pair, PairSet, PairSpec, movie_name

__all__ = ["find_pairs"]

_SAME_PIXEL_SIZE = 0.005
"""Relative difference of pixel sizes that counts as none."""


def find_pairs(data: Path | str, spec: PairSpec) -> PairSet:
    """Find the pairs in a folder.

    Parameters
    ----------
    data : Path or str
        A folder of movies: each a folder `movie-NAME` with one folder of images a channel, equal names
        in each, or a livestain store `NAME.ome.zarr`. Or one such movie by itself.
    spec : PairSpec
        Which planes make a pair.

    Raises
    ------
    DataError
        If a folder, a channel or a counterpart is missing, or there are no pairs at all.
    """
    data = Path(data)
    if not data.is_dir():
        raise DataError(
            f"There is no folder {data}. Expected a folder with movie-NAME/"
            f"{spec.source} and the like, or with stores NAME.ome.zarr."
        )
    places = (
        [data]
        if _is_movie(data, spec)
        else sorted(
            child
            for child in data.iterdir()
            if child.is_dir() and (child.name.startswith("movie-") or _is_movie(child, spec))
        )
    )
    movies = [
        Movie(
            movie_name(place.name),
            _pairs_in_store(place, spec) if _is_store(place) else _pairs_in_folder(place, spec),
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
            f"There are no pairs in {data}. Expected {spec.folders} with images of equal names "
            "(.png, .tif), or livestain stores NAME.ome.zarr with these channels."
        )
    return PairSet(movies)


def _is_store(place: Path) -> bool:
    return (place / "zarr.json").is_file()


def _is_movie(place: Path, spec: PairSpec) -> bool:
    return _is_store(place) or _channel_folder(place, spec.source) is not None


def _channel_folder(movie: Path, channel: str) -> Path | None:
    exact = movie / channel
    if exact.is_dir():
        return exact
    for child in sorted(movie.iterdir()):
        if child.is_dir() and child.name.lower() == channel.lower():
            return child
    return None


def _pairs_in_folder(movie: Path, spec: PairSpec) -> tuple[Pair, ...]:
    if spec.window.n_planes > 1:
        raise DataError(
            f"One prediction of {spec.asker} needs {spec.window.n_planes} planes, but the images in "
            f"{movie} do not say which belong together. Expected livestain stores."
        )
    channels = spec.channels
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
            frame=frame_of_file(stem),
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


def _pairs_in_store(place: Path, spec: PairSpec) -> tuple[Pair, ...]:
    """Pair the planes that are there: fluorescence may be as sparse as it likes."""
    from livestain.planes import PlaneIndex
    from livestain.store import open_store

    with open_store(place) as store:
        plan = store.plan
        raw = {ch.name.lower(): c for c, ch in enumerate(plan.channels) if ch.kind == "raw"}
        wanted = spec.channels
        missing = [channel for channel in wanted if channel.lower() not in raw]
        if missing:
            raise DataError(
                f"{place} has no raw channel {missing[0]!r}; it has: "
                f"{', '.join(plan.channels[c].name for c in raw.values())}. "
                "Name its channels in the recipe."
            )
        difference = abs(plan.pixel_size_um / spec.pixel_size_um - 1)
        if difference > _SAME_PIXEL_SIZE:
            raise DataError(
                f"{place} has pixels of {plan.pixel_size_um:g} um; {spec.asker} expects "
                f"{spec.pixel_size_um:g} um. Give the data's own pixel size."
            )
        if spec.window.window().needs_stack and spec.z_step_um is not None:
            _check_z_step(place, plan.z_step_um, spec)
        source, *targets = (raw[channel.lower()] for channel in wanted)
        if spec.window.z == "all" and spec.window.depth != plan.n_z:
            raise DataError(
                f"{place} has stacks of {plan.n_z} planes; {spec.asker} expects "
                f"{spec.window.depth}. Give the data's own number."
            )
        present = store.present_grid()
    window = spec.window.window()
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


def _check_z_step(place: Path, found: float | None, spec: PairSpec) -> None:
    expected = spec.z_step_um or 0.0
    if found is None or abs(found - expected) > spec.z_step_tolerance * expected + 1e-9:
        told = "no even distance of z-planes" if found is None else f"z-planes {found:g} um apart"
        raise DataError(
            f"{place} has {told}; {spec.asker} expects {expected:g} um. Give the data's own z-step."
        )
