"""The dish as spectra: cells drawn into planes, each with the blur of its height, and the last few kept."""

from __future__ import annotations

import functools
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, TypeAlias, TypeVar

import numpy as np
from scipy import fft

from livestain.simulate.blobs import Blobs
from livestain.simulate.cells import GLASS_UM, Cell, cell_at, cells_near
from livestain.simulate.grid import RadialGrid
from livestain.simulate.optics import fluorescence_transfer, weak_object_transfer

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from numpy.typing import NDArray

    from livestain.simulate.kinds import CellKind
    from livestain.simulate.optics import Optics

    Spectrum: TypeAlias = NDArray[np.complex64]

__all__ = ["SLICE_UM", "Cache", "Field", "PointTransfer", "Points", "Seen", "Volume"]

_T = TypeVar("_T")

SLICE_UM = 0.4
"""Thickness of the slices that bodies and nuclei are cut into."""

_HEIGHT_STEP_UM = 0.15
"""Distance of the heights at which transfer functions of points are computed."""

_SIGMAS_UM = (0.04, 0.08, 0.12, 0.16, 0.2, 0.26, 0.32, 0.4, 0.55, 0.75)
"""Widths of bodies likewise; wider ones (radii above 1.6 um) are refused by the settings."""

_FINE = 4
"""How many times finer the weights of heights and widths are interpolated; of these the nearest is taken."""

_TOLERANCE = 0.02
"""Share of the image (root mean square) that may be lost by compressing the transfer functions."""

_RARE = 0.05
"""Weight, beside the commonest, of heights and widths of which a usual cell has nothing."""

_CACHE_BYTES = 300_000_000
"""Room for fields."""

_CELL_BYTES = 1_000_000
"""What a cell takes in memory, about."""

_MARGINS_UM = (3.2, 6.0)
"""Least and widest border simulated around a field, whose light reaches into it when out of focus."""

_DEFOCUS_UM = 2.5
"""Distance from the focus up to which the border holds all light that reaches into the field."""


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


@dataclass(frozen=True, slots=True)
class Field:
    """What does not change at one stage position.

    Attributes
    ----------
    cells : list of Cell
        The cells that reach into the field.
    cover, nucleus : array of float32, (y, x)
        Thickness of cells and nuclei in micrometres, margin included.
    envelope : array of float32, (y, x)
        How much of a nuclear envelope stands upright, 0 to 1, likewise.
    """

    cells: list[Cell]
    cover: NDArray[np.float32]
    nucleus: NDArray[np.float32]
    envelope: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Points:
    """Bodies shared out among the pixels of a plane.

    Attributes
    ----------
    pixel : array of intp, (4, n)
        The four pixels around each body, of the flattened plane.
    share : array of float64, (4, n)
        What each gets, times the body's weight per pixel area.
    z, sigma : array of float64, (n,)
        Height and standard deviation in micrometres.
    negative : array of bool, (n,)
        Whether its path is below the surrounding's.
    """

    pixel: NDArray[np.intp]
    share: NDArray[np.float64]
    z: NDArray[np.float64]
    sigma: NDArray[np.float64]
    negative: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Seen:
    """How bodies are seen.

    Attributes
    ----------
    what : "path" or "label"
        By their `path` in transmitted light, or by their `label` in fluorescence (see `Blobs`).
    still : bool
        Whether it is about the bodies that do not move.
    absorption : float
        Amplitude absorption per radian of phase; of `path`. Bodies below the medium's index scatter light
        out of the aperture too, so for them its sign is turned round with that of the path.
    turned : bool
        Whether phase and absorption change roles, which is DIC's second image; of `path`.
    wavelength_um : float or None
        Wavelength of the fluorescence where it is not the optics' own; of `label`.
    """

    what: Literal["path", "label"]
    still: bool = False
    absorption: float = 0.0
    turned: bool = False
    wavelength_um: float | None = None

    @property
    def signs(self) -> tuple[int, ...]:
        """Signs of paths that differ in more than the image's sign."""
        return (1, -1) if self.what == "path" and self.absorption else (1,)

    def curve(
        self, optics: Optics, dz_um: float, sign: int = 1
    ) -> tuple[float, NDArray[np.float64]]:
        """Return a cutoff and a radial curve of a body `dz_um` above the focus, with a path of a sign.

        Image per micrometre of optical path, or per label.
        """
        if self.what == "label":
            return fluorescence_transfer(optics, dz_um, self.wavelength_um)
        cutoff, phase, absorbed = _weak_object_transfer(optics, dz_um)
        if self.turned:
            phase, absorbed = -absorbed, phase
        wave = 2 * np.pi / optics.brightfield_wavelength_um
        return cutoff, wave * (phase + sign * self.absorption * absorbed)


@dataclass(frozen=True, slots=True)
class Compressed:
    """Transfer functions of bodies of all heights and widths as weighted sums of a few radial curves.

    The functions are the rows of a matrix, and that is of low rank: a singular value decomposition gives a
    few curves of which every row is a weighted sum. So bodies of any height and width are drawn into as many
    planes as there are curves, instead of into one a slice, and each plane is transformed once.

    Attributes
    ----------
    nodes : array of float64, (sign x height x width, curve)
        Weights of the curves, for all signs, heights and widths at which there are nodes.
    heights : int
        Heights at which transfer functions were computed; there are `_FINE` times as many nodes.
    signed : bool
        Whether there are nodes of their own for paths below the surrounding's.
    cutoff : float
        Frequency of the curves' end, in cycles per micrometre.
    curves : array of float64, (curve, n)
        As `RadialGrid.lay` takes them.
    """

    nodes: NDArray[np.float64]
    heights: int
    signed: bool
    cutoff: float
    curves: NDArray[np.float64]

    @classmethod
    def of(
        cls, optics: Optics, focus_um: float, top_um: float, usual: Blobs, seen: Seen
    ) -> Compressed:
        """Compress the transfer functions of a microscope.

        Parameters
        ----------
        optics : Optics
            The microscope.
        focus_um : float
            Height of the focal plane.
        top_um : float
            Height above which no body lies; higher ones are taken as if they lay there.
        usual : Blobs
            What a usual cell has: heights and widths count by how much of it there is.
        seen : Seen
            How bodies are seen.
        """
        count = int(np.ceil((top_um - GLASS_UM) / _HEIGHT_STEP_UM)) + 1
        z_um: NDArray[np.float64] = np.linspace(0, (count - 1) * _HEIGHT_STEP_UM, count) + GLASS_UM
        curves = [
            seen.curve(optics, float(z) - focus_um, sign) for sign in seen.signs for z in z_um
        ]
        cutoff = curves[0][0]
        k = np.linspace(0, cutoff, len(curves[0][1]))
        bodies = np.exp(-2 * (np.pi * np.outer(_SIGMAS_UM, k)) ** 2)
        rows = (np.stack([c for _, c in curves])[:, None, :] * bodies[None]).reshape(-1, len(k))
        weight: NDArray[np.float64] = getattr(usual, seen.what)
        signed = len(seen.signs) > 1
        negative = (weight < 0) & signed
        at = _node(usual.z, usual.sigma, negative, count, 1)
        power = np.bincount(at, weight**2, len(rows))
        often = np.maximum(np.sqrt(power / max(power.max(), 1e-30)), _RARE)[:, None]
        # Frequencies of a plane lie the denser the higher they are, so errors there count for more.
        dense = np.sqrt(np.maximum(k, k[1] / 2))
        u, s, v = np.linalg.svd(often * rows * dense, full_matrices=False)
        lost = np.sqrt(np.cumsum((s**2)[::-1])[::-1])
        rank = max(int(np.count_nonzero(lost > _TOLERANCE * lost[0])), 1)
        nodes = (u[:, :rank] * s[:rank] / often).reshape(-1, count, len(_SIGMAS_UM), rank)
        nodes = _finer(_finer(nodes, 1), 2)
        return cls(nodes.reshape(-1, rank), count, signed, cutoff, v[:rank] / dense)

    def weights(
        self,
        z_um: NDArray[np.float64],
        sigma_um: NDArray[np.float64],
        negative: NDArray[np.bool_],
    ) -> NDArray[np.float64]:
        """Return what bodies of these heights, widths and signs (n,) add to each curve, (curve, n)."""
        below = negative & self.signed
        return self.nodes.T.take(_node(z_um, sigma_um, below, self.heights, _FINE), axis=1)


def _finer(nodes: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Interpolate to `_FINE` times as many nodes along an axis."""
    n = nodes.shape[axis]
    place = np.arange((n - 1) * _FINE + 1) / _FINE
    low = np.minimum(place.astype(np.intp), n - 2)
    shape = [1] * nodes.ndim
    shape[axis] = -1
    share = (place - low).reshape(shape)
    return np.asarray(nodes.take(low, axis) * (1 - share) + nodes.take(low + 1, axis) * share)


def _node(
    z_um: NDArray[np.float64],
    sigma_um: NDArray[np.float64],
    negative: NDArray[np.bool_],
    heights: int,
    fine: int,
) -> NDArray[np.intp]:
    """Return the place of the nearest node, of `fine` times as many as there are heights and widths."""
    sigmas = np.asarray(_SIGMAS_UM)
    most = (heights - 1) * fine
    z = np.clip(np.rint((z_um - GLASS_UM) * (fine / _HEIGHT_STEP_UM)), 0, most)
    # A Gaussian's transform is straight in the variance for small ones, so nodes count by it.
    width = np.rint(np.interp(sigma_um**2, sigmas**2, fine * np.arange(len(sigmas))))
    row = z + negative * (most + 1)
    return np.asarray(row * ((len(sigmas) - 1) * fine + 1) + width, dtype=np.intp)


class PointTransfer:
    """What the microscope makes of bodies of every height and width, on the frequencies of one plane.

    Parameters
    ----------
    compressed : Compressed
        The transfer functions.
    grid : RadialGrid
        The plane's frequencies.
    spread : array of float32, (ky, kx)
        Transfer of sharing a point out among four pixels, which is taken back.
    """

    def __init__(
        self, compressed: Compressed, grid: RadialGrid, spread: NDArray[np.float32]
    ) -> None:
        self._compressed = compressed
        self.planes = np.stack([grid.lay(compressed.cutoff, c) for c in compressed.curves])
        """The curves over the plane's frequencies, array of float32, (plane, ky, kx)."""
        self.planes /= spread

    def weights(self, points: Points) -> NDArray[np.float64]:
        """Return what each body adds to each of the planes, (plane, n)."""
        return self._compressed.weights(points.z, points.sigma, points.negative)


class Volume:
    """A field of view padded by a margin, drawn in Fourier space. Not thread-safe.

    Parameters
    ----------
    seed : int
        The dish.
    kind : CellKind
        Its cells.
    shape : (int, int)
        Size (y, x) of the field in pixels.
    pixel_size_um : float
        Side of a pixel in micrometres.
    slope : float
        Tangent of the widest angle of light: how fast it spreads out of focus.
    """

    def __init__(
        self,
        seed: int,
        kind: CellKind,
        shape: tuple[int, int],
        pixel_size_um: float,
        slope: float = 1.0,
    ) -> None:
        self._seed = seed
        self._kind = kind
        self._shape = shape
        self._pixel = pixel_size_um
        margin = round(float(np.clip(_DEFOCUS_UM * slope, *_MARGINS_UM)) / pixel_size_um)
        height, width = (fft.next_fast_len(n + 2 * margin, real=True) for n in shape)
        self._padded = (int(height), int(width))
        self.grid = RadialGrid(self._padded, pixel_size_um)
        ky, kx = (
            f(n) for f, n in zip((np.fft.fftfreq, np.fft.rfftfreq), self._padded, strict=True)
        )
        self._spread = (np.sinc(ky)[:, None] ** 2 * np.sinc(kx)[None, :] ** 2).astype(np.float32)
        slices = int(np.ceil(kind.height_um[1] / SLICE_UM)) + 1
        self._slices_um = GLASS_UM + SLICE_UM * np.arange(slices)
        self.plane_bytes = 4 * self.grid.radius.size
        """Size of a real number a frequency, by which caches are bounded."""
        # A field's cells and planes; what is kept of both must not fill the memory where fields are large.
        area = height * width * pixel_size_um**2 / kind.spacing_um**2
        size = 12 * height * width + area * _CELL_BYTES
        self._fields: Cache[Field] = Cache(int(np.clip(_CACHE_BYTES / size, 2, 16)))
        self._organelles: Cache[Blobs] = Cache(int(np.clip(_CACHE_BYTES / size, 2, 6)))
        self._points: Cache[Points] = Cache(int(np.clip(_CACHE_BYTES / size, 3, 12)))

    def crop(self, padded: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the field (y, x) without its margin."""
        top, left = ((p - n) // 2 for p, n in zip(self._padded, self._shape, strict=True))
        return padded[top : top + self._shape[0], left : left + self._shape[1]]

    def image(self, spectrum: Spectrum) -> NDArray[np.float32]:
        """Return the plane (y, x) of a spectrum (ky, kx), without its margin."""
        image: NDArray[np.float32] = fft.irfft2(spectrum, s=self._padded, overwrite_x=True)
        return self.crop(image)

    def axes(self, xy_um: tuple[float, float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return x and y of the field's pixels (without the margin) at a stage position, micrometres."""
        (height, width), (x, y) = self._shape, xy_um
        return (
            np.asarray(x + (np.arange(width) - (width - 1) / 2) * self._pixel, np.float64),
            np.asarray(y + (np.arange(height) - (height - 1) / 2) * self._pixel, np.float64),
        )

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
        cells = cells_near(self._seed, self._kind, xy_um, half)
        x0, y0 = self._origin(xy_um)
        x = x0 + np.arange(width) * self._pixel
        y = y0 + np.arange(height) * self._pixel
        thick, nucleus, envelope = (np.zeros(self._padded) for _ in range(3))
        for cell in cells:
            here = tuple(
                slice(*np.searchsorted(axis, (centre - half, centre + half)))
                for axis, centre, half in zip(
                    (y, x), cell.centre[::-1], cell.half_um[::-1], strict=True
                )
            )
            px, py = np.meshgrid(x[here[1]], y[here[0]])
            if not px.size:
                continue
            tall = cell.height(px, py)
            np.maximum(thick[here], tall, out=thick[here])
            np.maximum(nucleus[here], cell.nucleus_thickness(px, py, tall), out=nucleus[here])
            if self._kind.nucleus.envelope:
                np.maximum(envelope[here], cell.envelope(px, py), out=envelope[here])
        return Field(cells, *(a.astype(np.float32) for a in (thick, nucleus, envelope)))

    def bulk(self, xy_um: tuple[float, float]) -> Iterator[tuple[float, Spectrum]]:
        """Yield each slice's height (um), and the spectrum (ky, kx) of its bodies' and nuclei's path (um)."""
        field, kind = self.field(xy_um), self._kind
        middle = GLASS_UM + field.cover / 2
        for z in self._slices_um:
            # How far each body fills this slice, from the glass up; the nucleus is centred in it.
            low, high = z - SLICE_UM / 2, z + SLICE_UM / 2
            top = np.minimum(GLASS_UM + field.cover, high)
            path = kind.index * np.clip(top - max(low, GLASS_UM), 0, SLICE_UM)
            core = np.minimum(middle + field.nucleus / 2, high)
            core -= np.maximum(middle - field.nucleus / 2, low)
            path += kind.nucleus.index * np.clip(core, 0, SLICE_UM)
            if kind.nucleus.envelope:
                # The envelope is seen where it stands upright, at the nucleus' middle.
                path += kind.nucleus.envelope * field.envelope * (np.abs(middle - z) < SLICE_UM / 2)
            yield float(z), fft.rfft2(path.astype(np.float32))

    def organelles(self, time_s: float, xy_um: tuple[float, float]) -> Blobs:
        """Return what moves, at a time (seconds) and a stage position (micrometres)."""

        def make() -> Blobs:
            return Blobs.joined([c.organelles(time_s) for c in self.field(xy_um).cells])

        return self._organelles.get((time_s, xy_um), make)

    def moving(self, what: str, time_s: float, xy_um: tuple[float, float]) -> Points:
        """Return the organelles' `path` or `label` (see `Blobs`) at a time and a stage position."""
        return self._points.get(
            (what, time_s, xy_um),
            lambda: self._shared_out(self.organelles(time_s, xy_um), what, xy_um),
        )

    def still(self, what: str, xy_um: tuple[float, float]) -> Points:
        """Return the `path` of grain, fibres and nucleoli, or the `label` of DNA; they do not move."""

        def make() -> Points:
            cells = self.field(xy_um).cells
            parts = [c.static if what == "path" else c.chromatin for c in cells]
            return self._shared_out(Blobs.joined(parts), what, xy_um)

        return self._points.get(("still", what, xy_um), make)

    def _shared_out(self, blobs: Blobs, what: str, xy_um: tuple[float, float]) -> Points:
        """Share bodies out linearly among the pixels around each."""
        height, width = self._padded
        x0, y0 = self._origin(xy_um)
        x, y = (blobs.x - x0) / self._pixel, (blobs.y - y0) / self._pixel
        weight: NDArray[np.float64] = getattr(blobs, what)
        keep = (x >= 0) & (y >= 0) & (x < width - 1) & (y < height - 1) & (weight != 0)
        x, y, weight = x[keep], y[keep], weight[keep] / self._pixel**2
        xi, yi = x.astype(np.intp), y.astype(np.intp)
        dx, dy = x - xi, y - yi
        first = yi * width + xi
        return Points(
            pixel=np.stack([first, first + 1, first + width, first + width + 1]),
            share=np.stack(
                [
                    weight * (1 - dy) * (1 - dx),
                    weight * (1 - dy) * dx,
                    weight * dy * (1 - dx),
                    weight * dy * dx,
                ]
            ),
            z=blobs.z[keep],
            sigma=blobs.sigma[keep],
            negative=weight < 0,
        )

    def transfer(self, optics: Optics, focus_um: float, seen: Seen) -> PointTransfer:
        """Return what a microscope makes of this volume's bodies.

        Parameters
        ----------
        optics : Optics
            The microscope.
        focus_um : float
            Height of the plane in focus.
        seen : Seen
            Of which bodies, and how.
        """
        return PointTransfer(
            _compressed(self._kind, optics, focus_um, seen), self.grid, self._spread
        )

    def spectrum(self, points: Points, transfer: PointTransfer) -> Spectrum:
        """Return the spectrum (ky, kx) of the image of bodies."""
        height, width = self._padded
        pixel = points.pixel.ravel()
        planes = np.empty((len(transfer.planes), height, width), np.float32)
        for plane, weight in zip(planes, transfer.weights(points), strict=True):
            drawn = np.bincount(pixel, (points.share * weight).ravel(), height * width)
            plane[...] = drawn.reshape(height, width)
        spectra = fft.rfft2(planes, overwrite_x=True, workers=-1)
        spectra *= transfer.planes
        return np.asarray(spectra.sum(0), np.complex64)


@functools.lru_cache(maxsize=512)
def _weak_object_transfer(
    optics: Optics, dz_um: float
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Compute a height's once for what moves and what does not."""
    return weak_object_transfer(optics, dz_um)


@functools.lru_cache(maxsize=256)
def _compressed(kind: CellKind, optics: Optics, focus_um: float, seen: Seen) -> Compressed:
    """Compress the transfer functions: once for all dishes of a kind."""
    # The same cell whatever dish was seen first: pixels must not depend on the order of calls.
    cell = cell_at(0, kind, 0, 0)
    usual = cell.organelles(0.0)
    if seen.still:
        usual = cell.static if seen.what == "path" else cell.chromatin
    top = GLASS_UM + kind.height_um[1] + 0.4
    return Compressed.of(optics, focus_um, top, usual, seen)
