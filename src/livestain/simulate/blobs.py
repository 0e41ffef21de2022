"""Small Gaussian bodies, of which everything in a cell but its bulk is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["Blobs"]


@dataclass(frozen=True, slots=True)
class Blobs:
    """Small Gaussian bodies, all arrays (n,).

    Attributes
    ----------
    x, y, z : array
        Centres in micrometres; z counts from the plane of the mitochondria, away from the glass.
    sigma : array
        Standard deviation of the body in micrometres.
    path : array
        Volume times the refractive index above the surrounding's, in cubic micrometres.
    label : array
        Volume times the brightness of the fluorescent label, in cubic micrometres.
    """

    x: Array
    y: Array
    z: Array
    sigma: Array
    path: Array
    label: Array

    @staticmethod
    def joined(parts: list[Blobs]) -> Blobs:
        """Return all blobs of `parts` as one."""
        names = ("x", "y", "z", "sigma", "path", "label")
        if not parts:
            return Blobs(*(np.zeros(0) for _ in names))
        return Blobs(*(np.concatenate([getattr(p, n) for p in parts]) for n in names))
