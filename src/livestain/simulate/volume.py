"""The dish as spectra of slices: cells drawn into a volume, and the last few volumes kept."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

import numpy as np
from scipy import fft

from livestain.simulate.blobs import Blobs
from livestain.simulate.cells import GLASS_UM, REACH_UM, Cell, cells_near
from livestain.simulate.optics import RadialGrid

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from numpy.typing import NDArray

    Spectra: TypeAlias = NDArray[np.complex64]

__all__ = ["MOVING_SLICES", "SLICES", "Cache", "Field", "Volume"]

_T = TypeVar("_T")

_SLICE_UM = 0.4
"""Thickness of a slice of the volume."""

SLICES = 11
"""Slices of the volume, from the glass upwards."""

MOVING_SLICES = 7
"""The slices, from the glass upwards, in which organelles move; floating debris joins the uppermost."""

_SIGMAS_UM = (0.07, 0.24)
"""Two Gaussian bodies; every width between is a mixture of the two with the same variance."""

_MARGIN_UM = 3.2
"""Border simulated around a field, so that its opposite edges do not meet."""

_BODY_INDEX = 0.022
"""Refractive index of the cytoplasm above the medium's."""

_NUCLEUS_INDEX = -0.006
"""Refractive index of the nucleus above the cytoplasm's."""


@dataclass(frozen=True, slots=True)
class Field:
    """What does not change at one stage position.

    Attributes
    ----------
    cells : list of Cell
        The cells that reach into the field.
    spectrum : array of complex64, (slice, ky, kx)
        Optical path in micrometres of bodies, nuclei, grain and fibres.
    cover : array of float32, (y, x)
        Thickness of the cells in micrometres, margin included.
    """

    cells: list[Cell]
    spectrum: Spectra
    cover: NDArray[np.float32]


class Cache(Generic[_T]):
    """The results of the last few different calls."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: OrderedDict[Hashable, _T] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """Return what was made for a key, making it if it is not kept."""
        if key not in self._kept:
            self._kept[key] = make()
            if len(self._kept) > self._size:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


class Volume:
    """The slices of a field of view, padded by a margin, in Fourier space. Not thread-safe.

    Parameters
    ----------
    seed : int
        The dish.
    shape : (int, int)
        Size (y, x) of the field in pixels.
    pixel_size_um : float
        Side of a pixel in micrometres.
    """

    def __init__(self, seed: int, shape: tuple[int, int], pixel_size_um: float) -> None:
        self._seed = seed
        self._shape = shape
        self._pixel = pixel_size_um
        margin = round(_MARGIN_UM / pixel_size_um)
        height, width = (fft.next_fast_len(n + 2 * margin, real=True) for n in shape)
        self._padded = (int(height), int(width))
        self.grid = RadialGrid(self._padded, pixel_size_um)
        self._bodies = [self.grid.gaussian(s) for s in _SIGMAS_UM]
        self.z_um = GLASS_UM + _SLICE_UM * np.arange(SLICES)
        """Height of the middle of each slice, in micrometres."""
        self._fields: Cache[Field] = Cache(4)
        self._volumes: Cache[Spectra] = Cache(6)

    def crop(self, padded: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the field (y, x) without its margin."""
        top, left = ((p - n) // 2 for p, n in zip(self._padded, self._shape, strict=True))
        return padded[top : top + self._shape[0], left : left + self._shape[1]]

    def image(self, spectrum: Spectra) -> NDArray[np.float32]:
        """Return the plane (y, x) of a spectrum (ky, kx), without its margin."""
        image: NDArray[np.float32] = fft.irfft2(spectrum, s=self._padded)
        return self.crop(image)

    def field(self, xy_um: tuple[float, float]) -> Field:
        """Return what does not change at a stage position (micrometres)."""
        return self._fields.get(xy_um, lambda: self._make_field(xy_um))

    def _origin(self, xy_um: tuple[float, float]) -> tuple[float, float]:
        """Return the position (x, y) of the padded plane's first pixel."""
        top, left = ((p - n) // 2 for p, n in zip(self._padded, self._shape, strict=True))
        return (
            xy_um[0] - (left + (self._shape[1] - 1) / 2) * self._pixel,
            xy_um[1] - (top + (self._shape[0] - 1) / 2) * self._pixel,
        )

    def _make_field(self, xy_um: tuple[float, float]) -> Field:
        height, width = self._padded
        half = width * self._pixel / 2, height * self._pixel / 2
        cells = cells_near(self._seed, xy_um, half)
        x0, y0 = self._origin(xy_um)
        x = x0 + np.arange(width) * self._pixel
        y = y0 + np.arange(height) * self._pixel
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
        grain = self._spectra(Blobs.joined([c.static for c in cells]), "path", SLICES, xy_um)
        for n, z in enumerate(self.z_um):
            # How far each body fills this slice, from the glass up; the nucleus is centred in it.
            low, high = z - _SLICE_UM / 2, z + _SLICE_UM / 2
            body = np.clip(np.minimum(GLASS_UM + thick, high) - max(low, GLASS_UM), 0, _SLICE_UM)
            middle = GLASS_UM + thick / 2
            core = np.minimum(middle + nucleus / 2, high) - np.maximum(middle - nucleus / 2, low)
            path = _BODY_INDEX * body + _NUCLEUS_INDEX * np.clip(core, 0, _SLICE_UM)
            grain[n] += fft.rfft2(path.astype(np.float32))
        return Field(cells, grain, thick.astype(np.float32))

    def moving(self, what: str, time_s: float, xy_um: tuple[float, float]) -> Spectra:
        """Return the organelles' spectra of `path` or `label` at a time, (slice, ky, kx).

        Parameters
        ----------
        what : "path" or "label"
            See `Blobs`.
        time_s : float
            Age of the dish in seconds.
        xy_um : (float, float)
            Stage position in micrometres.
        """

        def make() -> Spectra:
            parts = [c.organelles(time_s) for c in self.field(xy_um).cells]
            return self._spectra(Blobs.joined(parts), what, MOVING_SLICES, xy_um)

        return self._volumes.get((what, time_s, xy_um), make)

    def _spectra(self, blobs: Blobs, what: str, slices: int, xy_um: tuple[float, float]) -> Spectra:
        """Return the transform of each slice of the blobs' `path` or `label`, (slice, ky, kx).

        Points are shared out linearly between the neighbouring pixels and slices, and given their
        bodies by multiplication with Gaussians in Fourier space.
        """
        height, width = self._padded
        x0, y0 = self._origin(xy_um)
        x, y = (blobs.x - x0) / self._pixel, (blobs.y - y0) / self._pixel
        weight: NDArray[np.float64] = getattr(blobs, what)
        keep = (x >= 0) & (y >= 0) & (x < width - 1) & (y < height - 1) & (weight != 0)
        x, y, weight = x[keep], y[keep], weight[keep] / self._pixel**2
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
