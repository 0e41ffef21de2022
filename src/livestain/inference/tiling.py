"""Planes in tiles that a network predicts as it would predict the whole, for devices of little memory.

A tile is cut on the network's grid and with a margin of at least the network's reach (its halo). Its core
is then what the whole plane's prediction has there: no pixel of it sees anything beyond the margin, and its
pooling grid lies where it lies in the whole. At the plane's own borders a tile ends where the plane does.
What is cut is normalised and padded already, so statistics and padding are those of the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Tile", "core_sizes", "predict_tiled", "tiles"]

_WORTH = 0.8
"""Tiles that take more than this part of the pixels of those before would hardly take less memory."""

_LEAST_CORE = 0.2
"""Smallest part of a tile that may be core: the rest is margin, which is predicted several times."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile: what is cut out, and where its core lies in the whole and in what is cut out."""

    seen: tuple[slice, slice]
    """In y and x, what the network is given."""

    core: tuple[slice, slice]
    """In y and x, the part of the whole that it fills."""

    kept: tuple[slice, slice]
    """The same, within `seen`."""

    @property
    def pixels(self) -> int:
        """Number of pixels that the network is given."""
        height, width = (part.stop - part.start for part in self.seen)
        return int(height * width)


def tiles(shape: tuple[int, int], core: tuple[int, int], *, divisor: int, halo: int) -> list[Tile]:
    """Return tiles whose cores fill a plane, row by row.

    Parameters
    ----------
    shape : tuple of int
        Height and width of the plane, in pixels; multiples of `divisor`.
    core : tuple of int
        Height and width of a core; multiples of `divisor`. Those at the bottom and the right may be smaller.
    divisor : int
        The network's grid, in pixels.
    halo : int
        The network's reach, in pixels.
    """
    margin = -(-halo // divisor) * divisor
    return [
        Tile(*((down[part], right[part]) for part in range(3)))
        for down in _along(shape[0], core[0], margin)
        for right in _along(shape[1], core[1], margin)
    ]


def _along(side: int, core: int, margin: int) -> Iterator[tuple[slice, slice, slice]]:
    """Cut one axis; each part as a tile has it."""
    for start in range(0, side, core):
        stop = min(start + core, side)
        first, last = max(start - margin, 0), min(stop + margin, side)
        yield slice(first, last), slice(start, stop), slice(start - first, stop - first)


@lru_cache(maxsize=64)  # asked for each plane, of few shapes
def core_sizes(
    shape: tuple[int, int], *, divisor: int, halo: int | None
) -> tuple[tuple[int, int], ...]:
    """Return the cores to try where memory is short: the whole plane, then ever smaller ones.

    Each needs clearly less memory than the one before; where margins would take up what smaller cores
    save, or most of the time, there are no more.

    Parameters
    ----------
    shape : tuple of int
        Height and width of the plane, in pixels; multiples of `divisor`.
    divisor, halo : int
        See `tiles`; a network without halo sees the whole plane, and gets it.

    Returns
    -------
    tuple of tuple of int
        Heights and widths, in pixels; at least the whole plane's.
    """
    if halo is None:
        return (shape,)
    found = [shape]
    while True:
        height, width = found[-1]
        half_height, half_width = _half(height, divisor), _half(width, divisor)
        # The longer side first: near-square cores have the least margin.
        one = (half_height, width) if height >= width else (height, half_width)
        before = _most(shape, found[-1], divisor, halo)
        for core in (one, (half_height, half_width)):
            most = _most(shape, core, divisor, halo)
            if _LEAST_CORE * most <= core[0] * core[1] and most <= _WORTH * before:
                found.append(core)
                break
        else:
            return tuple(found)


def _half(side: int, divisor: int) -> int:
    return -(-side // (2 * divisor)) * divisor


def _most(shape: tuple[int, int], core: tuple[int, int], divisor: int, halo: int) -> int:
    return max(tile.pixels for tile in tiles(shape, core, divisor=divisor, halo=halo))


def predict_tiled(
    predict: Callable[[torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    core: tuple[int, int],
    *,
    divisor: int,
    halo: int,
) -> torch.Tensor:
    """Predict tile by tile what `predict` would predict from the whole.

    Parameters
    ----------
    predict : callable
        Maps (n, channels, [z], y, x) to (n, outputs, [z], y, x) with the same sides; any y and x that are
        multiples of `divisor`.
    x : torch.Tensor, (n, channels, [z], y, x)
        Normalised, and padded to the grid.
    core, divisor, halo
        See `tiles`.

    Returns
    -------
    torch.Tensor
        float32, (n, outputs, [z], y, x), on the device of `x`.
    """
    shape = (x.shape[-2], x.shape[-1])
    whole: torch.Tensor | None = None
    for tile in tiles(shape, core, divisor=divisor, halo=halo):
        predicted = predict(x[..., tile.seen[0], tile.seen[1]])
        if whole is None:
            size = (*predicted.shape[:-2], *shape)
            whole = torch.empty(size, dtype=torch.float32, device=x.device)
        whole[..., tile.core[0], tile.core[1]] = predicted[..., tile.kept[0], tile.kept[1]]
        del predicted  # or it would stay while the next tile is predicted
    assert whole is not None  # noqa: S101 - a plane has a tile
    return whole
