"""Make the pairs that the demo's bundle is trained on: simulated brightfield and mitochondria.

Writes DIR/movie-SEED/{brightfield,mitochondria}/*.png (16 bits, equal names). Every movie is a dish of
its own, with a seed that neither the demo nor a test shows. The brightfield has the camera's
noise; the target is the noise-free fluorescence in the focal plane, in photo-electrons per second.

    python models/make_demo_data.py --out DIR
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from livestain.simulate import Dish

FIRST_SEED = 1001
"""Seed of the first movie; demo and tests show dishes below 1000."""

PLANES_A_FIELD = 6
"""Planes of one field of view, at different times and focus, before the stage moves on."""


def make_movie(out: Path, seed: int, planes: int, side: int) -> None:
    """Write one movie: `planes` pairs of `side` x `side` pixels at random times, focus and fields."""
    rng = np.random.default_rng(seed)
    dish = Dish(seed, shape=(side, side))
    folders = [out / f"movie-{seed}" / kind for kind in ("brightfield", "mitochondria")]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    xy = (0.0, 0.0)
    for n in range(planes):
        if n % PLANES_A_FIELD == 0:
            x, y = rng.uniform(-500, 500, 2)
            xy = (float(x), float(y))
        time_s, z_um = rng.uniform(0, 1200), rng.uniform(-0.8, 0.8)
        exposure_ms = rng.uniform(8, 15)
        image = dish.brightfield(time_s, z_um, xy, exposure_ms=exposure_ms, frame=n)
        target = np.rint(dish.truth(time_s, z_um, xy) * 1000).clip(0, 65535).astype(np.uint16)
        name = f"t{time_s:06.1f}_z{z_um:+.2f}_{n:03d}.png"
        for folder, plane in zip(folders, (image, target), strict=True):
            Image.fromarray(plane).save(folder / name)


def main() -> None:
    """Read the command line and write all movies."""
    parser = argparse.ArgumentParser(description="Make the training pairs of the demo's bundle.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--movies", type=int, default=8, help="number of dishes")
    parser.add_argument("--planes", type=int, default=48, help="pairs a dish")
    parser.add_argument("--side", type=int, default=256, help="side of a plane in pixels")
    arguments = parser.parse_args()
    for seed in range(FIRST_SEED, FIRST_SEED + arguments.movies):
        make_movie(arguments.out, seed, arguments.planes, arguments.side)
        print(f"movie-{seed}: {arguments.planes} pairs")


if __name__ == "__main__":
    main()
