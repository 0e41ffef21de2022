"""Transfer functions of a transmitted-light and a fluorescence microscope, from one pupil.

Transmitted light: the weak-object transfer function of a partially coherent microscope, slice by slice.
For a slice with phase ``p`` and absorption ``a`` at a distance ``dz`` from the focal plane, a source
point of spatial frequency ``s`` sends its light along ``s`` and, scattered by the object's frequency
``k``, along ``s + k``; their interference, summed over the condenser's aperture, is the image's
frequency ``k``::

    I(k) / I0 = i [T(k) - T*(-k)] p(k) - [T(k) + T*(-k)] a(k),   T(k) = <P*(s) P(s+k)> / <|P(s)|^2>

with ``P`` the objective's pupil, whose phase is ``W(s) = 2 pi dz sqrt((n/wavelength)^2 - s^2)`` plus
aberrations. `Optics.contrast` says what else is in the way:

- ``brightfield``: nothing, so ``-2 <sin(W(s+k) - W(s))> p - 2 <cos(W(s+k) - W(s))> a``. A phase is
  unseen in focus, and has opposite signs above and below.
- ``phase``: the condenser has an annulus, and the objective a ring that covers its image, dims it, and
  advances it by a quarter of a wave. The halo is light that the object scattered into the ring.
- ``dic``: two images a shear apart are subtracted. The prisms of condenser and objective fit each other, so
  the shear acts on the object's frequency ``k`` alone, whatever the source point:
  ``T(k) sin(pi k.shear + bias/2) / sin(bias/2)``.

The first order in ``p`` and ``a`` is all that is kept: what that leaves out is in
docs/decisions/0021-optics.md. So are obliquity factors and polarisation.

- N. Streibl, "Three-dimensional imaging by a microscope", J. Opt. Soc. Am. A 2:121 (1985),
  doi 10.1364/JOSAA.2.000121.
- M. H. Jenkins, T. K. Gaylord, "Quantitative phase microscopy via optimized inversion of the phase
  optical transfer function", Appl. Opt. 54:8566 (2015), doi 10.1364/AO.54.008566.
- J. M. Soto, J. A. Rodrigo, T. Alieva, "Label-free quantitative 3D tomographic imaging for
  partially coherent light microscopy", Opt. Express 25:15699 (2017), doi 10.1364/OE.25.015699.
- F. Zernike, "Phase contrast, a new method for the microscopic observation of transparent objects",
  Physica 9:686 (1942), doi 10.1016/S0031-8914(42)80035-X.
- S. B. Mehta, C. J. R. Sheppard, "Partially coherent image formation in differential interference
  contrast (DIC) microscope", Opt. Express 16:19462 (2008), doi 10.1364/OE.16.019462.

Fluorescence: the defocused incoherent transfer function is the same average with the objective's
pupil as the source (H. H. Hopkins, Proc. R. Soc. A 231:91 (1955); P. A. Stokseth, J. Opt. Soc. Am.
59:1314 (1969)).

A medium that the objective was not made for: S. F. Gibson, F. Lanni, J. Opt. Soc. Am. A 9:154 (1992),
doi 10.1364/JOSAA.9.000154, less the shift of the focus, which whoever focuses takes out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from pydantic import Field, model_validator

from livestain.settings import FiniteSettings
from livestain.simulate.grid import RadialGrid
from livestain.simulate.pupil import Disc, Source, source_average

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Contrast",
    "Optics",
    "RadialGrid",
    "Shear",
    "Transfer",
    "fluorescence_transfer",
    "transmitted_transfer",
    "weak_object_transfer",
]

Contrast: TypeAlias = Literal["brightfield", "phase", "dic"]

_RADIAL_POINTS = 257
"""Spatial frequencies at which a radial transfer function is computed."""

_RING_MARGIN = 0.15
"""How far the objective's ring reaches beyond the annulus' image on either side, in widths of the annulus."""


class Optics(FiniteSettings):
    """The objective, the condenser, the contrast and the wavelengths."""

    contrast: Contrast = "brightfield"
    """How transmitted light is turned into contrast: `brightfield`, `phase` or `dic`."""

    numerical_aperture: float = Field(default=1.2, gt=0)
    """Numerical aperture of the objective."""

    condenser_aperture: float = Field(default=0.55, gt=0)
    """Numerical aperture of the condenser, at most the objective's. Phase contrast has `ring_radius`."""

    refractive_index: float = Field(default=1.333, gt=1)
    """Refractive index of the immersion, and of the medium where `medium_index` says nothing."""

    medium_index: float | None = Field(default=None, gt=1)
    """Refractive index of the medium where it is not the immersion's (1.515 for oil). Apertures beyond
    it are cut off by total reflection, and depth brings spherical aberration."""

    medium_depth_um: float = Field(default=2.0, ge=0)
    """Depth of the focal plane in the medium, beyond the coverslip, in micrometres; where `medium_index`
    differs."""

    brightfield_wavelength_um: float = Field(default=0.55, gt=0)
    """Wavelength of the transmitted light in vacuum, in micrometres."""

    emission_wavelength_um: float = Field(default=0.525, gt=0)
    """Wavelength of the fluorescence in vacuum, in micrometres."""

    dna_emission_wavelength_um: float = Field(default=0.46, gt=0)
    """Wavelength of the DNA label's fluorescence in vacuum, in micrometres (Hoechst, DAPI)."""

    brightfield_offset_um: float = 0.5
    """Where the transmitted-light focus lies below the fluorescence focus, in micrometres: what is
    sharp in fluorescence is seen slightly out of focus in brightfield, as users set it for contrast."""

    spherical_aberration_waves: float = 0.08
    """Primary spherical aberration at the pupil's edge, in waves of the transmitted light."""

    ring_radius: float = Field(default=0.4, gt=0, lt=1)
    """Phase contrast: radius of the middle of the annulus, in radii of the objective's pupil."""

    ring_width: float = Field(default=0.08, gt=0, lt=1)
    """Phase contrast: width of the annulus, in radii of the objective's pupil."""

    ring_transmittance: float = Field(default=0.25, gt=0, le=1)
    """Phase contrast: share of the light's intensity that the objective's ring lets through."""

    ring_waves: float = Field(default=0.25, ge=-0.5, le=0.5)
    """Phase contrast: how far the ring advances the direct light, in waves. A quarter shows what is
    optically thick dark ("positive" contrast); minus a quarter shows it bright."""

    shear_um: float = Field(default=0.2, gt=0)
    """DIC: distance between the two images in the sample, in micrometres."""

    shear_degrees: float = 45.0
    """DIC: direction of the shear, counted from x towards y. What rises in that direction is bright."""

    bias_waves: float = Field(default=0.25, ge=0.05, le=0.5)
    """DIC: retardation between the two images, in waves. Less than 0.05 is nearly dark, and an image
    that no weak-object model describes; 0.5 is bright and shows no phase."""

    @model_validator(mode="after")
    def _apertures_fit(self) -> Optics:
        if self.numerical_aperture >= self.refractive_index:
            raise ValueError("numerical_aperture must be below refractive_index")
        if self.condenser_aperture > self.numerical_aperture:
            raise ValueError("condenser_aperture is at most numerical_aperture")
        reach = (0.5 + _RING_MARGIN) * self.ring_width
        if not reach < self.ring_radius < 1 - reach:
            raise ValueError(
                "ring_radius and ring_width must leave some pupil on both sides of the ring"
            )
        return self

    @property
    def medium(self) -> float:
        """Refractive index of the medium."""
        return self.refractive_index if self.medium_index is None else self.medium_index

    @property
    def working_aperture(self) -> float:
        """The aperture that light from the medium can have: beyond, it is totally reflected."""
        return min(self.numerical_aperture, self.medium)

    @property
    def shear(self) -> Shear | None:
        """DIC's shear and gain; None for other contrasts."""
        if self.contrast != "dic":
            return None
        angle = np.deg2rad(self.shear_degrees)
        x_um, y_um = float(self.shear_um * np.cos(angle)), float(self.shear_um * np.sin(angle))
        return Shear(x_um, y_um, float(1 / np.tan(np.pi * self.bias_waves)))


@dataclass(frozen=True, slots=True)
class Shear:
    """DIC's two images: the same for every slice, so it can act once on the sum of all.

    Attributes
    ----------
    x_um, y_um : float
        From the one that is subtracted to the other, in the sample.
    gain : float
        Relative intensity per radian of phase between the two: the cotangent of half the bias.
    """

    x_um: float
    y_um: float
    gain: float

    def on(self, grid: RadialGrid) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return what the mean of the two images and their difference are multiplied by, (ky, kx).

        With radial curves ``P`` and ``A`` for phase ``p`` and absorption ``a``, the image's spectrum is
        ``mean (P p + A a) + 1j difference (P a - A p)``.
        """
        turn = np.float32(np.pi * self.x_um) * grid.kx[None, :]
        turn = turn + np.float32(np.pi * self.y_um) * grid.ky[:, None]
        return np.cos(turn), np.float32(self.gain) * np.sin(turn)


@dataclass(frozen=True, slots=True)
class Transfer:
    """What one slice adds to the transmitted-light image: two radial curves, and DIC's shear.

    Attributes
    ----------
    cutoff : float
        Highest spatial frequency, in cycles per micrometre.
    phase, absorption : array of float64, (n,)
        Relative intensity per radian of phase and per neper of amplitude absorption, at n frequencies
        evenly from 0 to the cutoff, before the shear.
    shear : Shear or None
        None for contrasts other than DIC.
    """

    cutoff: float
    phase: NDArray[np.float64]
    absorption: NDArray[np.float64]
    shear: Shear | None = None

    def on(
        self, grid: RadialGrid
    ) -> tuple[NDArray[np.float32 | np.complex64], NDArray[np.float32 | np.complex64]]:
        """Return (phase, absorption) on a grid, (ky, kx): float32, or complex64 for DIC."""
        phase = grid.lay(self.cutoff, self.phase)
        absorption = grid.lay(self.cutoff, self.absorption)
        if self.shear is None:
            return phase, absorption
        mean, difference = self.shear.on(grid)
        turned = np.complex64(1j) * difference
        return mean * phase - turned * absorption, mean * absorption + turned * phase


def transmitted_transfer(optics: Optics, dz_um: float) -> Transfer:
    """Return the transfer of a slice `dz_um` above the focal plane, in the microscope's own contrast.

    Parameters
    ----------
    optics : Optics
        The microscope.
    dz_um : float
        Height of the slice above the plane in focus, in micrometres.

    Returns
    -------
    Transfer

    Examples
    --------
    >>> from livestain.simulate.optics import Optics, RadialGrid, transmitted_transfer
    >>> grid = RadialGrid((64, 64), 0.1)
    >>> phase, absorption = transmitted_transfer(Optics(contrast="dic"), 0.3).on(grid)
    >>> phase.shape, phase.dtype
    ((64, 33), dtype('complex64'))
    """
    return Transfer(*weak_object_transfer(optics, dz_um), optics.shear)


def weak_object_transfer(
    optics: Optics, dz_um: float
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Return the radial transfer functions of a slice `dz_um` above the focal plane.

    All there is of brightfield and phase contrast; of DIC what `Shear.on` turns into the image.

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
    wavelength = optics.brightfield_wavelength_um
    edge, whole = optics.working_aperture / wavelength, optics.numerical_aperture / wavelength
    pupil, direct = [Disc(edge)], 1.0 + 0.0j
    if optics.contrast == "phase":
        # The ring is the objective's own, so it goes with the objective's aperture, whatever the medium.
        half = optics.ring_width / 2
        source = Source(whole * (optics.ring_radius + half), whole * (optics.ring_radius - half))
        reach = half + _RING_MARGIN * optics.ring_width
        # A longer way is a phase of plus; so what is advanced has one of minus.
        direct = np.sqrt(optics.ring_transmittance) * np.exp(-2j * np.pi * optics.ring_waves)
        pupil += [
            Disc(whole * (optics.ring_radius + reach), direct - 1),
            Disc(whole * (optics.ring_radius - reach), 1 - direct),
        ]
    else:
        source = Source(min(optics.condenser_aperture, optics.working_aperture) / wavelength)
    cutoff = edge + source.outer

    def phase(squared: NDArray[np.float64]) -> NDArray[np.float64]:
        spherical = 2 * np.pi * optics.spherical_aberration_waves * (squared / whole**2) ** 2
        return _pupil_phase(squared, optics, dz_um, wavelength) + spherical

    transfer = source_average(cutoff, _RADIAL_POINTS, source, pupil, phase) / direct
    return cutoff, -2 * transfer.imag, -2 * transfer.real


def fluorescence_transfer(
    optics: Optics, dz_um: float, wavelength_um: float | None = None
) -> tuple[float, NDArray[np.float64]]:
    """Return the incoherent transfer function (1 at frequency 0) of a slice `dz_um` out of focus.

    Parameters
    ----------
    optics : Optics
        The microscope.
    dz_um : float
        Height of the slice above the plane in focus, in micrometres.
    wavelength_um : float, optional
        Wavelength of the fluorescence; `optics.emission_wavelength_um` if not given.

    Returns
    -------
    cutoff : float
        Highest spatial frequency, in cycles per micrometre.
    transfer : array of float64, (n,)
        At n frequencies evenly from 0 to the cutoff.
    """
    wavelength = optics.emission_wavelength_um if wavelength_um is None else wavelength_um
    edge = optics.working_aperture / wavelength

    def phase(squared: NDArray[np.float64]) -> NDArray[np.float64]:
        return _pupil_phase(squared, optics, dz_um, wavelength)

    transfer = source_average(2 * edge, _RADIAL_POINTS, Source(edge), [Disc(edge)], phase)
    return 2 * edge, transfer.real


def _pupil_phase(
    squared: NDArray[np.float64], optics: Optics, dz_um: float, wavelength: float
) -> NDArray[np.float64]:
    """Return the phase in radians, less its value on the axis, of defocus and of the medium's depth.

    By the square of the radius in the pupil, (cycles per micrometre)^2.
    """

    def axial(index: float) -> NDArray[np.float64]:
        whole = index / wavelength
        return np.asarray(np.sqrt(np.maximum(whole**2 - squared, 0.0)) - whole)

    way = dz_um * axial(optics.medium)
    if optics.medium != optics.refractive_index:
        # The objective moved by depth x immersion / medium, where paraxial light is in focus again.
        moved = optics.refractive_index / optics.medium * axial(optics.refractive_index)
        way += optics.medium_depth_um * (axial(optics.medium) - moved)
    return np.asarray(2 * np.pi * way)
