"""How far a prediction is from the bundle's test output."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["relative_difference"]


def relative_difference(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    """Return the RMS difference relative to the standard deviation, of the worst output.

    Parameters
    ----------
    found, wanted : array of float32, (1, outputs, y, x) or (1, outputs, z, y, x)
        Each output is compared by itself, since their units may differ by orders of magnitude.

    Returns
    -------
    float
        0 for equal arrays, infinite where a value is not finite.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if found.shape != wanted.shape:
        raise ValueError(f"gives {found.shape} from the test input; expected {wanted.shape}")
    if not np.isfinite(found).all():
        return float("inf")
    axes = (0, *range(2, wanted.ndim))
    error = found.astype(np.float64) - wanted
    rms = np.sqrt(np.square(error).mean(axis=axes))
    return float((rms / np.maximum(wanted.std(axis=axes, dtype=np.float64), 1e-12)).max())
