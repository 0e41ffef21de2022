"""An affine map between two channels, from displacements of parts of the plane."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Affine", "LocalShift", "fit_affine"]

_LEAST = 6
"""Parts of the plane that a fit of six numbers from twelve needs at least."""

_OUTLIER_PX = 1.0
"""From about here on, a part's deviation counts less than by its square."""


class LocalShift(NamedTuple):
    """Displacement of a part of the plane.

    Attributes
    ----------
    y, x : float
        The part's centre relative to the plane's, in pixels.
    dy, dx : float
        Displacement of the target there, in pixels.
    z : float
        Height of the correlation's peak, in standard deviations.
    """

    y: float
    x: float
    dy: float
    dx: float
    z: float


@dataclass(frozen=True, slots=True)
class Affine:
    """Displacement ``shift + stretch @ (y, x)`` at (y, x) from the plane's centre, in pixels.

    Attributes
    ----------
    shift : (float, float)
        Displacement at the centre, (y, x).
    stretch : 2 x 2 floats, rows y and x
        Its gradient: pixels a pixel.
    residual_px : float
        Root mean square of what the parts' displacements leave over.
    """

    shift: tuple[float, float]
    stretch: tuple[tuple[float, float], tuple[float, float]]
    residual_px: float = 0.0

    @property
    def rotation_deg(self) -> float:
        """Turn of the target against the source, in degrees, from x towards y."""
        (_, yx), (xy, _) = self.stretch
        return math.degrees((yx - xy) / 2)

    @property
    def scale(self) -> float:
        """Magnification of the target against the source, mean of both axes."""
        (yy, _), (_, xx) = self.stretch
        return 1 + (yy + xx) / 2

    @property
    def shear(self) -> float:
        """Difference of the axes' magnifications, and skew: the larger of them."""
        (yy, yx), (xy, xx) = self.stretch
        return max(abs(yy - xx), abs(yx + xy))


def fit_affine(parts: Sequence[LocalShift], shape: tuple[int, int]) -> Affine | None:
    """Fit an affine map to displacements of parts, by least squares that outliers do not sway.

    Parameters
    ----------
    parts : sequence of LocalShift
        Displacements; the higher the peak, the more weight.
    shape : (int, int)
        Of the plane, in pixels.

    Returns
    -------
    Affine, optional
        None with fewer than six parts, or if they lie on a line.
    """
    if len(parts) < _LEAST:
        return None
    table = np.array(parts, dtype=float)
    unit = max(shape) / 2
    terms = np.column_stack([np.ones(len(table)), table[:, :2] / unit])
    if np.linalg.matrix_rank(terms, tol=1e-3 * len(table)) < 3:
        return None
    from scipy.optimize import least_squares

    moved = table[:, 2:4]
    weight = np.sqrt(table[:, 4] / table[:, 4].mean())

    def deviations(flat: np.ndarray) -> np.ndarray:
        left = (terms @ flat.reshape(3, 2) - moved) * weight[:, None]
        return np.asarray(left.ravel() / _OUTLIER_PX)

    first, *_ = np.linalg.lstsq(terms, moved, rcond=None)
    fitted = least_squares(deviations, first.ravel(), loss="soft_l1").x.reshape(3, 2)
    left = terms @ fitted - moved
    (ty, tx), (yy, xy), (yx, xx) = fitted / np.array([[1.0], [unit], [unit]])
    return Affine(
        shift=(float(ty), float(tx)),
        stretch=((float(yy), float(yx)), (float(xy), float(xx))),
        residual_px=float(np.sqrt(np.mean(left**2))),
    )
