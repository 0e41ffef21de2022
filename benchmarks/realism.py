"""How like real frames simulated ones are: spectra, histograms, a control without learning, a picture.

    LIVESTAIN_DATA=FOLDER python benchmarks/realism.py --figure FILE.png
    LIVESTAIN_DATA=FOLDER python benchmarks/realism.py --profile my.yaml --figure FILE.png --no-results

Real frames: the pairs of h9c2-omp25 (movies 009 to 011). Simulated: as many of the profile, each of a
field, a time and a focus of its own. Both are scaled to 8 bits a frame, as the real ones were published.
Compared:

- the radial power spectrum of each frame less its mean, of unit variance, averaged over the frames in
  decibels; the difference at 24 frequencies from 0.1 to 5 cycles a micrometre, and the largest one;
- the histogram of pixel values in standard deviations from the median, and the distance of both (half the
  sum of absolute differences: 0 equal, 1 nothing in common);
- Pearson of "blurred |brightfield - median|" with the fluorescence, the control without learning, in every
  profile and on the real movies.

Numbers go to results/realism.json, charts to results/realism.svg. The picture holds real pixels, which are
under GPL-3.0: it is written where you say and never becomes part of this repository.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from livestain.charts import Series, line_chart
from livestain.metrics import no_learning_control, pearson
from livestain.pictures import Panel, draw_panels, save_picture, stretched
from livestain.simulate import Dish, Profile, find_profile, profile_names

RESULTS = Path(__file__).parent / "results" / "realism.json"
MOVIES = ("009", "010", "011")
REAL_PIXEL_UM = 0.08
SIDE = 256
FOCUS_UM = 0.35
"""Standard deviation of the focus; the real frames are of two or three planes of a stack."""
FREQUENCIES = np.geomspace(0.1, 5.0, 25)
VALUES = np.linspace(-5, 8, 66)

Frames = list[NDArray[np.uint8]]


def real_pairs(folder: Path) -> tuple[Frames, Frames, list[str]]:
    """Return the real brightfield and fluorescence frames and their movies."""
    bright, real, movies = [], [], []
    for movie in MOVIES:
        base = folder / "h9c2-omp25" / f"movie-{movie}"
        for file in sorted((base / "brightfield").glob("*.png")):
            bright.append(np.asarray(Image.open(file)))
            real.append(np.asarray(Image.open(base / "mitochondria" / file.name)))
            movies.append(movie)
    if not bright:
        raise SystemExit(f"There are no pairs in {folder}/h9c2-omp25; set LIVESTAIN_DATA.")
    return bright, real, movies


def eight_bits(frame: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Scale a frame from its least to its greatest value, as the real ones were."""
    low, high = int(frame.min()), int(frame.max())
    return np.rint((frame.astype(np.float64) - low) * (255 / max(high - low, 1))).astype(np.uint8)


def simulated_pairs(
    profile: Profile, count: int, *, first_seed: int = 7001, shape: tuple[int, int] = (SIDE, SIDE)
) -> tuple[Frames, Frames]:
    """Return brightfield and fluorescence of fields within cells, scaled to 8 bits."""
    bright, green = [], []
    heights = np.random.default_rng(first_seed).normal(0, FOCUS_UM, 8)
    for n in range(count):
        seed = first_seed + n
        rng = np.random.default_rng(seed)
        dish = Dish(seed, profile, shape=shape)
        focus = float(heights[n % len(heights)])
        while True:
            x, y = rng.uniform(-400, 400, 2)
            place = float(rng.uniform(0, 1200)), focus, (float(x), float(y))
            # The real crops were taken of cells; an empty field would be compared with nothing.
            if dish.mask(*place, depth_um=4.0).mean() > 0.03:
                break
        bright.append(eight_bits(dish.brightfield(*place, exposure_ms=10.0)))
        green.append(eight_bits(dish.fluorescence(*place, exposure_ms=100.0)))
    return bright, green


def spectrum_db(frames: Frames, pixel_um: float) -> NDArray[np.float64]:
    """Return the mean radial power spectrum in decibels at the middles of FREQUENCIES."""
    spectra = []
    for frame in frames:
        plane = frame.astype(np.float64)
        plane -= plane.mean()
        plane /= max(plane.std(), 1e-9)
        window = np.hanning(plane.shape[0])[:, None] * np.hanning(plane.shape[1])[None, :]
        power = np.abs(np.fft.rfft2(plane * window)) ** 2 / (window**2).sum()
        radius = np.hypot(
            np.fft.fftfreq(plane.shape[0], pixel_um)[:, None],
            np.fft.rfftfreq(plane.shape[1], pixel_um)[None, :],
        )
        bins = np.digitize(radius, FREQUENCIES) - 1
        good = (bins >= 0) & (bins < len(FREQUENCIES) - 1)
        total = np.bincount(bins[good], power[good], len(FREQUENCIES) - 1)
        number = np.bincount(bins[good], minlength=len(FREQUENCIES) - 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            spectra.append(10 * np.log10(total / number))
    return np.asarray(np.nanmean(spectra, axis=0))


def histogram(frames: Frames) -> NDArray[np.float64]:
    """Return the shares of pixels by their distance from the median in standard deviations."""
    total = np.zeros(len(VALUES) - 1)
    for frame in frames:
        plane = frame.astype(np.float64)
        values = (plane - np.median(plane)) / max(plane.std(), 1e-9)
        total += np.histogram(np.clip(values, VALUES[0], VALUES[-1]), VALUES)[0] / values.size
    return total / len(frames)


def control(bright: Frames, green: Frames) -> float:
    return float(
        np.mean([pearson(no_learning_control(b), g) for b, g in zip(bright, green, strict=True)])
    )


def compare(real: Frames, simulated: Frames, pixel_um: float) -> dict[str, object]:
    ours, theirs = spectrum_db(simulated, pixel_um), spectrum_db(real, REAL_PIXEL_UM)
    # Above the camera's own limit there is nothing to compare.
    known = np.isfinite(ours) & np.isfinite(theirs)
    middle = np.sqrt(FREQUENCIES[1:] * FREQUENCIES[:-1])
    difference = ours - theirs
    worst = int(np.argmax(np.where(known, np.abs(difference), 0)))
    a, b = histogram(simulated), histogram(real)
    return {
        "cycles_per_um": np.round(middle[known], 3).tolist(),
        "real_db": np.round(theirs[known], 2).tolist(),
        "simulated_db": np.round(ours[known], 2).tolist(),
        "largest_difference_db": round(float(difference[worst]), 2),
        "largest_difference_at_cycles_per_um": round(float(middle[worst]), 3),
        "rms_difference_db": round(float(np.sqrt(np.mean(difference[known] ** 2))), 2),
        "histogram_edges_sd": np.round(VALUES, 2).tolist(),
        "real_histogram": np.round(b, 5).tolist(),
        "simulated_histogram": np.round(a, 5).tolist(),
        "histogram_distance": round(float(np.abs(a - b).sum() / 2), 3),
    }


def draw(path: Path, real: tuple[Frames, Frames], ours: tuple[Frames, Frames], name: str) -> None:
    """Write real and simulated frames side by side; never commit it."""
    rng = np.random.default_rng(0)
    rows = []
    picks = rng.choice(len(real[0]), 6, replace=False)
    for n, pick in enumerate(picks):
        row = []
        for title, (bright, green), k in (("real", real, pick), (name, ours, n)):
            row.append(Panel(f"{title}: brightfield", stretched(bright[k], 0.5, 99.5)))
            row.append(Panel(f"{title}: mitochondria", stretched(green[k], 0.5, 99.8)))
        rows.append(row)
    caption = "Left: h9c2-omp25, Somani et al. 2022, GPL-3.0. Right: simulated."
    save_picture(draw_panels(rows, pixel_size_um=REAL_PIXEL_UM, caption=caption), path)


def charts(result: dict[str, Any]) -> str:
    """Return spectra and histograms of both channels, real and simulated, as one SVG."""
    parts, top = [], 0
    for channel in ("brightfield", "mitochondria"):
        told = result[channel]
        floor = min(*told["real_db"], *told["simulated_db"])
        edges = np.asarray(told["histogram_edges_sd"])
        for x, names, labels in (
            (np.log10(told["cycles_per_um"]), ("real_db", "simulated_db"),
             (f"{channel}: log10 of cycles per um", "dB above the lowest")),
            ((edges[1:] + edges[:-1]) / 2, ("real_histogram", "simulated_histogram"),
             (f"{channel}: standard deviations from the median", "share of pixels")),
        ):  # fmt: skip
            less = floor if names[0].endswith("db") else 0.0
            series = [
                Series(name.split("_")[0], x, np.asarray(told[name]) - less, colour)
                for name, colour in zip(names, ("#444444", "#c2185b"), strict=True)
            ]
            chart = line_chart(series, x_label=labels[0], y_label=labels[1], width=420)
            chart = re.sub(r"^<svg[^>]*>|</svg>$", "", chart.strip())  # not every reader nests them
            parts.append(f'<g transform="translate(0 {top})">{chart}</g>')
            top += 330
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="620" height="{top}" '
        f'font-family="sans-serif" font-size="12"><style>.grid {{ stroke: #ddd }}</style>'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'
    )


def main() -> None:
    """Read the command line, compare, and write."""
    parser = argparse.ArgumentParser(description="Compare simulated frames with real ones.")
    parser.add_argument("--profile", default="h9c2-60x", help="name or YAML file")
    parser.add_argument("--frames", type=int, default=86, help="simulated frames")
    parser.add_argument(
        "--figure", type=Path, help="where to draw real frames beside simulated ones"
    )
    parser.add_argument("--no-results", action="store_true", help="print only")
    arguments = parser.parse_args()
    bright, green, movies = real_pairs(Path(os.environ.get("LIVESTAIN_DATA", "")))
    profile = find_profile(arguments.profile)
    ours = simulated_pairs(profile, arguments.frames)
    result: dict[str, object] = {
        "command": "python " + " ".join(["benchmarks/realism.py", *sys.argv[1:]]),
        "versions": {"python": platform.python_version(), "numpy": version("numpy")},
        "profile": profile.model_dump(mode="json"),
        "frames": {"real": len(bright), "simulated": len(ours[0])},
        "brightfield": compare(bright, ours[0], profile.pixel_size_um),
        "mitochondria": compare(green, ours[1], profile.pixel_size_um),
    }
    controls = {
        f"real, movie {m}": control(
            [b for b, n in zip(bright, movies, strict=True) if n == m],
            [g for g, n in zip(green, movies, strict=True) if n == m],
        )
        for m in MOVIES
    }
    controls[profile.name] = control(*ours)
    if not arguments.no_results:
        for name in profile_names():
            if name != profile.name:
                controls[name] = control(*simulated_pairs(find_profile(name), 24))
    result["control"] = {k: round(v, 3) for k, v in controls.items()}
    if arguments.figure:
        draw(arguments.figure, (bright, green), ours, profile.name)
        print(f"{arguments.figure}: real pixels are under GPL-3.0; do not commit it")
    for channel in ("brightfield", "mitochondria"):
        told = result[channel]
        assert isinstance(told, dict)
        print(
            f"{channel}: largest difference {told['largest_difference_db']} dB at "
            f"{told['largest_difference_at_cycles_per_um']} cycles/um, rms {told['rms_difference_db']} dB; "
            f"histograms differ by {told['histogram_distance']}"
        )
        if arguments.no_results:
            for f, a, b in zip(
                told["cycles_per_um"], told["real_db"], told["simulated_db"], strict=True
            ):
                print(f"   {f:6.3f}  real {a:6.1f}  simulated {b:6.1f}  {b - a:+5.1f}")
    print("control:", result["control"])
    if not arguments.no_results:
        RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        RESULTS.with_suffix(".svg").write_text(charts(result), encoding="utf-8")


if __name__ == "__main__":
    main()
