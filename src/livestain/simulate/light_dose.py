"""What light does to a dish: it adds up where it fell, bleaches labels, and harms cells."""

from __future__ import annotations

import base64
import json
import math
import threading
import zlib
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pydantic import Field

from livestain.settings import FiniteSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "OTHER",
    "TRANSMITTED",
    "DoseReport",
    "Illumination",
    "LightDose",
    "Unbleached",
    "unbleached_from",
]

TRANSMITTED = "transmitted"
"""The lamp's light, which bleaches nothing here."""

OTHER = "other"
"""Excitation of colours that no label absorbs: it harms cells as any, and bleaches nothing."""

_CELL_UM = 0.5
"""Side of the squares of the dish that doses are kept for."""

_TILE = 64
"""Squares along a side of what is kept together."""

_MARGIN_UM = 2.0
"""How far the lit field reaches beyond the camera's frame, as a field diaphragm is set by hand."""

_PLANCK_J_UM = 6.62607015e-34 * 299_792_458 * 1e6
"""Energy of a photon times its wavelength, in joules times micrometres."""

_UM2_PER_CM2 = 1e8

_USUAL_EXPOSURE_MS = 100.0
"""Exposure of a fluorescence image where a run took none."""

_MOST_WORDS = 256
"""Shares that are told one by one; more are packed."""

_MOST_BLOCKS = 16_384
"""Shares that are told at all: as many as squares of a field of 64 um a side."""


class Illumination(FiniteSettings):
    """How much light falls on the dish, and what it does there."""

    excitation_w_cm2: float = Field(default=2.0, ge=0)
    """Irradiance of the excitation light in the focal plane, in watts per square centimetre."""

    excitation_wavelength_um: float = Field(default=0.47, gt=0)
    """Wavelength of the light that excites the mitochondria's label, in micrometres."""

    dna_wavelength_um: float = Field(default=0.385, gt=0)
    """Wavelength of the light that excites the label of DNA, in micrometres."""

    transmitted_w_cm2: float = Field(default=0.002, ge=0)
    """Irradiance of the transmitted light, in watts per square centimetre."""

    transmitted_wavelength_um: float = Field(default=0.55, gt=0)
    """Wavelength of the transmitted light, in micrometres."""

    bleaching_dose_j_cm2: float = Field(default=200.0, gt=0)
    """Dose after which 1/e of a label still shines, in joules per square centimetre.

    An order of magnitude: energy of a photon over absorption cross-section (2e-16 cm2, of a molar
    extinction of 56,000 per M and cm) and quantum yield of bleaching (1e-5).
    """

    toxic_dose_j_cm2: float = Field(default=50.0, gt=0)
    """Dose of excitation light that kills, in joules per square centimetre.

    An order of magnitude. S. Wäldchen et al., "Light-induced cell damage in live-cell super-resolution
    microscopy", Scientific Reports 5, 15348 (2015): about 50 J/cm2 at 405 nm at the most; far more at
    longer wavelengths. Subtler harm comes far earlier: J. Icha et al., "Phototoxicity in live
    fluorescence microscopy, and how to avoid it", BioEssays 39, 1700003 (2017).
    """

    def wavelength_um(self, light: str) -> float:
        """Return the wavelength of the lamp's light or of a label's excitation, in micrometres."""
        if light == TRANSMITTED:
            return self.transmitted_wavelength_um
        return self.dna_wavelength_um if light == "dna" else self.excitation_wavelength_um

    def dose_j_cm2(self, light: str, exposure_ms: float) -> float:
        """Return the dose of an exposure in joules per square centimetre."""
        power = self.transmitted_w_cm2 if light == TRANSMITTED else self.excitation_w_cm2
        return power * exposure_ms / 1e3

    def photons_per_um2(self, light: str, dose_j_cm2: float) -> float:
        """Return how many photons per square micrometre a dose is."""
        return dose_j_cm2 / _UM2_PER_CM2 * self.wavelength_um(light) / _PLANCK_J_UM


class Unbleached(NamedTuple):
    """How much of a label still shines.

    Attributes
    ----------
    share : float or array of float32, (y, x)
        Between 0 and 1; an array where the field was not lit evenly.
    text : str
        The same for a frame's metadata; `unbleached_from` reads it. Of a field of more than 64 um a side that
        was lit differently at nearly every place it is the mean alone.
    """

    share: float | NDArray[np.float32]
    text: str


def unbleached_from(text: str, shape: tuple[int, int]) -> float | NDArray[np.float32]:
    """Return the share of a label that still shone, from a frame's metadata.

    Parameters
    ----------
    text : str
        What `Unbleached.text` was.
    shape : (int, int)
        Size (y, x) of the dish's frame, unbinned and uncropped.

    Returns
    -------
    float or array of float32, (y, x)

    Raises
    ------
    ValueError
        If it is not such a text, or tells no more than the mean.
    """
    told = json.loads(text)
    if isinstance(told, float | int):
        return float(told)
    if "share" not in told:
        raise ValueError(f"The share of the label that shone is known as a mean only: {told}.")
    rows, columns = (np.diff([*told[axis], n]) for axis, n in zip(("y", "x"), shape, strict=True))
    share = told["share"]
    if isinstance(share, str):
        packed = zlib.decompress(base64.b64decode(share))
        share = np.frombuffer(packed, "<f4").reshape(len(told["y"]), len(told["x"]))
    share = np.asarray(share, np.float32)
    return np.repeat(np.repeat(share, rows, axis=0), columns, axis=1)


@dataclass(frozen=True)
class DoseReport:
    """What a dish got of light, over the area that was lit at all.

    Attributes
    ----------
    exposures : dict of str to int
        Exposures by light: ``transmitted``, a label's name, or ``other``.
    photons_per_um2 : dict of str to float
        Mean photons per square micrometre by light.
    excitation_j_cm2, most_j_cm2 : float
        Dose of excitation light: mean, and where it was most.
    toxic_share : float
        The most as a share of the toxic dose.
    bleached : dict of str to float
        Mean share of each label that shines no more.
    spared_planes : int
        Planes that were predicted.
    spared_photons_per_um2, spared_j_cm2, spared_bleached : float
        What taking each of them as fluorescence would have cost a field besides: photons, dose, and
        the share of the label that it would have bleached if nothing else had.
    """

    exposures: dict[str, int] = field(default_factory=dict)
    photons_per_um2: dict[str, float] = field(default_factory=dict)
    excitation_j_cm2: float = 0.0
    most_j_cm2: float = 0.0
    toxic_share: float = 0.0
    bleached: dict[str, float] = field(default_factory=dict)
    spared_planes: int = 0
    spared_photons_per_um2: float = 0.0
    spared_j_cm2: float = 0.0
    spared_bleached: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON types, rounded to four digits."""
        return {key: _rounded(value) for key, value in asdict(self).items()}


class LightDose:
    """Doses of light on a dish, kept by place: fields that overlap share what fell on both.

    Bleaching is a single exponential of the dose, as each absorbed photon is as likely as any other to
    end a molecule; real labels follow it nearly (photostability in FPbase,
    https://www.fpbase.org/bleaching/), and not quite: P. J. Cranfill et al., Nature Methods 13, 557
    (2016). Nothing recovers. Safe to use from several threads.

    Parameters
    ----------
    light : Illumination
        How bright the light is and what it does.
    """

    def __init__(self, light: Illumination) -> None:
        self.light = light
        self._tiles: dict[str, dict[tuple[int, int], NDArray[np.float64]]] = {}
        self._exposures: dict[str, list[float]] = {}
        self._lock = threading.Lock()

    def expose(
        self,
        light: str,
        xy_um: tuple[float, float],
        size_um: tuple[float, float],
        exposure_ms: float,
        *,
        brightness: float = 1.0,
    ) -> None:
        """Add an exposure.

        Parameters
        ----------
        light : str
            `TRANSMITTED`, the name of the label that is excited, or `OTHER`.
        xy_um : (float, float)
            Centre (x, y) of the field in micrometres.
        size_um : (float, float)
            Size (y, x) of the camera's whole frame in the dish, in micrometres; a region of interest
            does not make the lit field smaller.
        exposure_ms : float
            In milliseconds.
        brightness : float
            Of the lamp, relative to what it should be.
        """
        dose = self.light.dose_j_cm2(light, exposure_ms) * brightness
        rows, columns = (
            (
                math.floor((at - size / 2 - _MARGIN_UM) / _CELL_UM),
                math.ceil((at + size / 2 + _MARGIN_UM) / _CELL_UM),
            )
            for at, size in zip(xy_um[::-1], size_um, strict=True)
        )
        with self._lock:
            count = self._exposures.setdefault(light, [0, 0.0])
            count[0] += 1
            count[1] += exposure_ms
            tiles = self._tiles.setdefault(light, {})
            for i in range(rows[0] // _TILE, (rows[1] - 1) // _TILE + 1):
                for j in range(columns[0] // _TILE, (columns[1] - 1) // _TILE + 1):
                    tile = tiles.get((i, j))
                    if tile is None:
                        tile = tiles[i, j] = np.zeros((_TILE, _TILE))
                    tile[_within(rows, i), _within(columns, j)] += dose

    def unbleached(
        self,
        label: str,
        xy_um: tuple[float, float],
        shape: tuple[int, int],
        pixel_size_um: float,
    ) -> Unbleached:
        """Return how much of a label still shines in a field.

        Parameters
        ----------
        label : str
            For example "mitochondria".
        xy_um : (float, float)
            Centre (x, y) of the field in micrometres.
        shape : (int, int)
            Size (y, x) of the frame in pixels.
        pixel_size_um : float
            Side of a pixel in micrometres.
        """
        with self._lock:
            tiles = self._tiles.get(label)
            if not tiles:
                return Unbleached(1.0, "1.0")
            places = [
                np.floor((at + (np.arange(n) - (n - 1) / 2) * pixel_size_um) / _CELL_UM).astype(int)
                for at, n in zip(xy_um[::-1], shape, strict=True)
            ]
            firsts = [int(p[0]) for p in places]
            doses = np.zeros(
                [int(p[-1]) - first + 1 for p, first in zip(places, firsts, strict=True)]
            )
            # Only those that the field touches: a run over many positions lights many more.
            near = product(
                *(
                    range(first // _TILE, (first + n - 1) // _TILE + 1)
                    for first, n in zip(firsts, doses.shape, strict=True)
                )
            )
            for i, j in near:
                tile = tiles.get((i, j))
                if tile is None:
                    continue
                there, here = [], []
                for at, first, n in zip((i, j), firsts, doses.shape, strict=True):
                    low = max(at * _TILE, first)
                    high = max(low, min((at + 1) * _TILE, first + n))
                    there.append(slice(low - first, high - first))
                    here.append(slice(low - at * _TILE, high - at * _TILE))
                doses[tuple(there)] = tile[tuple(here)]
        share = np.exp(-doses / self.light.bleaching_dose_j_cm2).astype(np.float32)
        if share.min() == share.max():
            even = float(share.flat[0])
            return Unbleached(even, repr(even))
        rows, columns = (p - first for p, first in zip(places, firsts, strict=True))
        return Unbleached(share[np.ix_(rows, columns)], _blocks(share, rows, columns))

    def report(
        self, *, predicted: int = 0, fields: int = 1, label: str = "mitochondria"
    ) -> DoseReport:
        """Return what the dish got so far.

        Parameters
        ----------
        predicted : int
            Planes that were predicted and so not taken.
        fields : int
            Stage positions over which these are spread.
        label : str
            The label they would have shown.
        """
        with self._lock:
            keys = {key for tiles in self._tiles.values() for key in tiles}
            none = np.zeros((_TILE, _TILE))
            by_light = {
                light: np.stack([tiles.get(key, none) for key in sorted(keys)])
                for light, tiles in self._tiles.items()
            }
            exposures = {light: int(count[0]) for light, count in self._exposures.items()}
            of_label = self._exposures.get(label)
        usual_ms = of_label[1] / of_label[0] if of_label else _USUAL_EXPOSURE_MS
        spared = self.light.dose_j_cm2(label, usual_ms) * predicted / max(fields, 1)
        bleaching = self.light.bleaching_dose_j_cm2
        told: dict[str, Any] = {
            "exposures": exposures,
            "spared_planes": predicted,
            "spared_photons_per_um2": self.light.photons_per_um2(label, spared),
            "spared_j_cm2": spared,
            "spared_bleached": -math.expm1(-spared / bleaching),
        }
        if not by_light:
            return DoseReport(**told)
        lit = np.any([dose > 0 for dose in by_light.values()], axis=0)
        excitation = sum(
            (dose for light, dose in by_light.items() if light != TRANSMITTED), np.zeros(lit.shape)
        )
        mean = {
            light: float(dose[lit].mean()) if lit.any() else 0.0 for light, dose in by_light.items()
        }
        return DoseReport(
            photons_per_um2={n: self.light.photons_per_um2(n, dose) for n, dose in mean.items()},
            excitation_j_cm2=float(excitation[lit].mean()) if lit.any() else 0.0,
            most_j_cm2=float(excitation.max()),
            toxic_share=float(excitation.max()) / self.light.toxic_dose_j_cm2,
            bleached={
                light: float(-np.expm1(-dose[lit] / bleaching).mean()) if lit.any() else 0.0
                for light, dose in by_light.items()
                if light not in (TRANSMITTED, OTHER)
            },
            **told,
        )


def _within(span: tuple[int, int], tile: int) -> slice:
    """Return the part of a span of squares that lies in a tile."""
    return slice(max(span[0] - tile * _TILE, 0), min(span[1] - tile * _TILE, _TILE))


def _blocks(share: NDArray[np.float32], rows: NDArray[Any], columns: NDArray[Any]) -> str:
    """Return a share that is the same over rectangles as text: their first pixels, and the share in each.

    Parameters
    ----------
    share : array of float32, (squares along y, squares along x)
        The share in each square of the dish.
    rows, columns : arrays of int
        The square of each pixel.
    """
    breaks = []
    for squares, axis in ((rows, 0), (columns, 1)):
        changes = np.diff(share, axis=axis).any(axis=1 - axis)
        new = np.flatnonzero(changes) + 1
        breaks.append([0, *(int(np.searchsorted(squares, n)) for n in new)])
    if len(breaks[0]) * len(breaks[1]) > _MOST_BLOCKS:
        return json.dumps({"mean": float(share.mean())})
    values = share[np.ix_(rows[breaks[0]], columns[breaks[1]])]
    told: str | list[list[float]] = values.tolist()
    if values.size > _MOST_WORDS:
        told = base64.b64encode(zlib.compress(values.astype("<f4").tobytes())).decode()
    return json.dumps({"y": breaks[0], "x": breaks[1], "share": told}, separators=(",", ":"))


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value
