"""The simulator's transfer functions against two packages that others wrote.

    pip install waveorder psfmodels     # in an environment of its own, beside livestain
    python benchmarks/optics.py

waveorder's weak-object transfer function of a thin slice (`isotropic_thin_3d`), which is summed on a
raster of the pupil, at heights through focus; on three rasters, since what is left falls with the raster's
step. psfmodels' scalar model (S. F. Gibson and F. Lanni), a diffraction integral, for the widefield point
spread function in focus and out of it, in a medium that fits the objective and in one that does not.

Nothing is fitted. `CONVENTIONS` says how the numbers of each are read. Results go to results/optics.json.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psfmodels
from waveorder.models import isotropic_thin_3d

from livestain.simulate.optics import (
    Optics,
    RadialGrid,
    fluorescence_transfer,
    transmitted_transfer,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

RESULTS = Path(__file__).parent / "results"
CONVENTIONS = {
    "waveorder": (
        "The same curves with the same factor of 2: relative intensity per radian and per neper, a height of "
        "the slice above focus positive. Its absorption is positive where light is lost, ours negative. It "
        "has no aberration, ring or shear, so those are not compared."
    ),
    "psfmodels": (
        "Intensities, each divided by its own largest value of the stack; neither has apodisation. psfmodels "
        "samples points here, without its sum over the pixel. It interpolates along the radius from pixel to "
        "pixel, so it is given pixels of a fifth, and every fifth is taken. Its z counts the objective's way "
        "from where the point's paraxial light is in focus, plus the point's depth d: with an immersion of "
        "index n and a medium of m, our focus is d + (z - d) m / n deep."
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=RESULTS / "optics.json")
    arguments = parser.parse_args()
    result = {
        "what": "benchmarks/optics.py",
        "command": shlex.join(["python", "benchmarks/optics.py", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "python": sys.version.split()[0],
            **{name: version(name) for name in ("numpy", "waveorder", "psfmodels", "torch")},
        },
        "conventions": CONVENTIONS,
        "waveorder": [against_waveorder(side) for side in (256, 512, 1024)],
        "psfmodels": [
            against_psfmodels("fitting medium, water", Optics()),
            against_psfmodels(
                "fitting medium, NA 0.7", Optics(numerical_aperture=0.7, condenser_aperture=0.4)
            ),
            against_psfmodels(
                "oil, NA 1.2, 10 um into water",
                Optics(refractive_index=1.515, medium_index=1.333),
                depth_um=10.0,
            ),
        ],
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({k: result[k] for k in ("waveorder", "psfmodels")}, indent=1))


def against_waveorder(side: int, pixel_um: float = 0.1) -> dict[str, Any]:
    optics = Optics(spherical_aberration_waves=0.0)
    heights = [-3.0, -1.0, -0.3, 0.0, 0.3, 1.0, 3.0]
    absorbed, phased = isotropic_thin_3d.calculate_transfer_function(
        (side, side),
        pixel_um,
        heights,
        optics.brightfield_wavelength_um,
        optics.refractive_index,
        optics.condenser_aperture,
        optics.numerical_aperture,
    )
    grid = RadialGrid((side, side), pixel_um)
    ours = [transmitted_transfer(optics, dz).on(grid) for dz in heights]
    half = side // 2 + 1
    return {
        "side": side,
        "pixel_um": pixel_um,
        "raster_step_in_pupil_radii": round(
            optics.brightfield_wavelength_um / optics.numerical_aperture / (side * pixel_um), 4
        ),
        "dz_um": heights,
        "phase": differences(np.stack([p for p, _ in ours]), phased.numpy()[..., :half].real),
        "absorption": differences(
            -np.stack([a for _, a in ours]), absorbed.numpy()[..., :half].real
        ),
    }


def against_psfmodels(name: str, optics: Optics, depth_um: float = 0.0) -> dict[str, Any]:
    side, pixel_um, wide = 1024, 0.05, 61
    grid = RadialGrid((side, side), pixel_um)
    ratio = optics.medium / optics.refractive_index
    ways = depth_um + np.linspace(-2, 2, 17)
    theirs = psfmodels.scalar_psf(
        ways,
        nx=5 * (wide - 1) + 1,
        dxy=pixel_um / 5,
        pz=depth_um,
        wvl=optics.emission_wavelength_um,
        params={
            "NA": optics.numerical_aperture,
            "ns": optics.medium,
            **dict.fromkeys(("ni", "ni0", "ng", "ng0"), optics.refractive_index),
            "sf": 1,
            "mode": 0,
        },
    )[:, ::5, ::5]
    planes = []
    for way in ways:
        focus_um = depth_um + (float(way) - depth_um) * ratio
        changed = {"medium_depth_um": focus_um if depth_um else 0.0}
        transfer = fluorescence_transfer(optics.model_copy(update=changed), depth_um - focus_um)
        plane = np.fft.fftshift(np.fft.irfft2(grid.lay(*transfer), s=(side, side)))
        middle = slice(side // 2 - wide // 2, side // 2 + wide // 2 + 1)
        planes.append(plane[middle, middle])
    ours = np.stack(planes)
    return {
        "case": name,
        "NA": optics.numerical_aperture,
        "planes_um": [round(float(w), 3) for w in ways],
        "share_of_peak": differences(ours / ours.max(), theirs / theirs.max()),
        "fwhm_in_focus_um": {
            "livestain": width(ours, pixel_um),
            "psfmodels": width(theirs, pixel_um),
        },
    }


def differences(ours: NDArray[Any], theirs: NDArray[Any]) -> dict[str, float]:
    """Return largest and root mean square difference; and the same as a share of the other's."""
    apart = ours - theirs
    rms = float(np.sqrt((apart**2).mean()))
    return {
        "largest": float(f"{np.abs(apart).max():.3g}"),
        "rms": float(f"{rms:.3g}"),
        "largest value": float(f"{np.abs(theirs).max():.4g}"),
        "rms, share of the rms value": float(f"{rms / np.sqrt((theirs**2).mean()):.3g}"),
    }


def width(stack: NDArray[Any], pixel_um: float) -> float:
    """Return the full width at half maximum of the brightest plane, in micrometres."""
    plane = stack[int(np.argmax(stack.max((1, 2))))]
    middle = plane.shape[0] // 2
    line = plane[middle, middle:] / plane[middle, middle]
    first = int(np.argmax(line < 0.5))
    return round(
        2
        * pixel_um
        * (first - 1 + float((line[first - 1] - 0.5) / (line[first - 1] - line[first]))),
        4,
    )


if __name__ == "__main__":
    main()
