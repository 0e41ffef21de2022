"""How far the target lies from the source: one estimate a movie, from the correlations of all its pairs.

The correlation of one pair of crops rarely has a peak that can be trusted; the sum over the pairs of a movie
has, since the displacement between two channels is the microscope's and the same in all of them. So
the surfaces are added up first, and the peak is sought afterwards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from livestain.training.checks.affine import Affine, LocalShift, fit_affine
from livestain.training.checks.structure import (
    LOOKS,
    SIGMAS_PX,
    Peak,
    find_peak,
    ridges,
    spectrum,
    summit,
    surface,
    tile_places,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["PairShift", "Registrar", "Registration"]

MIN_Z = 6.5
"""Least height of a trusted peak in standard deviations; among pairs shuffled between movies none
reached it (benchmarks/results/registration.json)."""

MIN_RATIO = 1.5
"""Least height of a trusted peak over the second one; likewise."""

_MIN_SIDE = 48
"""Smaller planes are not looked at: too little overlaps."""

_SIDE = 256
"""Side of a tile, in pixels."""

_FAR_PX = 64
"""Largest displacement that is looked for, in pixels, and at most a quarter of a tile."""

_FAR_STACK_PX = 24
"""Likewise where displacements in z are looked for too."""

_PARTNER = 0.5
"""Bright and dark ridges both count if the weaker peak is at least this share of the stronger."""

_RELIEF_PX = 12.0
"""... and no further than this from it: light from the side gives each body a bright and a dark flank."""

_LOCAL_PX = 8
"""How far from the movie's displacement those of its tiles are sought, in pixels."""

_LOCAL_Z = 5.0
"""Least height of a tile's peak: less than for a movie, since it is sought in a small place."""

_LEAST_FRAMES = 3
"""Fewer give no interval."""

_DRAWS = 200


class PairShift(NamedTuple):
    """What one pair says by itself; `told` is whether its own peak can be trusted."""

    name: str
    dy_px: float
    dx_px: float
    z: float
    ratio: float
    told: bool


@dataclass(frozen=True, slots=True)
class Registration:
    """Displacement of a target against the first source, in one movie.

    Attributes
    ----------
    movie, target : str
        Which.
    told : bool
        Whether there is an estimate; if not, `why_not` says why, and the numbers are of the highest peak.
    dy_px, dx_px : float
        Displacement: the target's structures lie that many pixels further down and right.
    interval_y_px, interval_x_px : (float, float), optional
        95 % bootstrap intervals over frames, within 8 pixels; none with fewer than three frames.
    dz_planes : float, optional
        Displacement in z: the target's plane k + dz shows what the source's plane k shows; none where
        there are no stacks, or the source's planes do not reach beyond it.
    interval_z_planes : (float, float), optional
        As for y and x.
    z, ratio : float
        Height of the peak in standard deviations of its surroundings, and over the second peak.
    looks : tuple of str
        Ridges of the source that told: "bright 1.5 px".
    relief_px : float
        Distance between the peaks of bright and dark ridges, where both tell; the estimate is half-way.
    frames : int
        Frames that were looked at.
    pairs : tuple of PairShift
        What each pair says by itself.
    tiles : tuple of LocalShift
        Displacement in parts of the plane, from all pairs together; those that can be trusted.
    affine : Affine, optional
        Fit to `tiles`, where there are enough.
    why_not : str
        See `told`.
    """

    movie: str
    target: str
    told: bool
    dy_px: float = math.nan
    dx_px: float = math.nan
    interval_y_px: tuple[float, float] | None = None
    interval_x_px: tuple[float, float] | None = None
    dz_planes: float | None = None
    interval_z_planes: tuple[float, float] | None = None
    z: float = 0.0
    ratio: float = 1.0
    looks: tuple[str, ...] = ()
    relief_px: float = 0.0
    frames: int = 0
    pairs: tuple[PairShift, ...] = ()
    tiles: tuple[LocalShift, ...] = ()
    affine: Affine | None = None
    why_not: str = ""


_Choice = tuple[int, int]
"""A z-offset of the source and a look, by their numbers."""


class Registrar:
    """Adds up the correlations of a movie's pairs; all must have one shape.

    Parameters
    ----------
    movie, target : str
        For the result.
    tiles : int
        Most tiles that are looked at in a plane.
    z_reach : int
        Largest offset of source planes that is tried, in planes; 0 where there are no stacks.
    fine : bool
        Smaller tiles, for an affine fit.
    """

    def __init__(
        self, movie: str, target: str, *, tiles: int = 16, z_reach: int = 0, fine: bool = False
    ) -> None:
        self._movie = movie
        self._target = target
        self._most = tiles
        self.z_reach = z_reach
        self._offsets = tuple(range(-z_reach, z_reach + 1))
        self._fine = fine
        self._side = 0
        self._far = 0
        self._shape: tuple[int, int] = (0, 0)
        self._places: tuple[tuple[int, int], ...] = ()
        self._by_pair: list[NDArray[np.float32]] = []
        self._by_tile: NDArray[np.float32] | None = None
        self._names: list[str] = []
        self._frames: list[str] = []
        self._too_small = False

    def add(
        self,
        name: str,
        frame: str,
        source: NDArray[np.generic],
        target: NDArray[np.generic],
        own: Sequence[int],
    ) -> None:
        """Look at one pair.

        Parameters
        ----------
        name, frame : str
            Of the pair; pairs of one frame are not independent.
        source : array, (planes, y, x)
            Counts of the first source.
        target : array, (d, y, x)
            Counts of the target's planes that are there.
        own : sequence of int, d long
            The source plane of each target plane.
        """
        shape = (int(target.shape[1]), int(target.shape[2]))
        if not self._lay_out(shape):
            return
        found = np.stack([self._tile(source, target, own, at) for at in self._places])
        self._by_pair.append(found.mean(axis=0))
        self._by_tile = found if self._by_tile is None else self._by_tile + found
        self._names.append(name)
        self._frames.append(frame)

    def _lay_out(self, shape: tuple[int, int]) -> bool:
        if min(shape) < _MIN_SIDE:
            self._too_small = True
            return False
        if shape != self._shape:
            if self._by_pair:
                return False  # a movie of several shapes: by those of the first
            self._shape = shape
            side = min(_SIDE, *shape)
            if self._fine and min(shape) < 2 * _SIDE:
                side = max(_MIN_SIDE, min(shape) // 2)
            self._side = side - side % 2
            far = _FAR_PX if len(self._offsets) == 1 else _FAR_STACK_PX
            self._far = min(far, self._side // 4)
            self._places = tile_places(shape, self._side, self._most)
        return True

    def _tile(
        self,
        source: NDArray[np.generic],
        target: NDArray[np.generic],
        own: Sequence[int],
        at: tuple[int, int],
    ) -> NDArray[np.float32]:
        """Return the surfaces of one tile, (offsets, looks, y, x)."""
        cut = np.s_[:, at[0] : at[0] + self._side, at[1] : at[1] + self._side]
        seen = source[cut].astype(np.float32)
        shown = target[cut].astype(np.float32)
        found = np.zeros(
            (len(self._offsets), len(LOOKS), 2 * self._far + 1, 2 * self._far + 1), np.float32
        )
        # Both polarities of the source; of the target the bright ridges, for a label shines.
        for sigma in SIGMAS_PX:
            source_spectra = spectrum(ridges(seen, sigma))
            label = spectrum(ridges(shown, sigma)[0])
            looks = [n for n, look in enumerate(LOOKS) if look.sigma_px == sigma]
            for i, offset in enumerate(self._offsets):
                both = [(k, z + offset) for k, z in enumerate(own) if 0 <= z + offset < len(seen)]
                if not both:
                    continue
                cross = np.zeros_like(source_spectra[:, 0])
                for k, z in both:
                    cross += label[k] * np.conj(source_spectra[:, z]) / len(both)
                found[i, looks] = surface(cross, self._side, self._far)
        return found

    def result(self) -> Registration:
        """Return what all pairs together say."""
        if not self._by_pair:
            why = (
                f"planes of fewer than {_MIN_SIDE} pixels"
                if self._too_small
                else "there is no pair to look at"
            )
            return Registration(self._movie, self._target, told=False, why_not=why)
        by_pair = np.stack(self._by_pair)
        total = by_pair.mean(axis=0)
        peaks = {
            (i, n): find_peak(total[i, n])
            for i in range(total.shape[0])
            for n in range(total.shape[1])
        }
        trusted = {key: peak for key, peak in peaks.items() if _trusted(peak)}
        best = max(trusted or peaks, key=lambda key: peaks[key].z)
        chosen = _with_partner(best, trusted)
        dy, dx = _mean_shift([peaks[key] for key in chosen])
        frames = len(set(self._frames))
        draws = self._bootstrap(by_pair, [(key, peaks[key]) for key in chosen])
        why_not = "" if trusted else "no displacement stands out from chance"
        told = not why_not
        dz, dz_interval = self._in_z(by_pair, best, peaks[best]) if told else (None, None)
        tiles = self._local(chosen, (dy, dx)) if told else ()
        return Registration(
            movie=self._movie,
            target=self._target,
            told=told,
            dy_px=dy,
            dx_px=dx,
            interval_y_px=_interval(draws[:, 0]) if draws is not None else None,
            interval_x_px=_interval(draws[:, 1]) if draws is not None else None,
            dz_planes=dz,
            interval_z_planes=dz_interval,
            z=peaks[best].z,
            ratio=peaks[best].ratio,
            looks=tuple(f"{LOOKS[n].polarity} {LOOKS[n].sigma_px:g} px" for _, n in chosen),
            relief_px=_relief([peaks[key] for key in chosen]),
            frames=frames,
            pairs=self._alone(by_pair, chosen),
            tiles=tiles,
            affine=fit_affine(tiles, self._shape),
            why_not=why_not,
        )

    def _drawn(self) -> NDArray[np.float64]:
        """Return the pairs' weights with whole frames drawn anew (Efron 1979), (draws, pairs)."""
        number = {frame: i for i, frame in enumerate(sorted(set(self._frames)))}
        member = np.array([number[frame] for frame in self._frames])
        picked = np.random.default_rng(0).integers(len(number), size=(_DRAWS, len(number)))
        times = np.stack([np.bincount(row, minlength=len(number)) for row in picked])
        weights = times[:, member].astype(float)
        return np.asarray(weights / weights.sum(axis=1, keepdims=True))

    def _bootstrap(
        self, by_pair: NDArray[np.float32], chosen: Sequence[tuple[_Choice, Peak]]
    ) -> NDArray[np.float64] | None:
        """Return displacements of resampled frames, sought around the movie's, (draws, 2).

        Whether the peak is the right one is what its height says; this says how exactly it is placed.
        """
        if len(set(self._frames)) < _LEAST_FRAMES:
            return None
        weights = self._drawn()
        found = []
        for (i, n), peak in chosen:
            first = [max(round(d) + self._far - _LOCAL_PX, 0) for d in (peak.dy, peak.dx)]
            last = [round(d) + self._far + _LOCAL_PX + 1 for d in (peak.dy, peak.dx)]
            near = by_pair[:, i, n, first[0] : last[0], first[1] : last[1]]
            tops = [summit(each) for each in np.tensordot(weights, near, axes=1)]
            found.append(np.array(tops) + np.array(first) - self._far)
        return np.asarray(np.mean(found, axis=0))

    def _in_z(
        self, by_pair: NDArray[np.float32], best: _Choice, peak: Peak
    ) -> tuple[float | None, tuple[float, float] | None]:
        """Return the displacement in z, in planes, and its interval."""
        if len(self._offsets) < 3:
            return None, None
        row, column = (round(d) + self._far for d in (peak.dy, peak.dx))
        near = np.s_[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        sigma = LOOKS[best[1]].sigma_px
        both = [n for n, look in enumerate(LOOKS) if look.sigma_px == sigma]
        # Height at the displacement found, by pair, offset and polarity.
        heights = by_pair[:, :, both][..., near[0], near[1]].mean(axis=(-2, -1))
        surfaces = by_pair.mean(axis=0)[:, both]
        middle = np.median(surfaces, axis=(-2, -1), keepdims=True)
        spread = 1.4826 * np.median(np.abs(surfaces - middle), axis=(-2, -1))
        heights = (heights - middle[..., 0, 0]) / np.maximum(spread, 1e-9)
        centre = _focus(heights.mean(axis=0))
        if centre is None:
            return None, None
        offset = self._offsets[0]
        found = -(
            offset + centre
        )  # the source's structure is `offset` planes further: the target, less
        if len(set(self._frames)) < _LEAST_FRAMES:
            return found, None
        drawn = [_focus(each) for each in np.tensordot(self._drawn(), heights, axes=1)]
        kept = np.array([-(offset + each) for each in drawn if each is not None])
        return found, _interval(kept) if len(kept) >= _DRAWS // 2 else None

    def _local(
        self, chosen: Sequence[_Choice], shift: tuple[float, float]
    ) -> tuple[LocalShift, ...]:
        """Return displacements of the tiles, sought around the movie's."""
        if self._by_tile is None or len(self._places) < 2:
            return ()
        found = []
        for (y, x), tile in zip(self._places, self._by_tile / len(self._by_pair), strict=True):
            peaks = [find_peak(tile[i, n], near=shift, within=_LOCAL_PX) for i, n in chosen]
            if min(peak.z for peak in peaks) >= _LOCAL_Z:
                dy, dx = _mean_shift(peaks)
                centre = (
                    y + (self._side - self._shape[0]) / 2,
                    x + (self._side - self._shape[1]) / 2,
                )
                found.append(LocalShift(*centre, dy, dx, min(peak.z for peak in peaks)))
        return tuple(found)

    def _alone(
        self, by_pair: NDArray[np.float32], chosen: Sequence[_Choice]
    ) -> tuple[PairShift, ...]:
        """Return what each pair says by itself."""
        found = []
        for name, surfaces in zip(self._names, by_pair, strict=True):
            peaks = [find_peak(surfaces[i, n]) for i, n in chosen]
            dy, dx = _mean_shift(peaks)
            found.append(
                PairShift(
                    name=name,
                    dy_px=dy,
                    dx_px=dx,
                    z=min(peak.z for peak in peaks),
                    ratio=min(peak.ratio for peak in peaks),
                    told=all(_trusted(peak) for peak in peaks),
                )
            )
        return tuple(found)


def _trusted(peak: Peak) -> bool:
    return peak.z >= MIN_Z and peak.ratio >= MIN_RATIO


def _with_partner(best: _Choice, trusted: dict[_Choice, Peak]) -> tuple[_Choice, ...]:
    """Return the best look, and that of the other polarity if it tells as well from nearby."""
    offset, number = best
    for key, peak in trusted.items():
        mine, theirs = LOOKS[number], LOOKS[key[1]]
        if key[0] != offset or theirs.sigma_px != mine.sigma_px or theirs == mine:
            continue
        apart = _relief([peak, trusted[best]])
        if peak.z >= _PARTNER * trusted[best].z and apart <= _RELIEF_PX:
            return (best, key)
    return (best,)


def _mean_shift(peaks: Sequence[Peak]) -> tuple[float, float]:
    return (
        sum(peak.dy for peak in peaks) / len(peaks),
        sum(peak.dx for peak in peaks) / len(peaks),
    )


def _relief(peaks: Sequence[Peak]) -> float:
    first, last = peaks[0], peaks[-1]
    return math.hypot(first.dy - last.dy, first.dx - last.dx)


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)


def _focus(heights: NDArray[np.floating]) -> float | None:
    """Return the place of the same focus on the axis of offsets, counted from its first.

    Parameters
    ----------
    heights : array of float, (offsets, 2)
        Correlation with bright and with dark ridges, in standard deviations.

    Notes
    -----
    Small bodies that mostly shift the light's phase are bright on one side of the focus and dark on the
    other, and vanish in it (the weak object transfer function is odd in defocus): the same focus is half-way
    between the two. Where one of them is missing, as between two fluorescence channels, it is the other.
    """
    tops = heights.max(axis=0)
    count = [i for i in range(2) if tops[i] >= max(MIN_Z, _PARTNER * tops.max())]
    places = []
    for i in count:
        k = int(np.argmax(heights[:, i]))
        if k in (0, len(heights) - 1):
            return None  # it may lie beyond the planes that there are
        before, at, after = (float(h) for h in heights[k - 1 : k + 2, i])
        bend = before - 2 * at + after
        places.append(k + ((before - after) / (2 * bend) if bend < 0 else 0.0))
    return sum(places) / len(places) if places else None
