"""Temporal flicker: how much a predicted series changes from frame to frame, beside its target."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Hashable

    from numpy.typing import NDArray

    from livestain.training.pair import Pair

__all__ = ["Flicker", "Series", "Steps", "series_of"]

_FRAME_FILE = re.compile(r"t(\d+)(?:_z(\d+))?")
"""Images that are frames of a film; crops (`tTIME_zPLANE_CROP`) may lie anywhere in their frames."""

_LEAST_STEPS = 2


class Series(NamedTuple):
    """Where in a film a pair lies: `key` names the film (place and depth), `t` its time point."""

    key: Hashable
    t: int


def series_of(pair: Pair) -> Series:
    """Return the film of a pair within its movie, and its time point."""
    match = _FRAME_FILE.fullmatch(pair.name)
    if match:
        return Series(("named", match[2]), int(match[1]))
    # Of image files of other names each is a place, and a film of one frame.
    return Series((pair.place, pair.z), pair.t)


@dataclass(frozen=True)
class Flicker:
    """Frame-to-frame change of one film, or the mean over several.

    Prediction and target are each divided by their own contrast: the mean over frames of the standard
    deviation over pixels.

    Attributes
    ----------
    prediction, target : float
        Standard deviation over time of the change of the plane's mean intensity from frame to frame.
        A steady drift, as by bleaching, is none.
    ratio : float or None
        Of the two; above 1 the prediction flickers more than what was measured. None where the target's is
        0, as it is where each image was scaled by itself.
    pixel_prediction, pixel_target : float
        Root mean square, over pixels and time, of the change from frame to frame: motion, and in the
        target noise.
    pixel_ratio : float or None
    steps : int
        Changes looked at.
    """

    prediction: float
    target: float
    ratio: float | None
    pixel_prediction: float
    pixel_target: float
    pixel_ratio: float | None
    steps: int


class Steps:
    """The planes of one movie's films, given one after the other in any order of films.

    Only the last plane of each film is kept. Changes over the film's commonest time step count alone.
    """

    def __init__(self) -> None:
        self._last: dict[Hashable, tuple[int, NDArray[np.float32], NDArray[np.float32]]] = {}
        self._contrast: dict[Hashable, list[tuple[float, float]]] = {}
        self._changes: dict[Hashable, list[tuple[int, tuple[float, float, float, float]]]] = {}

    def add(self, series: Series, prediction: NDArray[Any], target: NDArray[Any]) -> None:
        """Take the next plane, (y, x) each; planes of one film come in the order of time."""
        p, t = prediction.astype(np.float32), target.astype(np.float32)
        key = series.key
        self._contrast.setdefault(key, []).append((float(p.std()), float(t.std())))
        if key in self._last:
            before, p0, t0 = self._last[key]
            if p0.shape == p.shape and t0.shape == t.shape and series.t > before:
                dp, dt = (p - p0).astype(np.float64), (t - t0).astype(np.float64)
                values = (dp.mean(), dt.mean(), np.mean(dp**2), np.mean(dt**2))
                self._changes.setdefault(key, []).append(
                    (series.t - before, tuple(map(float, values)))  # type: ignore[arg-type]
                )
        self._last[key] = (series.t, p, t)

    def result(self) -> Flicker | None:
        """Return the mean over films, or None where no film has 3 frames at one time step."""
        found = []
        for key, changes in self._changes.items():
            spans = [span for span, _ in changes]
            commonest = max(sorted(set(spans)), key=spans.count)
            table = np.array([values for span, values in changes if span == commonest])
            contrast = np.mean(self._contrast[key], axis=0)
            if len(table) >= _LEAST_STEPS and (contrast > 0).all():
                whole = table[:, :2].std(axis=0, ddof=1) / contrast
                pixels = np.sqrt(table[:, 2:].mean(axis=0)) / contrast
                found.append((*whole, *pixels, len(table)))
        if not found:
            return None
        p, t, pixel_p, pixel_t, _ = np.mean(found, axis=0)
        return Flicker(
            prediction=float(p),
            target=float(t),
            ratio=_ratio(p, t),
            pixel_prediction=float(pixel_p),
            pixel_target=float(pixel_t),
            pixel_ratio=_ratio(pixel_p, pixel_t),
            steps=sum(row[-1] for row in found),
        )


def _ratio(a: float, b: float) -> float | None:
    return float(a / b) if b > 1e-9 else None
