"""What the registration check says of real pairs, of pairs shifted on purpose, and of pairs that are none.

    LIVESTAIN_DATA=FOLDER python benchmarks/registration.py

Movies of h9c2-omp25 as published; the same with their targets shifted by known amounts; sources of a movie
with targets of another, which have nothing in common, so that every displacement that is told is
false; planes blurred on purpose; and simulated stacks, whose brightfield is focused 0.5 um off their
fluorescence by construction. Results go to benchmarks/results/registration.json.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, shift

from livestain.metrics import frame_of_file
from livestain.simulate import Dish
from livestain.training.checks.quality import EMPTY_SIGNAL, blurred_ones, noise_of, quality_of
from livestain.training.checks.registration import MIN_RATIO, MIN_Z, Registrar, Registration

RESULTS = Path(__file__).parent / "results" / "registration.json"
MOVIES = ("009", "010", "011")
SHIFTS = ((3.4, -7.2), (-12.0, 20.0), (0.5, 0.5))
SHUFFLES = 12
Z_STEP_UM = 0.5
Z_SHIFTS = (0, 2, -1)

Pairs = list[tuple[str, np.ndarray, np.ndarray]]


def load(folder: Path) -> Pairs:
    """Read a movie's pairs: name, brightfield, mitochondria."""
    found = []
    for path in sorted((folder / "brightfield").glob("*.png")):
        with Image.open(path) as a, Image.open(folder / "mitochondria" / path.name) as b:
            found.append((path.stem, np.asarray(a), np.asarray(b)))
    return found


def register(name: str, pairs: Pairs, by: tuple[float, float] = (0.0, 0.0)) -> Registration:
    registrar = Registrar(name, "mitochondria")
    for stem, source, target in pairs:
        moved = target.astype(np.float32)
        if by != (0.0, 0.0):
            moved = shift(moved, by, order=3, mode="nearest")
        registrar.add(stem, frame_of_file(stem), source[None], moved[None], (0,))
    return registrar.result()


def told(one: Registration) -> dict[str, Any]:
    return {
        "told": one.told,
        "dy_px": round(one.dy_px, 3),
        "dx_px": round(one.dx_px, 3),
        "interval_y_px": one.interval_y_px and [round(v, 2) for v in one.interval_y_px],
        "interval_x_px": one.interval_x_px and [round(v, 2) for v in one.interval_x_px],
        "dz_planes": one.dz_planes and round(one.dz_planes, 3),
        "peak_sd": round(one.z, 2),
        "peak_ratio": round(one.ratio, 2),
        "looks": one.looks,
        "frames": one.frames,
        "pairs": len(one.pairs),
        "pairs_that_tell": sum(pair.told for pair in one.pairs),
    }


def real(movies: dict[str, Pairs]) -> dict[str, Any]:
    found = {}
    for name, pairs in movies.items():
        as_published = register(name, pairs)
        found[name] = {"as_published": told(as_published), "shifted": {}}
        for by in SHIFTS:
            moved = register(name, pairs, by)
            left = (
                moved.dy_px - as_published.dy_px - by[0],
                moved.dx_px - as_published.dx_px - by[1],
            )
            found[name]["shifted"][f"{by[0]:g}, {by[1]:g}"] = {
                **told(moved),
                "error_px": [round(value, 3) for value in left],
            }
    return found


def strangers(movies: dict[str, Pairs]) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    peaks = []
    for n in range(SHUFFLES):
        ours, theirs = rng.permutation(MOVIES)[:2]
        drawn = rng.integers(len(movies[theirs]), size=len(movies[ours]))
        pairs = [
            (stem, source, movies[theirs][int(i)][2])
            for (stem, source, _), i in zip(movies[ours], drawn, strict=True)
        ]
        one = register(f"{ours} with {theirs}, {n}", pairs)
        peaks.append((one.told, one.z, one.ratio))
    return {
        "sets": SHUFFLES,
        "told": sum(each[0] for each in peaks),
        "highest_peak_sd": round(max(each[1] for each in peaks), 2),
        "highest_ratio": round(max(each[2] for each in peaks), 2),
        "needed": {"peak_sd": MIN_Z, "ratio": MIN_RATIO},
    }


def quality(movies: dict[str, Pairs]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    rng = np.random.default_rng(0)
    for name, pairs in movies.items():
        for channel, index in (("brightfield", 1), ("mitochondria", 2)):
            planes = [pair[index].astype(np.float32) for pair in pairs]
            own = [quality_of(plane[None]) for plane in planes]
            flagged, limit = blurred_ones([one.focus for one in own])
            entry = {
                "pairs": len(planes),
                "flagged_as_published": int(flagged.sum()),
                "saturated_as_published": sum(one.saturated > 0 for one in own),
                "empty_as_published": sum(one.signal < EMPTY_SIGNAL for one in own),
                "least_signal": round(min(one.signal for one in own), 1),
            }
            for sigma in (2.5, 4.0):
                blurred = [
                    gaussian_filter(plane, sigma) + rng.normal(0, noise_of(plane), plane.shape)
                    for plane in planes
                ]
                focus = [quality_of(plane[None].astype(np.float32)).focus for plane in blurred]
                entry[f"share_under_the_limit_blurred_by_{sigma:g}_px"] = round(
                    float(np.mean([value < limit for value in focus])), 3
                )
            found[f"{name} {channel}"] = entry
    noise = [
        quality_of(rng.poisson(10, (1, 256, 256)).astype(np.float32)).signal for _ in range(20)
    ]
    found["most_signal_of_20_planes_of_noise"] = round(max(noise), 3)
    return found


def stacks() -> dict[str, Any]:
    heights = np.arange(-3, 3.01, Z_STEP_UM)
    dishes = []
    for seed in (1, 2, 3):
        dish = Dish(seed)
        frames = [
            (dish.brightfield(0, z, frame=i), dish.fluorescence(0, z, frame=i))
            for i, z in enumerate(heights)
        ]
        dishes.append([np.stack(each) for each in zip(*frames, strict=True)])
    rows = range(3, 10)
    found = {}
    for dz in Z_SHIFTS:
        registrar = Registrar("stacks", "mitochondria", tiles=1, z_reach=6)
        for n, (source, target) in enumerate(dishes):
            shown = np.stack([target[k - dz] for k in rows])
            best = sorted(np.argsort(-shown.std(axis=(1, 2)))[:6].tolist())
            moved = np.roll(shown[best], (2, -3), axis=(1, 2))
            registrar.add(str(n), str(n), source, moved, [rows[i] for i in best])
        found[f"dz {dz}, dy 2, dx -3"] = told(registrar.result())
    return {
        "z_step_um": Z_STEP_UM,
        "focus_offset_um": Dish(1).optics.brightfield_offset_um,
        "found": found,
    }


def main() -> None:
    data = Path(os.environ["LIVESTAIN_DATA"]) / "h9c2-omp25"
    movies = {name: load(data / f"movie-{name}") for name in MOVIES}
    result = {
        "command": "LIVESTAIN_DATA=FOLDER python benchmarks/registration.py",
        "versions": {
            **{name: version(name) for name in ("livestain", "numpy", "scipy")},
            "python": platform.python_version(),
        },
        "real": real(movies),
        "strangers": strangers(movies),
        "quality": quality(movies),
        "simulated_stacks": stacks(),
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"{RESULTS}\n")


if __name__ == "__main__":
    main()
