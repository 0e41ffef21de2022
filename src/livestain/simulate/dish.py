"""The simulated dish: what a microscope would see of it at a time, a focus and a stage position."""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from livestain.simulate.grid import RadialGrid
from livestain.simulate.mitochondria import NetworkNumbers
from livestain.simulate.profiles import DEFAULT_PROFILE, Profile, find_profile
from livestain.simulate.volume import Cache, PointTransfer, Seen, Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from livestain.simulate.optics import Optics
    from livestain.simulate.sensor import Sensor

    Light: TypeAlias = float | NDArray[np.float32]
    """One number, or one a pixel (y, x)."""

__all__ = ["Dish", "Label"]

_NOISE = 0x401535
"""Stream of random numbers of the camera and the lamp; cells have others."""

_CACHE_BYTES = 400_000_000
"""Room for transfer functions, and again for what does not move."""

Label: TypeAlias = Literal["mitochondria", "dna"]
"""What fluoresces."""


class Dish:
    """A seeded dish of living cells: the same arguments give the same pixels, in any order.

    Cells with a body, a nucleus with nucleoli, a moving network of mitochondria (tubes of 0.3 to
    0.8 um, with fission and fusion), and look-alikes: lipid droplets, vesicles, granules, stress
    fibres, floating debris. The optics are in `livestain.simulate.optics`.

    Fast by what is kept: what does not move is an image once per focus and position; the transfer functions
    of all heights are compressed into a few curves once per focus (see `PointTransfer`); the planes of one
    stack share their bodies. So a new time point costs a few Fourier transforms, a repeated one the noise.
    Safe to use from several threads. Only the nearest 3 to 6 um around the frame are computed: light of what
    lies farther outside, out of focus by more than 2.5 um, is missing at its edges.

    Parameters
    ----------
    seed : int
        Which dish, 0 or greater.
    profile : str or Profile
        Cells and microscope; see `find_profile`.
    shape : (int, int)
        Size (y, x) of the camera frame in pixels.
    pixel_size_um : float, optional
        Side of a pixel in the sample, in micrometres; None takes the profile's.
    optics, sensor
        The microscope and its camera in place of the profile's.

    Examples
    --------
    >>> from livestain.simulate import Dish
    >>> dish = Dish(7, shape=(128, 128))
    >>> frame = dish.brightfield(time_s=20.0, z_um=0.5, exposure_ms=10.0, frame=3)
    >>> frame.shape, frame.dtype
    ((128, 128), dtype('uint16'))
    """

    def __init__(
        self,
        seed: int = 0,
        profile: str | Profile = DEFAULT_PROFILE,
        *,
        shape: tuple[int, int] = (256, 256),
        pixel_size_um: float | None = None,
        optics: Optics | None = None,
        sensor: Sensor | None = None,
    ) -> None:
        if not isinstance(profile, Profile):
            profile = find_profile(profile)
        if seed < 0:
            raise ValueError(f"A dish's seed is 0 or greater; given {seed}.")
        if min(shape) < 16:
            raise ValueError(f"A frame has at least 16 x 16 pixels; given {shape}.")
        if pixel_size_um is not None and not pixel_size_um > 0:
            raise ValueError(f"A pixel size is positive, in micrometres; given {pixel_size_um}.")
        self.seed = seed
        self.profile = profile
        self.shape = (int(shape[0]), int(shape[1]))
        self.pixel_size_um = float(
            profile.pixel_size_um if pixel_size_um is None else pixel_size_um
        )
        self.optics = optics if optics is not None else profile.optics
        self.sensor = sensor if sensor is not None else profile.sensor
        sine = min(self.optics.working_aperture / self.optics.medium, 0.95)
        slope = sine / math.sqrt(1 - sine * sine)
        self._volume = Volume(seed, profile.cells, self.shape, self.pixel_size_um, slope)
        self._lamp = self._illumination()
        self._lock = threading.RLock()
        # A stack's planes need a transfer function each way and a still image each, a few tens in all.
        room = _CACHE_BYTES // self._volume.plane_bytes
        self._transfers: Cache[PointTransfer] = Cache(max(4, min(96, room // 12)))
        self._stills: Cache[NDArray[np.complex64]] = Cache(max(4, min(96, room // 4)))
        self._images: Cache[NDArray[np.float32]] = Cache(8)

    # ---------------------------------------------------------------- frames

    def brightfield(
        self,
        time_s: float = 0.0,
        z_um: float = 0.0,
        xy_um: tuple[float, float] = (0.0, 0.0),
        *,
        exposure_ms: float = 10.0,
        frame: int = 0,
        lamp: Light = 1.0,
        binning: int = 1,
    ) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Return a transmitted-light frame with the camera's noise.

        Parameters
        ----------
        time_s : float
            Age of the dish in seconds.
        z_um : float
            Height of the focal plane; the mitochondria lie around 0.
        xy_um : (float, float)
            Stage position (x, y): the centre of the frame, in micrometres.
        exposure_ms : float
            Exposure in milliseconds.
        frame : int
            Number of the frame, 0 or greater; seeds the noise.
        lamp : float or array of float32, (y, x)
            Brightness of the lamp beside its usual one.
        binning : int
            Pixels a side that are read as one.

        Returns
        -------
        array of uint16 or uint8, (y, x)
            Counts; the type is the sensor's.
        """
        electrons = self.transmission(time_s, z_um, xy_um) * self._lamp
        electrons *= np.float32(self.profile.brightfield_electrons_per_ms * exposure_ms)
        electrons *= np.asarray(lamp, np.float32)
        return self._expose(electrons, 0, frame, exposure_ms, binning)

    def fluorescence(
        self,
        time_s: float = 0.0,
        z_um: float = 0.0,
        xy_um: tuple[float, float] = (0.0, 0.0),
        *,
        exposure_ms: float = 100.0,
        frame: int = 0,
        label: Label = "mitochondria",
        lamp: Light = 1.0,
        unbleached: Light = 1.0,
        binning: int = 1,
    ) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Return a widefield fluorescence frame: the truth, autofluorescence and the camera's noise.

        Parameters and result are those of `brightfield`, and:

        Parameters
        ----------
        label : "mitochondria" or "dna"
            What is excited.
        unbleached : float or array of float32, (y, x)
            Share of the label that still shines; the cells' own fluorescence bleaches with it.
        """
        xy_um = _pair(xy_um)
        with self._lock:
            cover = self._volume.crop(self._volume.field(xy_um).cover)
        electrons = cover * np.float32(self.profile.autofluorescence)
        electrons += self.truth(time_s, z_um, xy_um, label)
        electrons *= np.asarray(unbleached, np.float32)
        electrons += np.float32(self.profile.glow)
        electrons *= np.float32(exposure_ms)
        electrons *= np.asarray(lamp, np.float32)
        return self._expose(
            electrons, 1 if label == "mitochondria" else 4, frame, exposure_ms, binning
        )

    def dark(
        self, *, exposure_ms: float = 10.0, frame: int = 0, binning: int = 1
    ) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Return a frame without light; the result is that of `brightfield`."""
        return self._expose(np.zeros(self.shape, np.float32), 3, frame, exposure_ms, binning)

    def _expose(
        self,
        electrons: NDArray[np.float32],
        kind: int,
        frame: int,
        exposure_ms: float,
        binning: int,
    ) -> NDArray[np.uint8] | NDArray[np.uint16]:
        rng = np.random.default_rng([self.seed, _NOISE, kind, frame])
        return self.sensor.expose(electrons, rng, exposure_ms=exposure_ms, binning=binning)

    # ----------------------------------------------------------------- truth

    def truth(
        self,
        time_s: float = 0.0,
        z_um: float = 0.0,
        xy_um: tuple[float, float] = (0.0, 0.0),
        label: Label = "mitochondria",
    ) -> NDArray[np.float32]:
        """Return a label's fluorescence in the focal plane, blur included, noise-free and unbleached.

        Returns
        -------
        array of float32, (y, x)
            Expected photo-electrons per millisecond.
        """
        time_s, z_um, xy_um = float(time_s), float(z_um), _pair(xy_um)
        if label == "dna":
            time_s = 0.0  # the nucleus stays
        with self._lock:
            image = self._images.get(
                (label, time_s, z_um, xy_um), lambda: self._label_image(label, time_s, z_um, xy_um)
            )
        return image.copy()

    def _label_image(
        self, label: Label, time_s: float, z_um: float, xy_um: tuple[float, float]
    ) -> NDArray[np.float32]:
        volume, dna = self._volume, label == "dna"
        seen = Seen("label")
        if dna:
            seen = Seen("label", still=True, wavelength_um=self.optics.dna_emission_wavelength_um)
        points = volume.still("label", xy_um) if dna else volume.moving("label", time_s, xy_um)
        transfer = self._transfers.get(
            (label, z_um),
            lambda: volume.transfer(self.optics, z_um, seen),
        )
        image = volume.image(volume.spectrum(points, transfer))
        profile = self.profile
        image = image * np.float32(
            profile.dna_electrons_per_ms if dna else profile.fluorescence_electrons_per_ms
        )
        # The blur's tails cannot sum to less than nothing, but rounding can.
        return np.maximum(image, np.float32(0), dtype=np.float32)

    def mask(
        self,
        time_s: float = 0.0,
        z_um: float = 0.0,
        xy_um: tuple[float, float] = (0.0, 0.0),
        *,
        depth_um: float | None = None,
    ) -> NDArray[np.bool_]:
        """Return which pixels mitochondria cover that reach into the plane in focus.

        Parameters
        ----------
        time_s, z_um, xy_um
            As in `brightfield`.
        depth_um : float, optional
            Thickness of the plane in micrometres; None takes the depth of field, the medium's refractive
            index times the wavelength by the squared aperture.

        Returns
        -------
        array of bool, (y, x)
            True within the true outline of a tube: no blur, no threshold.
        """
        optics = self.optics
        if depth_um is None:
            depth_um = optics.medium * optics.emission_wavelength_um / optics.working_aperture**2
        xy_um = _pair(xy_um)
        with self._lock:
            parts = [c.outline(float(time_s)) for c in self._volume.field(xy_um).cells]
        xs, ys = self._volume.axes(xy_um)
        mask = np.zeros(self.shape, np.bool_)
        if not parts:
            return mask
        x, y, z, radius = (np.concatenate(a) for a in zip(*parts, strict=True))
        # A tube that the plane only grazes is seen at the width that it has there.
        away = np.maximum(np.abs(z - z_um) - depth_um / 2, 0.0)
        keep = away < radius
        x, y = (x[keep] - xs[0]) / self.pixel_size_um, (y[keep] - ys[0]) / self.pixel_size_um
        radius = np.sqrt(radius[keep] ** 2 - away[keep] ** 2) / self.pixel_size_um
        widest = int(np.ceil(radius.max(initial=0.0))) + 1
        xi, yi = np.rint(x).astype(np.intp), np.rint(y).astype(np.intp)
        for oy in range(-widest, widest + 1):
            for ox in range(-widest, widest + 1):
                px, py = xi + ox, yi + oy
                hit = np.hypot(px - x, py - y) <= np.maximum(radius, 0.5)
                hit &= (px >= 0) & (py >= 0) & (px < self.shape[1]) & (py < self.shape[0])
                mask[py[hit], px[hit]] = True
        return mask

    def network(
        self, time_s: float = 0.0, xy_um: tuple[float, float] = (0.0, 0.0)
    ) -> NetworkNumbers:
        """Return length (um) and number of the mitochondria in the field of view, at all heights."""
        xy_um = _pair(xy_um)
        xs, ys = self._volume.axes(xy_um)

        def inside(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
            return np.asarray((x >= xs[0]) & (x <= xs[-1]) & (y >= ys[0]) & (y <= ys[-1]))

        with self._lock:
            cells = self._volume.field(xy_um).cells
            numbers = [cell.numbers(float(time_s), inside) for cell in cells]
        return NetworkNumbers(sum(n.length_um for n in numbers), sum(n.number for n in numbers))

    def transmission(
        self, time_s: float = 0.0, z_um: float = 0.0, xy_um: tuple[float, float] = (0.0, 0.0)
    ) -> NDArray[np.float32]:
        """Return the noise-free brightfield image relative to the empty field, (y, x) float32."""
        time_s, z_um, xy_um = float(time_s), float(z_um), _pair(xy_um)
        with self._lock:
            image = self._images.get(
                ("brightfield", time_s, z_um, xy_um),
                lambda: self._transmission(time_s, z_um, xy_um),
            )
        return image.copy()

    def _transmission(
        self, time_s: float, z_um: float, xy_um: tuple[float, float]
    ) -> NDArray[np.float32]:
        spectrum = self._path_spectrum(time_s, z_um, xy_um, turned=False)
        shear = self.optics.shear
        if shear is not None:
            mean, difference = shear.on(self._volume.grid)
            other = self._path_spectrum(time_s, z_um, xy_um, turned=True)
            spectrum = mean * spectrum + np.complex64(1j) * difference * other
        # Where the object is not weak the linear model undershoots; light is never negative.
        return np.maximum(1 + self._volume.image(spectrum), np.float32(0.05))

    # ---------------------------------------------------------------- optics

    def _path_spectrum(
        self, time_s: float, z_um: float, xy_um: tuple[float, float], *, turned: bool
    ) -> NDArray[np.complex64]:
        """Return the spectrum of what transmitted light shows of optical paths."""
        volume = self._volume
        # The transmitted light's focus lies off the fluorescence's.
        focus = z_um - self.optics.brightfield_offset_um
        seen = Seen("path", absorption=self.profile.absorption, turned=turned)
        transfer = self._transfers.get(
            (seen, z_um), lambda: volume.transfer(self.optics, focus, seen)
        )
        still = self._stills.get((seen, z_um, xy_um), lambda: self._still(seen, focus, xy_um))
        moving = volume.spectrum(volume.moving("path", time_s, xy_um), transfer)
        return np.asarray(still + moving)

    def _still(
        self, seen: Seen, focus_um: float, xy_um: tuple[float, float]
    ) -> NDArray[np.complex64]:
        """Return the spectrum of what does not move."""
        volume, seen = self._volume, replace(seen, still=True)
        transfer = self._transfers.get(
            (seen, focus_um), lambda: volume.transfer(self.optics, focus_um, seen)
        )
        spectrum = volume.spectrum(volume.still("path", xy_um), transfer)
        # It is small bodies that scatter light out of the aperture; what fills the cell is clear.
        clear = replace(seen, absorption=0.0)
        for z, plane in volume.bulk(xy_um):
            spectrum += plane * volume.grid.lay(*clear.curve(self.optics, z - focus_um))
        return spectrum

    def _illumination(self) -> NDArray[np.float32]:
        """Return the lamp's brightness over the camera: a slope, a fall-off, and a fixed pattern."""
        profile = self.profile
        rng = np.random.default_rng([self.seed, _NOISE, 2])
        y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in self.shape)
        slope = rng.uniform(-profile.uneven, profile.uneven, 2).astype(np.float32)
        field = 1 + slope[0] * y[:, None] + slope[1] * x[None, :]
        field = field - np.float32(profile.uneven) * (y[:, None] ** 2 + x[None, :] ** 2)
        if profile.texture:
            fine, coarse = profile.texture_um
            radius = RadialGrid(self.shape, self.pixel_size_um).radius
            band = np.exp(-((radius * fine) ** 2)) - np.exp(-((radius * coarse) ** 2))
            noise = np.fft.irfft2(
                np.fft.rfft2(rng.standard_normal(self.shape)) * band, s=self.shape
            )
            field = field * (1 + profile.texture * noise / max(noise.std(), 1e-12)).astype(
                np.float32
            )
        return np.asarray(field, dtype=np.float32)


def _pair(xy_um: tuple[float, float]) -> tuple[float, float]:
    """Return plain floats, which are what the caches compare."""
    return float(xy_um[0]), float(xy_um[1])
