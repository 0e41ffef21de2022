"""The study's simulated data, with the truth, in the layouts that a training reads.

A data set is a folder with ``train`` (one movie of it, `VALIDATION`, is looked at while training and
chooses nothing), ``test`` (dishes that no training sees, as a camera sees them) and ``truth`` (the same
dishes, the target free of noise). Time series are stacks whose depth is time, as Hsu et al. (2021) fed them
to their networks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
import zarr
from filelock import FileLock
from scipy.ndimage import gaussian_filter

from livestain.simulate import Profile, find_profile
from livestain.simulating import MovieSettings, simulate_movies

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["SETS", "VALIDATION", "Scale", "SimulatedSet", "make_set"]

VALIDATION = 4001
"""Seed, and so the name, of the movie that is looked at while training."""

_TRAIN, _TEST = 1001, 5001
"""Seeds of the first movie to train on and of the first to test on: no two sets of movies overlap."""

_AS_TIME_Z_STEP = 0.15
"""Micrometres that are written between the time points of a series that is fed as a stack; none is true."""


@dataclass(frozen=True)
class Scale:
    """How much data there is.

    Attributes
    ----------
    side : int
        Of a plane, in pixels.
    depth : int
        Planes of a stack, and time points of a series.
    most : int
        Movies of the largest training set.
    some : int
        Movies of every other training set.
    test : int
        Movies to test on.
    """

    side: int
    depth: int
    most: int
    some: int
    test: int


@dataclass(frozen=True)
class SimulatedSet:
    """One simulated data set.

    Attributes
    ----------
    kind : {"stack", "time", "stacks in time", "labels"}
    profile : dict
        What differs from the profile hela-60x; `optics` likewise from its optics.
    interval_s : float
        Between time points.
    largest : bool
        Whether it has as many training movies as the scale allows.
    """

    kind: str
    about: str
    profile: dict[str, Any] = field(default_factory=dict)
    interval_s: float = 30.0
    largest: bool = False


SETS = {
    "z": SimulatedSet("stack", "z-stacks, steps of 0.15 um", largest=True),
    "z-narrow": SimulatedSet(
        "stack",
        "z-stacks, a point spread function of 0.6 of the width",
        {"optics": {"emission_wavelength_um": 0.315, "dna_emission_wavelength_um": 0.276}},
    ),
    "z-doubled": SimulatedSet("stack", "z-stacks, pixels of 0.2 um", {"pixel_size_um": 0.2}),
    "t": SimulatedSet("time", "time series, every 30 s"),
    "t-short": SimulatedSet("time", "time series, every 5 s", interval_s=5.0),
    "t-long": SimulatedSet("time", "time series, every 300 s", interval_s=300.0),
    "zt": SimulatedSet("stacks in time", "stacks at four times, 60 s apart", interval_s=60.0),
    "labels": SimulatedSet("labels", "two labels of one structure, of different background"),
}


def make_set(name: str, out: Path, scale: Scale, *, tell: Callable[[str], None] = print) -> Path:
    """Make a data set where it is not there already.

    Parameters
    ----------
    name : str
        Of `SETS`.
    out : Path
        Folder of all sets.

    Returns
    -------
    Path
        The set's folder.
    """
    folder = out / name
    out.mkdir(parents=True, exist_ok=True)
    with FileLock(out / f"{name}.lock"):
        if not (folder / "made.txt").exists():
            tell(f"making {name}")
            _make(name, folder, scale)
            (folder / "made.txt").write_text(SETS[name].about + "\n", encoding="utf-8")
    return folder


def _make(name: str, folder: Path, scale: Scale) -> None:
    kind = SETS[name].kind
    if kind == "labels":
        _make_labels(folder, scale)
    elif kind == "stacks in time":
        # Only ever predicted on: the models are those of single stacks.
        _simulate(folder / "test", name, scale, _TEST, min(2, scale.test))
        _with_truth(folder / "test", folder / "truth")
    else:
        n = scale.most if SETS[name].largest else scale.some
        stores = folder / "stores" if kind == "time" else folder
        _simulate(stores / "train", name, scale, _TRAIN, n)
        _simulate(stores / "train", name, scale, VALIDATION, 1)
        _simulate(stores / "test", name, scale, _TEST, scale.test)
        _with_truth(stores / "test", folder / "truth", time_as_depth=kind == "time")
        if kind == "time":
            for part in ("train", "test"):
                _as_stacks(stores / part, folder / part)


def _profile(name: str) -> Profile:
    profile = find_profile("hela-60x")
    changes = dict(SETS[name].profile)
    if "optics" in changes:
        changes["optics"] = profile.optics.model_copy(update=changes["optics"])
    return profile.model_copy(update={"name": f"hela-60x-{name}", **changes})


def _simulate(out: Path, name: str, scale: Scale, seed: int, movies: int) -> None:
    one = SETS[name]
    stack = {"planes": scale.depth, "z_step_um": 0.15}
    extra: dict[str, Any] = {
        "stack": stack,
        "time": {"times": scale.depth, "focus_spread_um": 0.3},
        "stacks in time": {**stack, "times": 4},
        "labels": {"fields": 4, "focus_spread_um": 0.2},
    }[one.kind]
    # Single planes are cheap, and MS-SSIM of four scales needs 88 pixels and more.
    side = scale.side * (2 if one.kind == "labels" else 1)
    settings = MovieSettings.parse(
        {
            "profile": _profile(name),
            "seed": seed,
            "size": (side, side),
            "interval_s": one.interval_s,
            "dna": True,
            **extra,
        },
        where=f"the set {name}",
    )
    simulate_movies(out, settings, movies=movies)


def _planes(store: Path) -> tuple[dict[str, NDArray[Any]], float]:
    """Return every channel of a simulated store as (field, t, z, y, x), and the pixel size."""
    group = zarr.open_group(store, mode="r")
    attributes: Any = group.attrs.asdict()
    positions = attributes["livestain"]["plan"]["positions"]
    images = [
        zarr.open_group(store / p["path"], mode="r") if p["path"] else group for p in positions
    ]
    names = [channel["name"] for channel in attributes["livestain"]["plan"]["channels"]]
    arrays = [np.asarray(image["0"]) for image in images]
    whole = np.stack(arrays)
    pixel_size: float = attributes["livestain"]["plan"]["pixel_size_um"]
    return {n: whole[:, :, i] for i, n in enumerate(names)}, pixel_size


def _write(movie: Path, channel: str, file: str, stack: NDArray[Any]) -> None:
    (movie / channel).mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(movie / channel / f"{file}.tif", stack, photometric="minisblack")


def _voxels(movie: Path, pixel_size: float, z_step: float | None) -> None:
    lines = [f"pixel_size_um: {pixel_size}"]
    if z_step is not None:
        lines.append(f"z_step_um: {z_step}")
    (movie / "movie.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _as_stacks(stores: Path, out: Path) -> None:
    """Write time series as stacks whose depth is time."""
    for store in sorted(stores.glob("movie-*.ome.zarr")):
        channels, pixel_size = _planes(store)
        movie = out / store.name.removesuffix(".ome.zarr")
        for name in ("Brightfield", "Mitochondria", "DNA"):
            for i, one in enumerate(channels[name]):
                _write(movie, name, f"f{i}", one[:, 0])
        _voxels(movie, pixel_size, _AS_TIME_Z_STEP)


def _with_truth(stores: Path, out: Path, *, time_as_depth: bool = False) -> None:
    """Write stacks whose targets are free of noise, under the targets' names."""
    for store in sorted(stores.glob("movie-*.ome.zarr")):
        channels, pixel_size = _planes(store)
        movie = out / store.name.removesuffix(".ome.zarr")
        shown = {
            "Brightfield": channels["Brightfield"],
            "Mitochondria": channels["Mitochondria truth"],
            "DNA": channels["DNA truth"],
        }
        for name, planes in shown.items():
            for i, one in enumerate(planes):
                if time_as_depth:
                    _write(movie, name, f"f{i}", one[:, 0])
                else:
                    for t, stack in enumerate(one):
                        _write(movie, name, f"f{i}_t{t}", stack)
        _voxels(movie, pixel_size, _AS_TIME_Z_STEP)


def _make_labels(folder: Path, scale: Scale) -> None:
    """Compose two labels of the mitochondria.

    ``label-1`` also binds the nucleus and the cytoplasm; ``label-2`` has a tenth of that and less contrast
    between bright and faint mitochondria. Both are noisy; ``label-1-again`` is another take of the first.
    In ``truth`` every target is the structure itself, and ``unspecific`` what the first label shows beside
    it.
    """
    for part, seed, n in (
        ("train", _TRAIN, scale.some),
        ("train", VALIDATION, 1),
        ("test", _TEST, scale.test),
    ):
        _simulate(folder / "stores" / part, "labels", scale, seed, n)
    for part in ("train", "test"):
        for store in sorted((folder / "stores" / part).glob("movie-*.ome.zarr")):
            channels, pixel_size = _planes(store)
            name = store.name.removesuffix(".ome.zarr")
            rng = np.random.default_rng(int(name.removeprefix("movie-")))
            places = zip(channels["Mitochondria truth"], channels["DNA truth"], strict=True)
            for i, (structure, nucleus) in enumerate(places):
                takes = _labels(structure[0, 0], nucleus[0, 0], rng)
                movie = folder / part / name
                for channel in ("label-1", "label-1-again", "label-2"):
                    _write(movie, channel, f"f{i}", takes[channel])
                _voxels(movie, pixel_size, None)
                if part == "test":
                    true = folder / "truth" / name
                    for channel in ("label-1-again", "label-2"):
                        _write(true, channel, f"f{i}", takes["structure"])
                    _write(true, "label-1", f"f{i}", takes["label-1"])
                    _write(true, "unspecific", f"f{i}", takes["unspecific"])
                    _voxels(true, pixel_size, None)


def _labels(
    structure: NDArray[Any], nucleus: NDArray[Any], rng: np.random.Generator
) -> dict[str, NDArray[np.uint16]]:
    one = structure / max(float(np.percentile(structure, 99.5)), 1.0)
    dna = nucleus / max(float(np.percentile(nucleus, 99.5)), 1.0)
    cytoplasm = gaussian_filter(one, 25)
    unspecific = 0.8 * dna + 1.5 * cytoplasm

    def take(light: NDArray[Any]) -> NDArray[np.uint16]:
        # 40 photo-electrons where the structure is bright, 2 counts each, read noise of 1.5 electrons.
        electrons = rng.poisson(40 * light.clip(0)) + rng.normal(0, 1.5, light.shape)
        return (100 + 2 * electrons).clip(0, 65535).astype(np.uint16)

    def counts(light: NDArray[Any]) -> NDArray[np.uint16]:
        return (1000 * light.clip(0)).clip(0, 65535).astype(np.uint16)

    first, second = one + unspecific, one.clip(0) ** 0.7 + 0.1 * unspecific
    return {
        "label-1": take(first),
        "label-1-again": take(first),
        "label-2": take(second),
        "structure": counts(one),
        "unspecific": counts(unspecific),
    }


def movie_names(folder: Path) -> list[str]:
    """Return the movies of a folder of training data, but for the one that is only looked at."""
    found = (path.name for path in folder.glob("movie-*") if path.is_dir())
    names = sorted(name.removesuffix(".ome.zarr").removeprefix("movie-") for name in found)
    return [name for name in names if name != str(VALIDATION)]
