"""The average over a condenser's light that every transfer function of the microscope is made of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Phase = Callable[[NDArray[np.float64]], NDArray[np.float64]]

__all__ = ["Disc", "Source", "source_average"]

_NODES = 10
"""Nodes of a quadrature over light of one phase; more where the phase turns."""

_RADIANS_PER_NODE = 3.0
"""Turn of the phase across an aperture that takes one more node."""

_MOST_NODES = 96
"""Some 260 rad of defocus (30 um at NA 1.2); beyond, nothing but a haze is left."""

_STEP = 8
"""Nodes come in multiples of this, so that neighbouring slices share their geometry."""


@dataclass(frozen=True, slots=True)
class Disc:
    """A part of the objective's pupil, whose parts add up.

    Attributes
    ----------
    edge : float
        Radius in cycles per micrometre.
    amplitude : complex
        What is added, within the disc, to the amplitude that the pupil lets through.
    """

    edge: float
    amplitude: complex = 1.0


@dataclass(frozen=True, slots=True)
class Source:
    """The condenser's aperture, a disc or an annulus, evenly lit and incoherent.

    Attributes
    ----------
    outer, inner : float
        Radii in cycles per micrometre.
    """

    outer: float
    inner: float = 0.0


def source_average(
    cutoff: float, points: int, source: Source, pupil: Sequence[Disc], phase: Phase
) -> NDArray[np.complex128]:
    """Return ``<P(s + k) exp(i (W(s + k) - W(s)))>`` over the source's points ``s``.

    The pupil is made of discs, so where ``s + k`` meets the edge of one is known for each radius of the
    source: the arc within is integrated by Gauss' rule, on both sides of the radius at which it begins or
    ends to be a full circle. Nothing is half inside an edge, as pixels are.

    Parameters
    ----------
    cutoff : float
        Highest spatial frequency of the object, in cycles per micrometre.
    points : int
        How many frequencies ``k``, evenly from 0 to `cutoff`.
    source : Source
        The condenser's aperture.
    pupil : sequence of Disc
        The objective's pupil.
    phase : callable
        The phase ``W`` in radians by the square of the radius in the pupil, (cycles per micrometre)^2.

    Returns
    -------
    array of complex128, (points,)
    """
    edge = max(source.outer, *(disc.edge for disc in pupil))
    swing = float(np.ptp(phase(np.linspace(0.0, edge, 65) ** 2)))
    count = _STEP * int(np.ceil((_NODES + swing / _RADIANS_PER_NODE) / _STEP))
    total = np.zeros(points, np.complex128)
    for disc in pupil:
        for rays in _rays(cutoff, points, source, disc.edge, min(count, _MOST_NODES)):
            # Single precision turns several times as fast, and is off by 2e-5 rad at the most.
            difference = np.float32(phase(rays.scattered) - phase(rays.direct)[..., None])
            arc = np.empty(difference.shape[:-1], np.complex128)
            arc.real, arc.imag = (turn(difference) @ rays.along_arc for turn in (np.cos, np.sin))
            total[rays.at] += disc.amplitude * (arc * rays.weight).sum(-1)
    return total


@dataclass(frozen=True, slots=True)
class _Rays:
    """Where the light of a source goes that is scattered into a disc of the pupil.

    Attributes
    ----------
    at : array of intp, (k,)
        Which of the object's frequencies.
    direct : array of float64, (k, radius)
        Squared radius of the source's points.
    scattered : array of float64, (k, radius, angle)
        Squared radius of where their light arrives.
    weight : array of float64, (k, radius)
        Share of the source.
    along_arc : array of float32, (angle,)
        Share of an arc.
    """

    at: NDArray[np.intp]
    direct: NDArray[np.float64]
    scattered: NDArray[np.float64]
    weight: NDArray[np.float64]
    along_arc: NDArray[np.float32]


@lru_cache(maxsize=6)
def _rays(cutoff: float, points: int, source: Source, edge: float, count: int) -> list[_Rays]:
    """Return the rays that arrive within `edge`, in up to three ranges of the source's radius."""
    k = np.linspace(0.0, cutoff, points)
    node, share = np.polynomial.legendre.leggauss(count)
    node, share = (node + 1) / 2, share / 2
    # Between these radii the arc within the disc is a full circle, a part of one, or nothing, throughout.
    breaks = [
        np.full(points, source.inner),
        np.clip(np.abs(edge - k), source.inner, source.outer),
        np.clip(edge + k, source.inner, source.outer),
        np.full(points, source.outer),
    ]
    found = []
    for low, high in pairwise(breaks):
        at = np.flatnonzero(high > low)
        shift, span = k[at, None], (high - low)[at, None]
        radius = low[at, None] + span * node
        with np.errstate(divide="ignore", invalid="ignore"):
            cosine = (edge**2 - shift**2 - radius**2) / (2 * shift * radius)
        unmoved = np.where(radius <= edge, 1.0, -1.0)  # k = 0: all of a circle, or none
        begin = np.arccos(np.clip(np.where(shift > 0, cosine, unmoved), -1.0, 1.0))
        angle = begin[..., None] + (np.pi - begin)[..., None] * node
        scattered = np.cos(angle) * (2 * shift * radius)[..., None]
        scattered += (shift**2 + radius**2)[..., None]
        weight = (np.pi - begin) / np.pi * 2 * radius * span * share
        some = weight.any(-1)
        weight /= source.outer**2 - source.inner**2
        found.append(
            _Rays(
                at[some], radius[some] ** 2, scattered[some], weight[some], share.astype(np.float32)
            )
        )
    return [rays for rays in found if len(rays.at)]
