"""The simulated dish: what a microscope would see of it at a time, a focus and a stage position."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

from livestain.simulate.optics import Optics, fluorescence_transfer, weak_object_transfer
from livestain.simulate.sensor import Sensor
from livestain.simulate.volume import MOVING_SLICES, SLICES, Cache, Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Dish"]

_ABSORPTION = 0.06
"""Amplitude absorption per radian of phase: light that organelles scatter out of the aperture."""

_AUTOFLUORESCENCE = 0.03
"""Photo-electrons per pixel and millisecond of a micrometre of cell, whatever its label."""

_GLOW = 0.02
"""Photo-electrons per pixel and millisecond of medium, glass and stray light."""


class Dish:
    """A seeded dish of living cells: the same arguments give the same pixels, in any order.

    Cells with a body, a nucleus with nucleoli, a moving network of mitochondria (tubes of 0.3 to
    0.8 um, with fission and fusion), and look-alikes: lipid droplets, vesicles, granules, stress
    fibres, floating debris. The optics are in `livestain.simulate.optics`.

    Transfer functions, what does not move, and the last few volumes are cached: the planes of one
    stack share a volume. Safe to use from several threads.

    Parameters
    ----------
    seed : int
        Which dish, 0 or greater.
    shape : (int, int)
        Size (y, x) of the camera frame in pixels.
    pixel_size_um : float
        Side of a pixel in the sample, in micrometres.
    optics, sensor
        The microscope and its camera.

    Examples
    --------
    >>> from livestain.simulate import Dish
    >>> dish = Dish(7, shape=(128, 128))
    >>> frame = dish.brightfield(time_s=20.0, z_um=0.5, exposure_ms=10.0, frame=3)
    >>> frame.shape, frame.dtype
    ((128, 128), dtype('uint16'))
    """

    brightfield_electrons_per_ms = 500.0
    """Photo-electrons per pixel and millisecond where nothing is in the light's way."""

    fluorescence_electrons_per_ms = 6.0
    """Photo-electrons per pixel and millisecond of a micrometre of labelled matrix."""

    def __init__(
        self,
        seed: int = 0,
        *,
        shape: tuple[int, int] = (256, 256),
        pixel_size_um: float = 0.1,
        optics: Optics | None = None,
        sensor: Sensor | None = None,
    ) -> None:
        if seed < 0:
            raise ValueError(f"A dish's seed is 0 or greater; given {seed}.")
        if min(shape) < 16:
            raise ValueError(f"A frame has at least 16 x 16 pixels; given {shape}.")
        if not pixel_size_um > 0:
            raise ValueError(f"A pixel size is positive, in micrometres; given {pixel_size_um}.")
        self.seed = seed
        self.shape = (int(shape[0]), int(shape[1]))
        self.pixel_size_um = float(pixel_size_um)
        self.optics = optics if optics is not None else Optics()
        self.sensor = sensor if sensor is not None else Sensor()
        self._volume = Volume(seed, self.shape, self.pixel_size_um)
        self._lamp = self._illumination()
        self._lock = threading.RLock()
        self._transfers: Cache[NDArray[np.float32]] = Cache(24)
        self._stills: Cache[NDArray[np.complex64]] = Cache(12)

    # ---------------------------------------------------------------- frames

    def brightfield(
        self,
        time_s: float = 0.0,
        z_um: float = 0.0,
        xy_um: tuple[float, float] = (0.0, 0.0),
        *,
        exposure_ms: float = 10.0,
        frame: int = 0,
    ) -> NDArray[np.uint16]:
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

        Returns
        -------
        array of uint16, (y, x)
            Counts.
        """
        electrons = self.transmission(time_s, z_um, xy_um) * self._lamp
        electrons *= np.float32(self.brightfield_electrons_per_ms * exposure_ms)
        return self.sensor.expose(electrons, np.random.default_rng([self.seed, 0, frame]))

    def fluorescence(
        self,
        time_s: float = 0.0,
        z_um: float = 0.0,
        xy_um: tuple[float, float] = (0.0, 0.0),
        *,
        exposure_ms: float = 100.0,
        frame: int = 0,
    ) -> NDArray[np.uint16]:
        """Return a widefield fluorescence frame: the truth, autofluorescence and the camera's noise.

        Parameters and result are those of `brightfield`.
        """
        xy_um = _pair(xy_um)
        with self._lock:
            cover = self._volume.field(xy_um).cover
        electrons = self._volume.crop(cover) * np.float32(_AUTOFLUORESCENCE) + np.float32(_GLOW)
        electrons += self.truth(time_s, z_um, xy_um)
        electrons *= np.float32(exposure_ms)
        return self.sensor.expose(electrons, np.random.default_rng([self.seed, 1, frame]))

    def dark(self, *, frame: int = 0) -> NDArray[np.uint16]:
        """Return a frame without light, (y, x) uint16."""
        nothing = np.zeros(self.shape, np.float32)
        return self.sensor.expose(nothing, np.random.default_rng([self.seed, 3, frame]))

    def truth(
        self, time_s: float = 0.0, z_um: float = 0.0, xy_um: tuple[float, float] = (0.0, 0.0)
    ) -> NDArray[np.float32]:
        """Return the mitochondria's fluorescence in the focal plane, blur included, noise-free.

        Returns
        -------
        array of float32, (y, x)
            Expected photo-electrons per millisecond.
        """
        time_s, z_um, xy_um = float(time_s), float(z_um), _pair(xy_um)
        with self._lock:
            labels = self._volume.moving("label", time_s, xy_um)
            transfer = self._transfers.get((1, z_um), lambda: self._fluorescence_transfers(z_um))
            image = self._volume.image(np.einsum("zyx,zyx->yx", labels, transfer))
        # The blur's tails cannot sum to less than nothing, but rounding can.
        image *= np.float32(self.fluorescence_electrons_per_ms)
        return np.maximum(image, np.float32(0), dtype=np.float32)

    def transmission(
        self, time_s: float = 0.0, z_um: float = 0.0, xy_um: tuple[float, float] = (0.0, 0.0)
    ) -> NDArray[np.float32]:
        """Return the noise-free brightfield image relative to the empty field, (y, x) float32."""
        time_s, z_um, xy_um = float(time_s), float(z_um), _pair(xy_um)
        with self._lock:
            transfer = self._transfers.get((0, z_um), lambda: self._brightfield_transfers(z_um))
            still = self._stills.get(
                (z_um, xy_um),
                lambda: np.einsum("zyx,zyx->yx", self._volume.field(xy_um).spectrum, transfer),
            )
            moving = self._volume.moving("path", time_s, xy_um)
            spectrum = still + np.einsum("zyx,zyx->yx", moving, transfer[:MOVING_SLICES])
            image = 1 + self._volume.image(spectrum)
        # Where the object is not weak the linear model undershoots; light is never negative.
        return np.maximum(image, np.float32(0.05))

    # ---------------------------------------------------------------- optics

    def _brightfield_transfers(self, z_um: float) -> NDArray[np.float32]:
        """Return image per optical path (um) of every slice, (slice, ky, kx)."""
        wave = 2 * np.pi / self.optics.brightfield_wavelength_um
        laid = np.empty((SLICES, *self._volume.grid.radius.shape), np.float32)
        for n, z in enumerate(self._volume.z_um):
            dz = float(z) - (z_um - self.optics.brightfield_offset_um)
            cutoff, phase, absorption = weak_object_transfer(self.optics, dz)
            laid[n] = self._volume.grid.lay(cutoff, wave * (phase + _ABSORPTION * absorption))
        return laid

    def _fluorescence_transfers(self, z_um: float) -> NDArray[np.float32]:
        laid = np.empty((MOVING_SLICES, *self._volume.grid.radius.shape), np.float32)
        for n, z in enumerate(self._volume.z_um[:MOVING_SLICES]):
            laid[n] = self._volume.grid.lay(*fluorescence_transfer(self.optics, float(z) - z_um))
        return laid

    def _illumination(self) -> NDArray[np.float32]:
        """Return the lamp's brightness over the camera: a slope and a fall-off of a few per cent."""
        rng = np.random.default_rng([self.seed, 2])
        y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in self.shape)
        slope = rng.uniform(-0.03, 0.03, 2).astype(np.float32)
        field = 1 + slope[0] * y[:, None] + slope[1] * x[None, :]
        return np.asarray(field - 0.03 * (y[:, None] ** 2 + x[None, :] ** 2), dtype=np.float32)


def _pair(xy_um: tuple[float, float]) -> tuple[float, float]:
    """Return plain floats, which are what the caches compare."""
    return float(xy_um[0]), float(xy_um[1])
