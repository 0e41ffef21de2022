"""What two channels of different contrast have in common: the ridges of small structures, correlated.

Brightfield and fluorescence of one cell are hardly alike pixel by pixel, so correlating the planes
themselves finds nothing. Both show the same small bodies, though: bright in fluorescence, bright or dark in
brightfield according to the focus. So the ridges are correlated, bright ones and dark ones by
themselves, at two widths.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = [
    "LOOKS",
    "SIGMAS_PX",
    "Look",
    "Peak",
    "find_peak",
    "ridges",
    "spectrum",
    "summit",
    "surface",
    "tile_places",
]

Polarity = Literal["bright", "dark"]

SIGMAS_PX = (1.5, 3.0)
"""Widths of the ridges, in pixels: of thin and of thick structures."""

_CLIP = 3.0
"""Ridges of more standard deviations count as this many: a piece of dirt does not outvote the cell."""

_SURROUNDINGS = 28
"""Side of a ridge's surroundings, in its widths."""

_OTHER_PEAK_PX = 8.0
"""From here on, another peak is another displacement, and not the flank of the highest."""


class Look(NamedTuple):
    """One way of looking at the source: ridges of a polarity and a width."""

    polarity: Polarity
    sigma_px: float


LOOKS: tuple[Look, ...] = tuple(
    Look(polarity, sigma) for sigma in SIGMAS_PX for polarity in ("bright", "dark")
)


class Peak(NamedTuple):
    """The highest point of a correlation.

    Attributes
    ----------
    dy, dx : float
        Displacement of the target against the source, in pixels: its structures lie that much further
        down and right.
    height : float
        Correlation there, at most about 1.
    z : float
        Height above the median of the surface, in its robust standard deviations.
    ratio : float
        Height over that of the second peak, both above the median; infinite if there is none.
    """

    dy: float
    dx: float
    height: float
    z: float
    ratio: float


def ridges(planes: NDArray[np.float32], sigma_px: float) -> NDArray[np.float32]:
    """Return how much each pixel lies on a ridge: the larger principal curvature of the blurred plane.

    Parameters
    ----------
    planes : array of float32, (planes, y, x)
        Counts.
    sigma_px : float
        Width of the ridges, in pixels.

    Returns
    -------
    array of float32, (2, planes, y, x)
        Of bright and of dark ridges, above their surroundings; mean 0 in each plane, standard deviation 1
        over all planes, so that in a stack the sharp planes weigh most. Zeros where there is no ridge at all.

    Notes
    -----
    After Lindeberg, "Edge detection and ridge detection with automatic scale selection",
    Int. J. Comput. Vision 30:117 (1998), at fixed widths.
    """
    from scipy.ndimage import gaussian_filter, uniform_filter

    found = np.empty((2, *planes.shape), np.float32)
    around = round(_SURROUNDINGS * sigma_px)
    for k, plane in enumerate(planes):
        yy, xx, xy = (
            gaussian_filter(plane, sigma_px, order=order, truncate=3.0)
            for order in ((2, 0), (0, 2), (1, 1))
        )
        mean, spread = (yy + xx) / 2, np.sqrt(((yy - xx) / 2) ** 2 + xy**2)
        for n, curvature in enumerate((spread - mean, spread + mean)):
            np.maximum(curvature, 0, out=found[n, k])
            found[n, k] -= uniform_filter(found[n, k], around)
    deviation = found.std(axis=(1, 2, 3), keepdims=True)
    found /= np.maximum(deviation, 1e-20)
    np.clip(found, -_CLIP, _CLIP, out=found)
    found -= found.mean(axis=(2, 3), keepdims=True)
    return np.where(deviation > 0, found, np.float32(0))


@cache
def _taper(side: int) -> NDArray[np.float32]:
    """Return the taper of a tile: a Hann window."""
    line = np.hanning(side + 2)[1:-1]
    taper: NDArray[np.float32] = np.outer(line, line).astype(np.float32)
    return taper


@cache
def _overlap(side: int, far: int) -> NDArray[np.float32]:
    """Return the taper's overlap with itself at each displacement of at most `far`."""
    from scipy import fft

    overlap = fft.irfft2(np.abs(fft.rfft2(_taper(side))) ** 2, s=(side, side))
    return _near(overlap, far).astype(np.float32)


def _near(surface: NDArray[np.floating], far: int) -> NDArray[np.floating]:
    """Cut displacements of at most `far` out of a cyclic correlation; displacement 0 is in the middle."""
    rolled = np.roll(surface, (far, far), axis=(-2, -1))
    return rolled[..., : 2 * far + 1, : 2 * far + 1]


def spectrum(tiles: NDArray[np.float32]) -> NDArray[np.complex64]:
    """Return the Fourier transforms of square tiles, tapered to the borders, (..., side, side // 2 + 1)."""
    from scipy import fft

    transformed: NDArray[np.complex64] = fft.rfft2(tiles * _taper(tiles.shape[-1]))
    return transformed


def surface(cross: NDArray[np.complex64], side: int, far: int) -> NDArray[np.float32]:
    """Return correlations from cross spectra, ``target * conj(source)``.

    Parameters
    ----------
    cross : array of complex, (..., side, side // 2 + 1)
        Products of spectra.
    side : int
        Of the tiles.
    far : int
        Largest displacement either way, at most a quarter of the side: beyond, too little overlaps.

    Returns
    -------
    array of float32, (..., 2 far + 1, 2 far + 1)
        At each displacement (dy, dx) of the target, 0 in the middle, divided by the overlap of the tapers
        so that a large displacement is not at a disadvantage.
    """
    from scipy import fft

    found = _near(fft.irfft2(cross, s=(side, side)), far) / _overlap(side, far)
    return np.asarray(found, np.float32)


def find_peak(
    correlation: NDArray[np.floating],
    *,
    near: tuple[float, float] | None = None,
    within: float = math.inf,
) -> Peak:
    """Find the displacement of the highest correlation, to a part of a pixel.

    Parameters
    ----------
    correlation : array of float, (2 far + 1, 2 far + 1)
        From `surface`, or the mean of several.
    near, within : (float, float) and float
        Look no further than so many pixels from this displacement; everywhere where left out.
    """
    far = correlation.shape[0] // 2
    y, x = np.mgrid[-far : far + 1, -far : far + 1]
    looked = correlation
    if near is not None:
        distance = np.hypot(y - near[0], x - near[1])
        inside = distance <= within
        if not inside.any():
            return Peak(math.nan, math.nan, 0.0, 0.0, 1.0)
        looked = np.where(inside, correlation, -np.inf)
    row, column = np.unravel_index(int(np.argmax(looked)), correlation.shape)
    middle = float(np.median(correlation))
    spread = 1.4826 * float(np.median(np.abs(correlation - middle)))
    top = float(correlation[row, column]) - middle
    if spread <= 0 or top <= 0:
        return Peak(0.0, 0.0, 0.0, 0.0, 1.0)
    elsewhere = np.hypot(y - y[row, column], x - x[row, column]) > _OTHER_PEAK_PX
    second = float(correlation[elsewhere].max()) - middle if elsewhere.any() else 0.0
    place = summit(looked)
    return Peak(
        dy=place[0] - far,
        dx=place[1] - far,
        height=top + middle,
        z=top / spread,
        ratio=top / second if second > 0 else math.inf,
    )


def summit(correlation: NDArray[np.floating]) -> tuple[float, float]:
    """Return the place (row, column) of the highest value, to a part of a pixel.

    Parameters
    ----------
    correlation : array of float, (rows, columns)

    Notes
    -----
    The top of the paraboloid through the 5 x 5 points around the highest one, by least squares; ridges of
    1.5 pixels and more make peaks that are smooth at this scale.
    """
    row, column = (int(i) for i in np.unravel_index(int(np.argmax(correlation)), correlation.shape))
    half = min(
        2, row, column, *(n - 1 - i for n, i in zip(correlation.shape, (row, column), strict=True))
    )
    if half < 1:
        return float(row), float(column)
    values = correlation[row - half : row + half + 1, column - half : column + half + 1]
    if not np.isfinite(values).all():
        return float(row), float(column)  # at the border of where was looked
    _, by, bx, cyy, cxx, cxy = _paraboloid(half) @ values.ravel().astype(float)
    determinant = 4 * cyy * cxx - cxy**2
    if cyy >= 0 or determinant <= 0:
        return float(row), float(column)  # not a top: a saddle, or a plateau
    dy = (cxy * bx - 2 * cxx * by) / determinant
    dx = (cxy * by - 2 * cyy * bx) / determinant
    if max(abs(dy), abs(dx)) > 1:
        return float(row), float(column)
    return row + float(dy), column + float(dx)


@cache
def _paraboloid(half: int) -> NDArray[np.float64]:
    """Return what takes values on a grid to 1, y, x, y^2, x^2 and xy of their least-squares fit."""
    y, x = np.mgrid[-half : half + 1, -half : half + 1].reshape(2, -1).astype(float)
    return np.linalg.pinv(np.stack([np.ones_like(y), y, x, y * y, x * x, x * y], axis=1))


def tile_places(shape: Sequence[int], side: int, most: int) -> tuple[tuple[int, int], ...]:
    """Return upper left corners (y, x) of at most `most` square tiles, evenly over a plane.

    They overlap by half where the plane is small, and leave gaps where it is large.
    """
    height, width = shape
    per_side = max(1, math.isqrt(most))
    counts = [min(per_side, max(1, math.ceil(2 * length / side) - 1)) for length in (height, width)]
    lines = [
        np.unique(np.round(np.linspace(0, length - side, count)).astype(int))
        if count > 1
        else np.array([(length - side) // 2])
        for length, count in zip((height, width), counts, strict=True)
    ]
    return tuple((int(y), int(x)) for y in lines[0] for x in lines[1])
