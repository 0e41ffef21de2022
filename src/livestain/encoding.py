"""How a prediction, which is real numbers in a unit, is kept in uint16; 0 = not predicted.

The rule itself, for those who predict and those who store, in double precision:
``q = clip(rint((value - offset) / scale), 1, 65535)``. `livestain.inference.encoding` has its form for GPUs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from livestain.errors import StoreError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LARGEST", "SMALLEST", "Told", "decode", "encode", "encode_into", "refuse_not_finite"]

SMALLEST, LARGEST = 1, 65535
"""The ends of what is stored; 0 stands for "not predicted"."""

_BLOCK = 2**17
"""Pixels encoded at a time: in double precision they stay in the cache."""


class Told(NamedTuple):
    """What encoding a plane found out about it."""

    mean: float
    """Of the values, in their unit; NaN where some are not finite."""
    std: float
    """Standard deviation of the values, likewise."""
    clipped: float
    """Fraction of pixels that are stored as one of the ends."""
    bad: int
    """Number of values that are NaN or infinite."""


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
    told = encode_into(stored, values, scale, offset)
    refuse_not_finite(told.bad, values.size)
    return stored


def encode_into(out: NDArray[np.uint16], values: NDArray[Any], scale: float, offset: float) -> Told:
    """Encode a prediction into an array that is there, and tell what it holds.

    Block by block, so that a plane is read once and needs no memory of its size in double precision.

    Parameters
    ----------
    out : array of uint16, (y, x)
        Filled; 0 where a value is NaN or infinite, which whoever calls must refuse.
    values : array of float, (y, x)
        In the output's unit.
    scale, offset : float
        Of the virtual channel; scale > 0.
    """
    rows = max(1, _BLOCK // max(1, values[:1].size))
    buffer = np.empty((min(rows, len(values)), *values.shape[1:]), dtype=np.float64)
    scratch = np.empty_like(buffer)
    seen, mean, squares, ends, bad = 0, 0.0, 0.0, 0, 0
    # Only float64 can overflow here, and it then ends at the end of the range, as it should.
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(values), rows):
            part = values[start : start + rows]
            block, square = buffer[: len(part)], scratch[: len(part)]
            np.subtract(part, offset, out=block, dtype=np.float64)
            block /= scale
            # Block by block (Chan, Golub and LeVeque 1983), so that nothing cancels.
            own_mean = float(block.mean())
            np.subtract(block, own_mean, out=square)
            np.multiply(square, square, out=square)
            both = seen + block.size
            apart = own_mean - mean
            squares += float(square.sum()) + apart * apart * seen * block.size / both
            mean += apart * block.size / both
            seen = both
            np.rint(block, out=block)
            np.clip(block, SMALLEST, LARGEST, out=block)
            if not np.isfinite(own_mean):  # or a sum that overflowed
                wrong = ~np.isfinite(part)
                bad += int(np.count_nonzero(wrong))
                block[wrong] = 0
            stored = out[start : start + rows]
            stored[...] = block
            # In one comparison: the differences of both ends wrap to the largest two.
            inner = (stored - np.uint16(SMALLEST + 1)) < LARGEST - SMALLEST - 1
            ends += block.size - int(np.count_nonzero(inner))
    if not seen:
        return Told(float("nan"), float("nan"), 0.0, 0)
    spread = float(np.sqrt(squares / seen))
    return Told(offset + scale * mean, scale * spread, ends / seen, bad)


def refuse_not_finite(bad: int, size: int) -> None:
    """Raise a `StoreError` if `bad`, the number of values of `size` that are NaN or infinite, is not 0."""
    if bad:
        raise StoreError(
            f"The prediction holds {bad} values of {size} that are NaN or infinite; "
            "expected finite numbers. The model failed on this plane: look at its input, "
            "and at the precision it runs with."
        )


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
