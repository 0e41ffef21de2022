"""Simulated movies on the disk: a store each, whole or not at all, with its truth."""

from __future__ import annotations

import csv
import shutil
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from livestain._version import __version__
from livestain.errors import DataError, StoreError
from livestain.files import replacing
from livestain.simulating.movie import SimulatedMovie, channels_of
from livestain.simulating.overview import draw_overview
from livestain.stain.provenance import versions_of
from livestain.store import (
    Journal,
    Labels,
    StoreLock,
    create_store,
    encode,
    finalise,
    journal_path,
    open_store,
)
from livestain.store.space import disk_of

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Generator, Iterator

    from livestain.simulating.settings import MovieSettings
    from livestain.store import Store, WriteFuture

__all__ = ["MASK", "SimulationReport", "movie_path", "simulate_movies", "truth_path"]

MASK = "mitochondria"
"""Name of the labels that tell where mitochondria are."""

_PACKAGES = ("numpy", "scipy", "tensorstore")

_NOTE = (
    "Simulated: no microscope took any of this. The channels that `truth` names, the labels and the numbers "
    "of the network are what the simulation knows; the others are what its camera sees of it. All pixels "
    "follow from `settings`, with the place of each plane in `planes`: livestain.simulating.SimulatedMovie "
    "computes them again, by the same version."
)


@dataclass
class SimulationReport:
    """What was made.

    Attributes
    ----------
    out : str
        The folder.
    movies : list of str
        Paths of all movies that were asked for and are there.
    kept : list of str
        Those of them that were there already, made by the same settings.
    planes : int
        Planes that were written, all channels counted.
    cut : int
        Pixels of truth that were brighter than can be stored.
    seconds : float
        How long it took.
    overview : str or None
        The picture of some fields.
    interrupted : bool
        Whether it was stopped: movies may be missing, and none is there in part.
    """

    out: str
    movies: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    planes: int = 0
    cut: int = 0
    seconds: float = 0.0
    overview: str | None = None
    interrupted: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON types."""
        return asdict(self)


def movie_path(out: Path | str, seed: int) -> Path:
    """Return where the movie of a seed lies: OUT/movie-0001.ome.zarr."""
    return Path(out) / f"movie-{seed:04d}.ome.zarr"


def truth_path(movie: Path) -> Path:
    """Return where the numbers of a movie's network lie: movie-0001.truth.csv beside it."""
    return movie.with_name(f"{movie.name.removesuffix('.ome.zarr')}.truth.csv")


def simulate_movies(
    out: Path | str,
    settings: MovieSettings,
    *,
    movies: int = 1,
    overwrite: bool = False,
    stop: threading.Event | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SimulationReport:
    """Write simulated movies, one dish and one store each, that a training reads as they are.

    Of each: OUT/movie-SEED.ome.zarr with what the camera sees (Brightfield, Mitochondria, perhaps DNA), the
    same fluorescence free of noise ("Mitochondria truth"), and the labels `mitochondria`; beside it its
    journal, and movie-SEED.truth.csv with length and number of the mitochondria in each field at each time.
    And OUT/overview.png. The same settings give the same pixels. A movie is made under another name and moved
    to its place when it is whole; one that is there already, of the same settings, is kept, so that the same
    call goes on where one was stopped.

    Parameters
    ----------
    out : Path
        A folder; made if it is not there.
    settings : MovieSettings
        Of the first movie; the others have the seeds that follow.
    movies : int
        How many.
    overwrite : bool
        Whether to replace movies of other settings.
    stop : threading.Event, optional
        When set, ends after the plane that is being made.
    progress : callable, optional
        Called as ``(done, of)`` with numbers of places (field, time point, z).

    Raises
    ------
    DataError
        If `out` is no folder, or another movie is there under a name that is needed.
    StoreError
        If it cannot be written, or the disk has no space for it.
    """
    begun = time.perf_counter()
    out = Path(out).absolute()
    asked = [settings.model_copy(update={"seed": settings.seed + n}) for n in range(movies)]
    for one in asked:
        _recover(movie_path(out, one.seed))
    report = SimulationReport(out=str(out))
    todo = _todo(out, asked, report, overwrite=overwrite)
    of = movies * settings.n_planes
    done = (movies - len(todo)) * settings.n_planes
    for one in todo:
        if progress is not None:
            progress(done, of)
        path = movie_path(out, one.seed)
        with StoreLock(path, "simulate"), _building(path) as building:
            with closing(_written(building, SimulatedMovie(one), report)) as places:
                for _ in places:
                    done += 1
                    if progress is not None:
                        progress(done, of)
                    if stop is not None and stop.is_set():
                        report.interrupted = True
                        break
            if not report.interrupted:
                _put_in_place(building, path)
                report.planes += one.n_planes * len(channels_of(one))
        if report.interrupted:
            break
    there = (movie_path(out, one.seed) for one in asked)
    report.movies = [str(path) for path in there if path.exists()]
    if report.movies:
        picture = out / "overview.png"
        draw_overview([Path(path) for path in report.movies], picture)
        report.overview = str(picture)
    report.seconds = round(time.perf_counter() - begun, 3)
    return report


def _todo(
    out: Path, asked: list[MovieSettings], report: SimulationReport, *, overwrite: bool
) -> list[MovieSettings]:
    """Return the movies that are not there yet; refuses what cannot work before anything is written."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file. Give --out a folder, in which the movies are to lie.")
    todo = []
    for one in asked:
        path = movie_path(out, one.seed)
        if not path.exists():
            todo.append(one)
        elif _is_same(path, one):
            report.kept.append(str(path))
        elif overwrite:
            open_store(path).close()  # what is no store of ours is not removed
            todo.append(one)
        else:
            raise DataError(
                f"{path} is there already, made otherwise. Give another --out or --seed, or --overwrite to "
                "replace it."
            )
    needed = len(todo) * SimulatedMovie(asked[0]).store_plan().nbytes()
    folder, free = disk_of(out / "movie")
    if needed > free:
        raise StoreError(
            f"The movies may need {needed / 1e6:,.1f} MB and {folder} has {free / 1e6:,.1f} MB free. Make "
            "room, ask for fewer or smaller planes, or choose another --out."
        )
    return todo


def _is_same(path: Path, asked: MovieSettings) -> bool:
    """Return whether a store holds just this movie, made by this version."""
    try:
        with open_store(path) as store:
            made = store.attributes.get("simulation") or {}
    except StoreError:
        return False
    versions = made.get("versions", {})
    same: bool = made.get("settings") == asked.model_dump(mode="json")
    return same and versions.get("livestain") == __version__


def _folder(path: Path) -> Path:
    """Return where a movie is made, beside its place."""
    return path.with_name(f".{path.name}.simulating")


def _parts(path: Path) -> tuple[Path, Path, Path]:
    """Return the parts of a movie, the store last: what lies beside it is there when it is."""
    return journal_path(path), truth_path(path), path


@contextmanager
def _building(path: Path) -> Iterator[Path]:
    """Give the path of a store in a folder beside its place, which is gone afterwards."""
    folder = _folder(path)
    # Nobody else builds there, since the movie is locked: it is of a process that was killed.
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield folder / path.name
    finally:
        if not _is_aside(path):
            shutil.rmtree(folder, ignore_errors=True)


def _put_in_place(building: Path, path: Path) -> None:
    """Move a whole movie to its place, and what was there out of the way: all its parts, or none."""
    aside = _aside(path)
    # The old store goes first and the new one comes last: while none is in its place, `_put_back` has to act.
    ways = list(zip(_parts(path), _parts(aside), strict=True))[::-1]
    ways += list(zip(_parts(building), _parts(path), strict=True))
    moved: list[tuple[Path, Path]] = []
    try:
        aside.parent.mkdir()
        for way in ways:
            if way[0].exists() or way[1] == path:
                way[0].rename(way[1])
                moved.append(way)
    except OSError as error:
        # What cannot be moved back now is at the next start.
        with suppress(OSError):
            for was, now in reversed(moved):
                now.rename(was)
        raise StoreError(
            f"Cannot put {path.name} into {path.parent}: {error.strerror or error}. Close the programs that "
            "have it open, and say the same again."
        ) from error


def _aside(path: Path) -> Path:
    """Return where the store of a movie lies while another takes its place."""
    return _folder(path) / "old" / path.name


def _is_aside(path: Path) -> bool:
    """Return whether a movie was moved out of the way, and nothing is in its place."""
    return _aside(path).exists() and not path.exists()


def _put_back(path: Path) -> None:
    """Put a movie back that was moved out of the way, unless another is whole in its place."""
    if _is_aside(path):
        for away, there in zip(_parts(_aside(path)), _parts(path), strict=True):
            if away.exists():
                away.replace(there)


def _recover(path: Path) -> None:
    """Put back a movie that a process moved out of the way which was then killed.

    Raises
    ------
    StoreError
        If it cannot be put back, or another process is just replacing it.
    """
    if not _is_aside(path):
        return
    with StoreLock(path, "simulate"):
        try:
            _put_back(path)
        except OSError as error:
            raise StoreError(
                f"Cannot put {path.name} back into {path.parent}, from {_aside(path)}: "
                f"{error.strerror or error}. Close the programs that have it open, and say the same again."
            ) from error


def _written(
    path: Path, movie: SimulatedMovie, report: SimulationReport
) -> Generator[None, None, None]:
    """Write a movie, place by place; it is whole when the iterator has ended."""
    settings, plan = movie.settings, movie.store_plan()
    simulation: dict[str, Any] = {
        "note": _NOTE,
        "settings": settings.model_dump(mode="json"),
        "versions": {"livestain": __version__, **versions_of(_PACKAGES)},
        "truth": [channel.name for channel in plan.channels if channel.truth is not None],
        "labels": MASK,
        "planes": {
            "axes": ["p", "t", "z"],
            "time_s": [t * settings.interval_s for t in range(settings.times)],
            "z_um": [
                [movie.shown(p, 0, z).z_um for z in range(settings.planes)]
                for p in range(settings.fields)
            ],
            "xy_um": [list(xy) for xy in movie.centres_um],
            "exposure_ms": {name: movie.exposure_ms(name) for name in movie.channels},
            "frame": "(p * times + t) * planes + z",
        },
    }
    network: dict[tuple[int, int], dict[str, Any]] = {}
    attributes = {"simulated": True, "simulation": simulation}
    with create_store(path, plan, attributes=attributes) as store:
        labels = Labels.create(store, MASK, {1: ("mitochondrion", (255, 0, 255))})
        with Journal(journal_path(path)) as journal:
            journal.append("started", what="simulate", seed=settings.seed)
            for place in movie.places():
                _write_place(store, labels, journal, movie, place, report)
                if place[:2] not in network:
                    network[place[:2]] = _network(movie, *place[:2])
                yield
            journal.append("finished", planes=settings.n_planes * len(movie.channels))
        rows = [network[at] for at in sorted(network)]
        store.update_attributes({"simulation": {**simulation, "network": rows}})
    finalise(path)
    _write_truth(truth_path(path), movie, rows)


def _write_place(
    store: Store,
    labels: Labels,
    journal: Journal,
    movie: SimulatedMovie,
    place: tuple[int, int, int],
    report: SimulationReport,
) -> None:
    """Write the planes of all channels and the labels at a place (p, t, z), and then tell the journal."""
    shown = movie.shown(*place)
    writes: list[WriteFuture] = []
    rows = []
    for name in movie.channels:
        index, plane = movie.index(name, *place), movie.plane(name, *place)
        coding = movie.coding(name)
        if coding is not None:
            plane = encode(plane, coding.scale, coding.offset)
            report.cut += int((plane == 65535).sum())
        store.write_levels(index, plane)
        writes.append(store.write(index, plane))
        rows.append(
            {
                "index": list(index),
                "camera_time_ms": 1000 * shown.time_s,
                "exposure_ms": movie.exposure_ms(name),
                "x_um": shown.xy_um[0],
                "y_um": shown.xy_um[1],
                "z_um": shown.z_um,
                "image_number": shown.frame,
            }
        )
    labels.write(movie.index(movie.channels[0], *place), movie.mask(*place))
    for write in writes:
        write.result()
    journal.append_all("plane", rows)


def _network(movie: SimulatedMovie, p: int, t: int) -> dict[str, Any]:
    """Return length and number of the mitochondria in a field at a time."""
    numbers = movie.network(p, t)
    return {
        "p": p,
        "t": t,
        "time_s": movie.shown(p, t, 0).time_s,
        "length_um": round(float(numbers.length_um), 3),
        "number": int(numbers.number),
    }


def _write_truth(path: Path, movie: SimulatedMovie, network: list[dict[str, Any]]) -> None:
    """Write the network's numbers as a table: a row a field and time point."""
    fields = movie.store_plan().positions
    try:
        with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(
                ["movie", "p", "field", "t", "time_s", "x_um", "y_um", "length_um", "number"]
            )
            for row in network:
                p = row["p"]
                where = (fields[p].name, row["t"], row["time_s"], *movie.centres_um[p])
                table.writerow(
                    [f"{movie.settings.seed:04d}", p, *where, row["length_um"], row["number"]]
                )
    except OSError as error:
        raise StoreError(
            f"Cannot write {path}: {error.strerror or error}. Expected a folder that can be written to, on a "
            "disk with space."
        ) from error
