"""Transfer functions of a transmitted-light and a fluorescence microscope, from one pupil.

Brightfield: the weak-object transfer function of a partially coherent microscope, slice by slice.
For a slice with phase ``p`` and absorption ``a`` at a distance ``dz`` from the focal plane, a source
point of spatial frequency ``s`` sends its light along ``s`` and, scattered by the object's frequency
``k``, along ``s + k``; their interference, summed over the condenser's aperture, is the image's
frequency ``k``::

    I(k) / I0 = -2 <P(s+k) sin(W(s+k) - W(s))> p(k) - 2 <P(s+k) cos(W(s+k) - W(s))> a(k)

with ``P`` the objective's pupil and ``W(s) = 2 pi dz sqrt((n/wavelength)^2 - s^2)`` plus aberrations.
Phase contrast is odd in ``dz``: nothing at focus, opposite signs above and below.

- N. Streibl, "Three-dimensional imaging by a microscope", J. Opt. Soc. Am. A 2:121 (1985),
  doi 10.1364/JOSAA.2.000121.
- M. H. Jenkins, T. K. Gaylord, "Quantitative phase microscopy via optimized inversion of the phase
  optical transfer function", Appl. Opt. 54:8566 (2015), doi 10.1364/AO.54.008566.
- J. M. Soto, J. A. Rodrigo, T. Alieva, "Label-free quantitative 3D tomographic imaging for
  partially coherent light microscopy", Opt. Express 25:15699 (2017), doi 10.1364/OE.25.015699.

Fluorescence: the defocused incoherent transfer function is the same average with the objective's
pupil as the source (H. H. Hopkins, Proc. R. Soc. A 231:91 (1955); P. A. Stokseth, J. Opt. Soc. Am.
59:1314 (1969)).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, model_validator

from livestain.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Optics", "RadialGrid", "fluorescence_transfer", "weak_object_transfer"]

_SOURCE_POINTS = 49
"""Source points across the aperture's diameter; odd, so that the axis is one of them."""

_RADIAL_POINTS = 129
"""Spatial frequencies at which a radial transfer function is computed."""


class Optics(Settings):
    """The objective, the condenser and the two wavelengths."""

    numerical_aperture: float = Field(default=1.2, gt=0)
    """Numerical aperture of the objective."""

    condenser_aperture: float = Field(default=0.55, gt=0)
    """Numerical aperture of the condenser, at most the objective's."""

    refractive_index: float = Field(default=1.333, gt=1)
    """Refractive index of the immersion and of the medium (a water-immersion objective)."""

    brightfield_wavelength_um: float = Field(default=0.55, gt=0)
    """Wavelength of the transmitted light in vacuum, in micrometres."""

    emission_wavelength_um: float = Field(default=0.525, gt=0)
    """Wavelength of the fluorescence in vacuum, in micrometres."""

    brightfield_offset_um: float = 0.5
    """Where the transmitted-light focus lies below the fluorescence focus, in micrometres: what is
    sharp in fluorescence is seen slightly out of focus in brightfield, as users set it for contrast."""

    spherical_aberration_waves: float = 0.08
    """Primary spherical aberration at the pupil's edge, in waves of the transmitted light."""

    @model_validator(mode="after")
    def _apertures_fit(self) -> Optics:
        if self.numerical_aperture >= self.refractive_index:
            raise ValueError("numerical_aperture must be below refractive_index")
        if self.condenser_aperture > self.numerical_aperture:
            raise ValueError("condenser_aperture is at most numerical_aperture")
        return self


class RadialGrid:
    """The frequencies of a real 2-D FFT, and radial curves laid onto them.

    Parameters
    ----------
    shape : (int, int)
        Size (y, x) of the plane, in pixels.
    pixel_size_um : float
        Side of a pixel in micrometres.
    """

    def __init__(self, shape: tuple[int, int], pixel_size_um: float) -> None:
        ky = np.fft.fftfreq(shape[0], pixel_size_um)
        kx = np.fft.rfftfreq(shape[1], pixel_size_um)
        self.radius: NDArray[np.float32] = np.hypot(ky[:, None], kx[None, :]).astype(np.float32)
        """Spatial frequency of every coefficient, in cycles per micrometre."""

    def lay(self, cutoff: float, curve: NDArray[np.float64]) -> NDArray[np.float32]:
        """Interpolate a curve sampled evenly from 0 to `cutoff` (cycles/um); 0 beyond it."""
        padded = np.append(curve, (0.0, 0.0)).astype(np.float32)
        place = np.minimum(self.radius * np.float32((len(curve) - 1) / cutoff), len(curve))
        low = place.astype(np.int32)
        np.minimum(low, len(curve), out=low)
        laid: NDArray[np.float32] = padded[low]
        laid += (place - low) * (padded[low + 1] - laid)
        return laid.astype(np.float32, copy=False)

    def gaussian(self, sigma_um: float) -> NDArray[np.float32]:
        """Return the transform of a Gaussian of unit sum and standard deviation `sigma_um`."""
        exponent = self.radius * self.radius * np.float32(-2 * (np.pi * sigma_um) ** 2)
        return np.asarray(np.exp(exponent, out=exponent), dtype=np.float32)


def _pupil_phase(
    radius: NDArray[np.float64], dz_um: float, index: float, wavelength: float, aperture: float
) -> NDArray[np.float64]:
    """Return the defocus phase in radians, less its value on the axis."""
    axial = np.sqrt(np.maximum((index / wavelength) ** 2 - radius**2, 0.0))
    return np.asarray(2 * np.pi * dz_um * (axial - index / wavelength))


def _average(
    dz_um: float,
    *,
    source_aperture: float,
    aperture: float,
    index: float,
    wavelength: float,
    spherical_waves: float,
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Return cutoff and ``<P(s+k) exp(i (W(s+k) - W(s)))>`` (cosine, sine) over the source."""
    edge, source_edge = aperture / wavelength, source_aperture / wavelength
    cutoff = edge + source_edge
    # The source is even in y, so half of it is enough: the axis counts once, the rest twice.
    across = np.linspace(-source_edge, source_edge, _SOURCE_POINTS)
    sx, sy = (a.ravel() for a in np.meshgrid(across, across[_SOURCE_POINTS // 2 :]))
    inside = np.hypot(sx, sy) <= source_edge * (1 + 1e-9)
    sx, sy = sx[inside], sy[inside]
    weight = np.where(sy > 0, 2.0, 1.0)
    weight /= weight.sum()

    def phase(radius: NDArray[np.float64]) -> NDArray[np.float64]:
        spherical = 2 * np.pi * spherical_waves * (radius / edge) ** 4
        return _pupil_phase(radius, dz_um, index, wavelength, aperture) + spherical

    k = np.linspace(0.0, cutoff, _RADIAL_POINTS)
    scattered = np.hypot(sx[None, :] + k[:, None], sy[None, :])
    passed = weight * (scattered <= edge * (1 + 1e-9))
    difference = phase(scattered) - phase(np.hypot(sx, sy))
    return cutoff, (passed * np.cos(difference)).sum(1), (passed * np.sin(difference)).sum(1)


def weak_object_transfer(
    optics: Optics, dz_um: float
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Return the brightfield transfer functions of a slice `dz_um` above the focal plane.

    Parameters
    ----------
    optics : Optics
        The microscope.
    dz_um : float
        Height of the slice above the plane in focus, in micrometres.

    Returns
    -------
    cutoff : float
        Highest spatial frequency, in cycles per micrometre.
    phase : array of float64, (n,)
        Relative intensity per radian of phase, at n frequencies evenly from 0 to the cutoff.
    absorption : array of float64, (n,)
        Relative intensity per neper of amplitude absorption, likewise.
    """
    cutoff, cosine, sine = _average(
        dz_um,
        source_aperture=optics.condenser_aperture,
        aperture=optics.numerical_aperture,
        index=optics.refractive_index,
        wavelength=optics.brightfield_wavelength_um,
        spherical_waves=optics.spherical_aberration_waves,
    )
    return cutoff, -2 * sine, -2 * cosine


def fluorescence_transfer(optics: Optics, dz_um: float) -> tuple[float, NDArray[np.float64]]:
    """Return the incoherent transfer function (1 at frequency 0) of a slice `dz_um` out of focus.

    Returns
    -------
    cutoff : float
        Highest spatial frequency, in cycles per micrometre.
    transfer : array of float64, (n,)
        At n frequencies evenly from 0 to the cutoff.
    """
    cutoff, cosine, _ = _average(
        dz_um,
        source_aperture=optics.numerical_aperture,
        aperture=optics.numerical_aperture,
        index=optics.refractive_index,
        wavelength=optics.emission_wavelength_um,
        spherical_waves=0.0,
    )
    return cutoff, cosine
