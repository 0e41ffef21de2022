"""Fourier ring correlation: down to which detail two pictures of one scene agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FRC_THRESHOLD", "RingCorrelation", "fourier_ring_correlation"]

FRC_THRESHOLD = 1 / 7
"""Where the curve is cut (Nieuwenhuizen 2013)."""

_TAPER = 0.25
"""Share of each side over which a picture fades to its mean, so that its edges do not correlate."""

_SMOOTH = np.array([1.0, 2.0, 1.0])
"""Weights of a ring and its neighbours, on top of the rings' numbers of pixels."""

_SIGMAS = 3.0
"""Standard deviations above what independent noise gives (van Heel and Schatz 2005)."""


@dataclass(frozen=True)
class RingCorrelation:
    """The curve, and where it falls.

    Attributes
    ----------
    frequency : array of float64, (rings,)
        Of the rings, in cycles per micrometre, without 0, up to half a cycle per pixel.
    correlation : array of float64, (rings,)
        Of the two spectra within each ring, smoothed over the neighbours.
    resolution_um : float
        One over the frequency at which the curve first falls below 1/7, in micrometres. NaN where it
        was never above it by more than independent noise would be: the pictures have no detail in common.
        Two pixels where it does not fall up to the end: they agree down to the pixel.
    """

    frequency: NDArray[np.float64]
    correlation: NDArray[np.float64]
    resolution_um: float


def fourier_ring_correlation(
    a: NDArray[Any], b: NDArray[Any], pixel_size_um: float
) -> RingCorrelation:
    """Correlate the spectra of two pictures ring by ring (Saxton and Baumeister 1982).

    Between two recordings of one scene with independent noise, the crossing of 1/7 is their resolution
    (Nieuwenhuizen 2013, Nat. Methods 10:557). Between a prediction and its target it is not the
    resolution of either, but the finest detail on which they agree: it falls where the prediction is
    wrong and where the target is noise, and a linear blur of a prediction, which no noise follows,
    does not change it.

    Parameters
    ----------
    a, b : array, (y, x)
        Any real dtype, equal shapes, sides of 16 pixels or more.
    pixel_size_um : float
        Side of a pixel in micrometres.

    Raises
    ------
    ValueError
        If the shapes differ or are too small.
    """
    from scipy.signal.windows import tukey

    if a.shape != b.shape or a.ndim != 2 or min(a.shape) < 16:
        raise ValueError(
            "Fourier ring correlation compares planes (y, x) of equal shape and 16 pixels or more a "
            f"side; given {a.shape} and {b.shape}."
        )
    height, width = a.shape
    taper = np.outer(tukey(height, _TAPER), tukey(width, _TAPER))
    # A ring is as wide as the coarser of the two axes' frequency steps.
    step = 1 / (min(a.shape) * pixel_size_um)
    ky = np.fft.fftfreq(height, pixel_size_um)[:, None]
    kx = np.fft.rfftfreq(width, pixel_size_um)[None, :]
    ring = np.rint(np.hypot(ky, kx) / step).astype(np.intp)
    n_rings = min(a.shape) // 2 + 1
    # rfft holds one of each pair of conjugate pixels, but both on its first (and, if even, last) column.
    weight = np.full(ring.shape, 2.0)
    weight[:, 0] = 1.0
    if width % 2 == 0:
        weight[:, -1] = 1.0

    def spectrum(plane: NDArray[Any]) -> NDArray[np.complex128]:
        values = plane.astype(np.float64)
        return np.fft.rfft2((values - values.mean()) * taper)

    def total(values: NDArray[np.float64]) -> NDArray[np.float64]:
        sums = np.bincount(ring.ravel(), (weight * values).ravel(), minlength=n_rings)
        return np.asarray(sums[1:n_rings], dtype=np.float64)

    f, g = spectrum(a), spectrum(b)
    cross = total((f * g.conj()).real)
    power_a, power_b = total(np.abs(f) ** 2), total(np.abs(g) ** 2)
    pixels = total(np.ones(ring.shape))
    norm = np.sqrt(power_a * power_b)
    raw = np.divide(cross, norm, out=np.zeros_like(cross), where=norm > 0)
    smooth = np.convolve(raw * pixels, _SMOOTH, "same") / np.convolve(pixels, _SMOOTH, "same")
    frequency = np.arange(1, n_rings) * step
    return RingCorrelation(
        frequency, smooth, _resolution(frequency, raw, smooth, pixels, pixel_size_um)
    )


def _resolution(
    frequency: NDArray[np.float64],
    raw: NDArray[np.float64],
    smooth: NDArray[np.float64],
    pixels: NDArray[np.float64],
    pixel_size_um: float,
) -> float:
    """Return one over the end of the first run of rings that surely lies above the threshold."""
    above = smooth >= FRC_THRESHOLD
    edges = np.flatnonzero(np.diff(np.concatenate(([False], above, [False])).astype(np.int8)))
    for start, after in edges.reshape(-1, 2).tolist():
        # Rings of noise stand out by chance, so a run counts by all of its pixels: half of them are
        # conjugates of the others, and the taper leaves about two thirds of those independent.
        own = pixels[start:after]
        if np.average(raw[start:after], weights=own) < _SIGMAS / np.sqrt(own.sum() / 3):
            continue
        if after == len(smooth):
            return 2 * pixel_size_um
        high, low = smooth[after - 1], smooth[after]
        share = (high - FRC_THRESHOLD) / (high - low)
        return float(1 / (frequency[after - 1] + share * (frequency[after] - frequency[after - 1])))
    return float("nan")
