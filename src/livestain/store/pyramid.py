"""Pyramid levels: each the 2x2 mean of the one before, so that a viewer need not read it all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["halve", "level_shapes", "levels_of"]

_SMALLEST_SIDE_PX = 256
"""The last level's longer side is about this: between 3/4 and 3/2 of it."""


def level_shapes(height: int, width: int) -> list[tuple[int, int]]:
    """Return (y, x) of every level, level 0 first; an odd side is rounded up."""
    shapes = [(height, width)]
    while 2 * max(shapes[-1]) > 3 * _SMALLEST_SIDE_PX:
        y, x = shapes[-1]
        shapes.append(((y + 1) // 2, (x + 1) // 2))
    return shapes


def halve(plane: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Return the 2x2 mean, rounded to the nearest count, halves up.

    Parameters
    ----------
    plane : array of uint16, (y, x)

    Returns
    -------
    array of uint16, (ceil(y / 2), ceil(x / 2))
        At an odd side's end the mean is over the pixels that exist.
    """
    y, x = plane.shape
    if y % 2 or x % 2:
        # A repeated edge leaves the mean over the pixels that exist unchanged.
        plane = np.pad(plane, ((0, y % 2), (0, x % 2)), mode="edge")
    rows = plane[0::2].astype(np.uint32)
    rows += plane[1::2]
    total = rows[:, 0::2] + rows[:, 1::2]
    total += 2
    total >>= 2
    return total.astype(np.uint16)


def levels_of(plane: NDArray[np.uint16]) -> list[NDArray[np.uint16]]:
    """Return levels 1, 2, ... of a plane of level 0 (none where it is small)."""
    levels: list[NDArray[np.uint16]] = []
    for _ in level_shapes(*plane.shape)[1:]:
        levels.append(halve(levels[-1] if levels else plane))
    return levels
