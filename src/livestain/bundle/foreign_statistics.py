"""Statistics of a tensor as bioimage.io's steps take them, before any step."""

from __future__ import annotations

import math
from typing import Any

import torch

from livestain.bundle.percentiles import counts_not_above, value_at

__all__ = ["Raw"]


class Raw:
    """Statistics of a tensor as it came in, each taken once.

    Parameters
    ----------
    x : torch.Tensor
        float32, (n, channels, [z], y, x).
    whole : bool
        Whether all its values are whole counts of 0 to 65535, of which a histogram is faster than selection.
    """

    def __init__(self, x: torch.Tensor, *, whole: bool = False) -> None:
        self._x = x
        self._whole = whole
        self._known: dict[Any, Any] = {}

    def moments(self, dims: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and standard deviation over some axes, which stay with length 1."""
        if dims not in self._known:
            mean = self._x.mean(dim=dims, keepdim=True, dtype=torch.float64)
            centred = self._x - mean.to(self._x.dtype)
            variance = centred.square().mean(dim=dims, keepdim=True, dtype=torch.float64)
            self._known[dims] = (mean.float(), variance.sqrt().float())
        found: tuple[torch.Tensor, torch.Tensor] = self._known[dims]
        return found

    def quantile(self, q: float, dims: tuple[int, ...], *, linear: bool) -> torch.Tensor:
        """Return a quantile over some axes: interpolated, or a value that is there."""
        kept = [axis for axis in range(self._x.ndim) if axis not in dims]
        flat = self._x.permute(*kept, *dims).flatten(len(kept))
        n = flat.shape[-1]
        at = q * (n - 1) if linear else max(math.ceil(q * n - 1e-9) - 1, 0)
        low = min(math.floor(at), n - 1)
        value = self._nth(flat, low, dims)
        if at > low:
            value = value + (self._nth(flat, low + 1, dims) - value) * (at - low)
        return value.reshape([1 if d in dims else s for d, s in enumerate(self._x.shape)])

    def _nth(self, flat: torch.Tensor, place: int, dims: tuple[int, ...]) -> torch.Tensor:
        key = (place, dims)
        if key not in self._known and self._whole:
            self._known[key] = value_at(self._not_above(flat, dims), place + 1).reshape(
                flat.shape[:-1]
            )
        elif key not in self._known:
            self._known[key] = flat.kthvalue(place + 1, dim=-1).values
        found: torch.Tensor = self._known[key]
        return found

    def _not_above(self, flat: torch.Tensor, dims: tuple[int, ...]) -> torch.Tensor:
        """Return how many values are not above each count, by row."""
        key = ("not above", dims)
        if key not in self._known:
            self._known[key] = counts_not_above(flat.reshape(-1, flat.shape[-1]), 2**16)
        found: torch.Tensor = self._known[key]
        return found
