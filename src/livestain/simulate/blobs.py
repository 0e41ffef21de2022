"""Small Gaussian bodies, of which everything in a cell but its bulk is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["Blobs"]

_NAMES = ("x", "y", "z", "sigma", "path", "label")


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

    @classmethod
    def spheres(cls, x: Array, y: Array, z: Array, radius: Array, index: Array) -> Blobs:
        """Return unlabelled bodies of the volume and the width of spheres (radius in um)."""
        path = index * 4 / 3 * np.pi * radius**3
        # A ball's variance along an axis is a fifth of its squared radius.
        return cls(x, y, z, radius / np.sqrt(5), path, np.zeros(len(x)))

    @staticmethod
    def joined(parts: list[Blobs]) -> Blobs:
        """Return all blobs of `parts` as one."""
        if not parts:
            return Blobs(*(np.zeros(0) for _ in _NAMES))
        return Blobs(*(np.concatenate([getattr(p, n) for p in parts]) for n in _NAMES))
