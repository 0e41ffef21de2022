"""How a prediction, which is real numbers in a unit, is kept in uint16; 0 = not predicted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from livestain.errors import StoreError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["decode", "encode"]

_ROWS = 64
"""Rows encoded at a time: in double precision a block of a 2048² plane stays in the cache."""


def encode(values: NDArray[Any], scale: float, offset: float) -> NDArray[np.uint16]:
    """Encode a prediction: q = clip(rint((value - offset) / scale), 1, 65535).

    Parameters
    ----------
    values : array of float, (y, x)
        In the output's unit.
    scale, offset : float
        Of the virtual channel; scale > 0.

    Returns
    -------
    array of uint16, (y, x)
        Never 0, which stands for "not predicted".

    Raises
    ------
    StoreError
        If a value is NaN or infinite: that is an error of the model and never becomes a pixel.
    """
    values = np.asarray(values)
    stored = np.empty(values.shape, dtype=np.uint16)
    for start in range(0, len(values), _ROWS):
        block = values[start : start + _ROWS].astype(np.float64)
        if not np.isfinite(block).all():
            bad = int(values.size - np.isfinite(values).sum())
            raise StoreError(
                f"The prediction holds {bad} values of {values.size} that are NaN or infinite; "
                "expected finite numbers. The model failed on this plane: look at its input, "
                "and at the precision it runs with."
            )
        block -= offset
        block /= scale
        np.rint(block, out=block)
        np.clip(block, 1, 65535, out=block)
        stored[start : start + _ROWS] = block
    return stored


def decode(stored: NDArray[np.uint16], scale: float, offset: float) -> NDArray[np.float32]:
    """Return the prediction in its unit: offset + scale * stored, NaN where nothing was predicted.

    Parameters
    ----------
    stored : array of uint16, (y, x)
    scale, offset : float
        Of the virtual channel.

    Returns
    -------
    array of float32, (y, x)
    """
    values = (np.asarray(stored).astype(np.float64) * scale + offset).astype(np.float32)
    values[np.asarray(stored) == 0] = np.nan
    return values
