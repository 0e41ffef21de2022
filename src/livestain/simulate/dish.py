"""The simulated dish: what a microscope would see of it at a time, a focus and a stage position."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

import numpy as np
from scipy import fft

from livestain.simulate.cells import GLASS_UM, REACH_UM, Blobs, Cell, cells_near
from livestain.simulate.optics import (
    Optics,
    RadialGrid,
    fluorescence_transfer,
    weak_object_transfer,
)
from livestain.simulate.sensor import Sensor

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from numpy.typing import NDArray

    _Spectra: TypeAlias = NDArray[np.complex64]

__all__ = ["Dish"]

_T = TypeVar("_T")

_SLICE_UM = 0.4
"""Thickness of a slice of the volume."""

_SLICES = 11
"""Slices of the volume, from the glass upwards."""

_MOVING_SLICES = 7
"""The slices, from the glass upwards, in which organelles move; floating debris joins the uppermost."""

_SIGMAS_UM = (0.07, 0.24)
"""Two Gaussian bodies; every width between is a mixture of the two with the same variance."""

_MARGIN_UM = 3.2
"""Border simulated around a field, so that its opposite edges do not meet."""

_ABSORPTION = 0.06
"""Amplitude absorption per radian of phase: light that organelles scatter out of the aperture."""

_BODY_INDEX = 0.022
"""Refractive index of the cytoplasm above the medium's."""

_NUCLEUS_INDEX = -0.006
"""Refractive index of the nucleus above the cytoplasm's."""

_AUTOFLUORESCENCE = 0.03
"""Photo-electrons per pixel and millisecond of a micrometre of cell, whatever its label."""

_GLOW = 0.02
"""Photo-electrons per pixel and millisecond of medium, glass and stray light."""


@dataclass(frozen=True, slots=True)
class _Field:
    """What does not change at one stage position."""

    cells: list[Cell]
    spectrum: NDArray[np.complex64]  # optical path of body, nucleus, grain: (slice, ky, kx)
    cover: NDArray[np.float32]  # thickness of cells in um, for autofluorescence: (y, x), padded


class _Cache(Generic[_T]):
    """The results of the last few different calls."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: OrderedDict[Hashable, _T] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], _T]) -> _T:
        if key not in self._kept:
            self._kept[key] = make()
            if len(self._kept) > self._size:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


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
        margin = round(_MARGIN_UM / pixel_size_um)
        self._padded = tuple(fft.next_fast_len(n + 2 * margin, real=True) for n in self.shape)
        self._grid = RadialGrid((self._padded[0], self._padded[1]), pixel_size_um)
        self._bodies = [self._grid.gaussian(s) for s in _SIGMAS_UM]
        self._z = GLASS_UM + _SLICE_UM * np.arange(_SLICES)
        self._lamp = self._illumination()
        self._lock = threading.RLock()
        self._fields: _Cache[_Field] = _Cache(4)
        self._transfers: _Cache[NDArray[np.float32]] = _Cache(24)
        self._stills: _Cache[NDArray[np.complex64]] = _Cache(12)
        self._volumes: _Cache[_Spectra] = _Cache(6)

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
            cover = self._field(xy_um).cover
        electrons = self._crop(cover) * np.float32(_AUTOFLUORESCENCE) + np.float32(_GLOW)
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
            labels = self._moving("label", time_s, xy_um)
            transfer = self._transfers.get((1, z_um), lambda: self._fluorescence_transfers(z_um))
            image = self._image(np.einsum("zyx,zyx->yx", labels, transfer))
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
                lambda: np.einsum("zyx,zyx->yx", self._field(xy_um).spectrum, transfer),
            )
            moving = self._moving("path", time_s, xy_um)
            spectrum = still + np.einsum("zyx,zyx->yx", moving, transfer[:_MOVING_SLICES])
            image = 1 + self._image(spectrum)
        # Where the object is not weak the linear model undershoots; light is never negative.
        return np.maximum(image, np.float32(0.05))

    # ---------------------------------------------------------------- optics

    def _brightfield_transfers(self, z_um: float) -> NDArray[np.float32]:
        """Return image per optical path (um) of every slice, (slice, ky, kx)."""
        wave = 2 * np.pi / self.optics.brightfield_wavelength_um
        laid = np.empty((_SLICES, *self._grid.radius.shape), np.float32)
        for n, z in enumerate(self._z):
            dz = float(z) - (z_um - self.optics.brightfield_offset_um)
            cutoff, phase, absorption = weak_object_transfer(self.optics, dz)
            laid[n] = self._grid.lay(cutoff, wave * (phase + _ABSORPTION * absorption))
        return laid

    def _fluorescence_transfers(self, z_um: float) -> NDArray[np.float32]:
        laid = np.empty((_MOVING_SLICES, *self._grid.radius.shape), np.float32)
        for n, z in enumerate(self._z[:_MOVING_SLICES]):
            laid[n] = self._grid.lay(*fluorescence_transfer(self.optics, float(z) - z_um))
        return laid

    def _illumination(self) -> NDArray[np.float32]:
        """Return the lamp's brightness over the camera: a slope and a fall-off of a few per cent."""
        rng = np.random.default_rng([self.seed, 2])
        y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in self.shape)
        slope = rng.uniform(-0.03, 0.03, 2).astype(np.float32)
        field = 1 + slope[0] * y[:, None] + slope[1] * x[None, :]
        return np.asarray(field - 0.03 * (y[:, None] ** 2 + x[None, :] ** 2), dtype=np.float32)

    # --------------------------------------------------------------- volumes

    def _crop(self, padded: NDArray[np.float32]) -> NDArray[np.float32]:
        top, left = ((p - n) // 2 for p, n in zip(self._padded, self.shape, strict=True))
        return padded[top : top + self.shape[0], left : left + self.shape[1]]

    def _image(self, spectrum: NDArray[np.complex64]) -> NDArray[np.float32]:
        """Return the plane (y, x) of a spectrum, without its margin."""
        image: NDArray[np.float32] = fft.irfft2(spectrum, s=self._padded)
        return self._crop(image)

    def _field(self, xy_um: tuple[float, float]) -> _Field:
        return self._fields.get(xy_um, lambda: self._make_field(xy_um))

    def _origin(self, xy_um: tuple[float, float]) -> tuple[float, float]:
        """Return the position (x, y) of the padded plane's first pixel."""
        top, left = ((p - n) // 2 for p, n in zip(self._padded, self.shape, strict=True))
        return (
            xy_um[0] - (left + (self.shape[1] - 1) / 2) * self.pixel_size_um,
            xy_um[1] - (top + (self.shape[0] - 1) / 2) * self.pixel_size_um,
        )

    def _make_field(self, xy_um: tuple[float, float]) -> _Field:
        height, width = self._padded
        half = width * self.pixel_size_um / 2, height * self.pixel_size_um / 2
        cells = cells_near(self.seed, xy_um, half)
        x0, y0 = self._origin(xy_um)
        x = x0 + np.arange(width) * self.pixel_size_um
        y = y0 + np.arange(height) * self.pixel_size_um
        thick = np.zeros(self._padded)
        nucleus = np.zeros(self._padded)
        for cell in cells:
            here = tuple(
                slice(*np.searchsorted(axis, (centre - REACH_UM, centre + REACH_UM)))
                for axis, centre in ((y, cell.centre[1]), (x, cell.centre[0]))
            )
            px, py = np.meshgrid(x[here[1]], y[here[0]])
            np.maximum(thick[here], cell.height(px, py), out=thick[here])
            inside = np.maximum(1 - cell.nucleus_rho(px, py) ** 2, 0.0)
            np.maximum(nucleus[here], 2.6 * np.sqrt(inside), out=nucleus[here])
        nucleus = np.minimum(nucleus, 0.8 * thick)
        grain = self._spectra(Blobs.joined([c.static for c in cells]), "path", _SLICES, xy_um)
        for n, z in enumerate(self._z):
            # How far each body fills this slice, from the glass up; the nucleus is centred in it.
            low, high = z - _SLICE_UM / 2, z + _SLICE_UM / 2
            body = np.clip(np.minimum(GLASS_UM + thick, high) - max(low, GLASS_UM), 0, _SLICE_UM)
            middle = GLASS_UM + thick / 2
            core = np.minimum(middle + nucleus / 2, high) - np.maximum(middle - nucleus / 2, low)
            path = _BODY_INDEX * body + _NUCLEUS_INDEX * np.clip(core, 0, _SLICE_UM)
            grain[n] += fft.rfft2(path.astype(np.float32))
        return _Field(cells, grain, thick.astype(np.float32))

    def _moving(self, what: str, time_s: float, xy_um: tuple[float, float]) -> _Spectra:
        """Return the organelles' spectra of `path` or `label` at a time, (slice, ky, kx)."""

        def make() -> _Spectra:
            parts = [c.organelles(time_s) for c in self._field(xy_um).cells]
            return self._spectra(Blobs.joined(parts), what, _MOVING_SLICES, xy_um)

        return self._volumes.get((what, time_s, xy_um), make)

    def _spectra(
        self, blobs: Blobs, what: str, slices: int, xy_um: tuple[float, float]
    ) -> _Spectra:
        """Return the transform of each slice of the blobs' `path` or `label`, (slice, ky, kx).

        Points are shared out linearly between the neighbouring pixels and slices, and given their
        bodies by multiplication with Gaussians in Fourier space.
        """
        height, width = self._padded
        x0, y0 = self._origin(xy_um)
        x, y = (blobs.x - x0) / self.pixel_size_um, (blobs.y - y0) / self.pixel_size_um
        weight: NDArray[np.float64] = getattr(blobs, what)
        keep = (x >= 0) & (y >= 0) & (x < width - 1) & (y < height - 1) & (weight != 0)
        x, y, weight = x[keep], y[keep], weight[keep] / self.pixel_size_um**2
        z = np.clip((blobs.z[keep] - GLASS_UM) / _SLICE_UM, 0, slices - 1.001)
        narrow, wide = (s**2 for s in _SIGMAS_UM)
        share = np.clip((blobs.sigma[keep] ** 2 - narrow) / (wide - narrow), 0, 1)
        xi, yi, zi = (a.astype(np.intp) for a in (x, y, z))
        places, parts = [], []
        for body, bw in ((0, 1 - share), (1, share)):
            for dz, zw in ((0, 1 - (z - zi)), (1, z - zi)):
                for dy, yw in ((0, 1 - (y - yi)), (1, y - yi)):
                    for dx, xw in ((0, 1 - (x - xi)), (1, x - xi)):
                        plane = body * slices + zi + dz
                        places.append((plane * height + yi + dy) * width + xi + dx)
                        parts.append(weight * bw * zw * yw * xw)
        volume = np.bincount(
            np.concatenate(places), np.concatenate(parts), 2 * slices * height * width
        )
        spectra = fft.rfft2(volume.astype(np.float32).reshape(2, slices, height, width))
        spectra[0] *= self._bodies[0]
        spectra[1] *= self._bodies[1]
        spectra[0] += spectra[1]
        return np.asarray(spectra[0], dtype=np.complex64)


def _pair(xy_um: tuple[float, float]) -> tuple[float, float]:
    """Return plain floats, which are what the caches compare."""
    return float(xy_um[0]), float(xy_um[1])
