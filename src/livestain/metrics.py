"""How like the truth a prediction is, and the no-learning control it has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CONTROL_SIGMA_PX", "no_learning_control", "pearson"]

CONTROL_SIGMA_PX = 6.0
"""Width of the control's blur, in pixels."""


def pearson(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return the Pearson correlation of two planes over all their pixels.

    Parameters
    ----------
    a, b : array, (y, x)
        Any real dtype, equal shapes.

    Returns
    -------
    float
        Between -1 and 1; 0.0 where either plane is constant, since it then says nothing.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if a.shape != b.shape:
        raise ValueError(f"Pearson compares planes of equal shape; given {a.shape} and {b.shape}.")
    x = a.astype(np.float64).ravel()
    y = b.astype(np.float64).ravel()
    x -= x.mean()
    y -= y.mean()
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / norm if norm > 0 else 0.0


def no_learning_control(brightfield: NDArray[Any]) -> NDArray[np.float64]:
    """Return what can be had without learning: |brightfield - median|, blurred by a Gaussian.

    Parameters
    ----------
    brightfield : array, (y, x)
        The raw plane, any real dtype.

    Returns
    -------
    array of float64, (y, x)
    """
    from scipy.ndimage import gaussian_filter

    plane = brightfield.astype(np.float64)
    blurred: NDArray[np.float64] = gaussian_filter(
        np.abs(plane - np.median(plane)), CONTROL_SIGMA_PX
    )
    return blurred
