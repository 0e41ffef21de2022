"""How like the truth a prediction is, how sure that is, and the no-learning control it has to beat."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "CONTROL_SIGMA_PX",
    "frame_bootstrap",
    "frame_of_file",
    "interval95",
    "no_learning_control",
    "pearson",
]

CONTROL_SIGMA_PX = 6.0
"""Width of the control's blur, in pixels."""

_DRAWS = 2000

_CROP_OF_FRAME = re.compile(r"(t[^_]*_z[^_]*)_[^_]*")
"""Files named tTIME_zPLANE_CROP."""


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


def frame_of_file(stem: str) -> str:
    """Return the frame that an image file is of: crops of one frame share its cells.

    Parameters
    ----------
    stem : str
        The file's name without suffix: ``tTIME_zPLANE_CROP`` is a crop of the frame ``tTIME_zPLANE``;
        a file of any other name is a frame of its own.
    """
    match = _CROP_OF_FRAME.fullmatch(stem)
    return match[1] if match else stem


def frame_bootstrap(
    values: ArrayLike, frames: Sequence[Hashable], *, seed: int = 0
) -> NDArray[np.float64]:
    """Return means over images with whole frames drawn anew, with replacement (Efron 1979).

    Images of one frame show the same cells, so that they are not independent observations.

    Parameters
    ----------
    values : array of float, (images,) or (images, columns)
        At least one image.
    frames : sequence of hashable
        The frame of each image.
    seed : int
        Of the drawing, so that a report can be repeated.

    Returns
    -------
    array of float64, (resamplings,) or (resamplings, columns)
    """
    table = np.asarray(values, dtype=np.float64)
    number: dict[Hashable, int] = {}
    member = np.array([number.setdefault(frame, len(number)) for frame in frames])
    sums = np.zeros((len(number), *table.shape[1:]))
    np.add.at(sums, member, table)
    count = np.bincount(member)
    drawn = np.random.default_rng(seed).integers(len(count), size=(_DRAWS, len(count)))
    images = count[drawn].sum(axis=1)
    means: NDArray[np.float64] = (sums[drawn].sum(axis=1).T / images).T
    return means


def interval95(means: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 2.5th and the 97.5th percentile of resampled means, (resamplings,)."""
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)
