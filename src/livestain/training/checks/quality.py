"""Whether planes can be learnt from: out of focus, saturated, or of nothing but noise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from livestain.training.checks.structure import tile_places

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["BadPair", "Kind", "PlaneQuality", "blurred_ones", "quality_of"]

Kind = Literal["constant", "defocused", "saturated", "empty"]

SATURATED_SHARE = 0.01
"""Largest share of a plane's pixels that may lie at its highest value."""

_PILE = 4.0
"""... and that value holds so many times the pixels of the value below: a pile, and no tail."""

EMPTY_SIGNAL = 0.5
"""Least power of structures over that of the noise, in the part of the plane that has most. Planes of nothing
but noise have at most 0.25, those of the worst real pairs 16 (benchmarks/results/registration.json)."""

DEFOCUS_SPREADS = 4.0
"""So many robust standard deviations below the median of its movie, a plane is out of focus..."""

DEFOCUS_LEAST = 0.7
"""... and by at least this much of the natural logarithm: half the fine structure is gone."""

_LEAST_PAIRS = 5
"""Fewer pairs have no median to be compared with."""

_TILE = 128
_TILES = 16
_FINE, _MIDDLE, _COARSE = 1.0, 2.0, 4.0


class PlaneQuality(NamedTuple):
    """Figures of a plane, or of the best plane of several.

    Attributes
    ----------
    focus : float
        Logarithm of the power of fine structures (1 px) over that of coarse ones (4 px), both without
        noise: how sharp it is, whatever is seen.
    signal : float
        Power of structures (2 px) over that of the noise, in the part that has most.
    saturated : float
        Share of pixels in the pile at the highest value; 0 if there is no pile.
    """

    focus: float
    signal: float
    saturated: float


@dataclass(frozen=True, slots=True)
class BadPair:
    """A pair that should not be learnt from.

    Attributes
    ----------
    movie, pair, channel : str
        Which.
    kind : str
        What is wrong.
    value, limit : float
        The figure, and what it was compared with.
    why : str
        In words.
    """

    movie: str
    pair: str
    channel: str
    kind: Kind
    value: float
    limit: float
    why: str


def quality_of(planes: NDArray[Any]) -> PlaneQuality:
    """Return the figures of planes of one pair and channel; of focus and signal, those of the best plane.

    Parameters
    ----------
    planes : array, (planes, y, x)
        Counts.
    """
    focus, signal = zip(*(_focus_and_signal(plane) for plane in planes), strict=True)
    return PlaneQuality(max(focus), max(signal), max(_pile(plane) for plane in planes))


def _pile(plane: NDArray[Any]) -> float:
    """Return the share of pixels at the highest value, if it is cut off there; else 0.

    Images that were scaled to their own maximum touch it with a few pixels; a detector at its limit leaves a
    pile of them, and far fewer just below.
    """
    top = plane.max()
    at = plane == top
    share = float(at.mean())
    if share <= SATURATED_SHARE or share == 1:
        return 0.0
    below = plane[~at].max()
    return share if at.sum() >= _PILE * (plane == below).sum() else 0.0


def _focus_and_signal(plane: NDArray[Any]) -> tuple[float, float]:
    side = min(_TILE, *plane.shape)
    places = tile_places(plane.shape, side, _TILES)
    found = _of_tiles(plane, places, side)
    if found[1] < EMPTY_SIGNAL and len(places) == _TILES:
        # Nothing where was looked: look everywhere, for sparse labels.
        found = _of_tiles(plane, tile_places(plane.shape, side, 10**6), side)
    return found


def _of_tiles(
    plane: NDArray[Any], places: Sequence[tuple[int, int]], side: int
) -> tuple[float, float]:
    tiles = [plane[y : y + side, x : x + side].astype(np.float32) for y, x in places]
    noise = float(np.median([noise_of(tile) for tile in tiles]))
    power = {
        sigma: np.array([float(np.mean(_band(tile, sigma) ** 2)) for tile in tiles])
        for sigma in (_FINE, _MIDDLE, _COARSE)
    }
    of_noise = {sigma: _gain(sigma) * noise**2 for sigma in power}
    tiny = 1e-6 * float(power[_COARSE].mean()) + 1e-12
    fine = max(float(power[_FINE].mean()) - of_noise[_FINE], tiny)
    coarse = max(float(power[_COARSE].mean()) - of_noise[_COARSE], tiny)
    signal = float(power[_MIDDLE].max()) / max(of_noise[_MIDDLE], 1e-12) - 1
    return float(np.log(fine / coarse)), signal


def noise_of(plane: NDArray[np.float32]) -> float:
    """Return the standard deviation of white noise.

    Notes
    -----
    Immerkær, "Fast noise variance estimation", Comput. Vis. Image Underst. 64:300 (1996): a
    difference of two Laplacians, which structures hardly answer; the median absolute answer instead of the
    mean, so that edges do not count.
    """
    line = plane[:, :-2] - 2 * plane[:, 1:-1] + plane[:, 2:]
    answer = line[:-2] - 2 * line[1:-1] + line[2:]
    return 1.4826 * float(np.median(np.abs(answer))) / 6


def _band(plane: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Return structures of about a width: the difference of two Gaussian blurs."""
    from scipy.ndimage import gaussian_filter

    band: NDArray[np.float32] = gaussian_filter(plane, sigma) - gaussian_filter(plane, 1.6 * sigma)
    return band


@cache
def _gain(sigma: float) -> float:
    """Return what `_band` leaves of the power of white noise."""
    point = np.zeros((129, 129), np.float32)
    point[64, 64] = 1
    return float(np.sum(_band(point, sigma) ** 2))


def blurred_ones(focus: Sequence[float]) -> tuple[NDArray[np.bool_], float]:
    """Return which planes of a movie are out of focus, and the limit.

    Parameters
    ----------
    focus : sequence of float
        `PlaneQuality.focus` of the movie's pairs, in one channel.

    Returns
    -------
    bad : array of bool
        None of them with fewer than five pairs.
    limit : float
        Below the median by four robust standard deviations of the movie's own, and by at least 0.7: what
        varies by nature is not flagged, nor is the least sharp of many sharp ones.
    """
    values = np.asarray(focus, dtype=float)
    if len(values) < _LEAST_PAIRS:
        return np.zeros(len(values), dtype=bool), -np.inf
    middle = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - middle)))
    limit = middle - max(DEFOCUS_SPREADS * spread, DEFOCUS_LEAST)
    return values < limit, limit
