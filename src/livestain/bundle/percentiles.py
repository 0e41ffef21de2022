"""Exact percentiles of counts: the value at the nearest rank, never one between two counts.

By three ways that give the same bits: a histogram for the camera's whole counts, selection for counts that
were resampled or corrected, and a sort, the one way that ONNX knows, in an exported graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["counts_not_above", "percentiles", "value_at"]

_BINS = {torch.uint8: 2**8, torch.uint16: 2**16}
"""Counts that there are, by dtype."""

_WHOLE = 100_000
"""A hundred percent, in thousandths of a percent."""


def percentiles(counts: torch.Tensor, percents: Sequence[float]) -> list[torch.Tensor]:
    """Return percentiles of each row of counts.

    The percentile q of N counts is the smallest count that at least q percent of them do not exceed: number
    ``ceil(N * q / 100)`` of the sorted counts, and the first for 0 ("inverted CDF", definition 1 of Hyndman
    and Fan 1996).

    Parameters
    ----------
    counts : torch.Tensor, (rows, N)
        Of any real dtype; finite.
    percents : sequence of float
        0 to 100, to three decimals.

    Returns
    -------
    list of torch.Tensor
        float32, (rows,), for each percent.
    """
    n = counts.shape[1]
    # Whole numbers alone, so that rounding can never choose a neighbour; n may be known to a graph only
    # when it runs.
    ranks = [
        torch.sym_max(1, (n * round(1000 * percent) + _WHOLE - 1) // _WHOLE) for percent in percents
    ]
    if torch.compiler.is_exporting():
        ordered = torch.sort(counts.to(torch.float32), dim=1).values
        return [ordered[:, rank - 1 : rank].flatten() for rank in ranks]
    if counts.dtype in _BINS:
        not_above = counts_not_above(counts, _BINS[counts.dtype])
        return [value_at(not_above, rank) for rank in ranks]
    values = counts.to(torch.float32)
    return [torch.kthvalue(values, rank, dim=1).values for rank in ranks]


def counts_not_above(counts: torch.Tensor, bins: int) -> torch.Tensor:
    """Return how many of each row are not above each count: int32, (rows, bins).

    Parameters
    ----------
    counts : torch.Tensor, (rows, N)
        Whole numbers of 0 to ``bins - 1``, of any dtype.
    bins : int
        How many counts there are.
    """
    places = counts.to(torch.int64)
    # Not `bincount`, which on a GPU waits for the largest count, and takes one row at a time.
    one = torch.ones((), dtype=torch.int32, device=counts.device)
    histogram = torch.zeros((counts.shape[0], bins), dtype=torch.int32, device=counts.device)
    histogram.scatter_add_(1, places, one.expand(places.shape))
    return histogram.cumsum(dim=1, dtype=torch.int32)


def value_at(not_above: torch.Tensor, rank: int) -> torch.Tensor:
    """Return number `rank`, from 1, of each row's sorted counts: float32, (rows,)."""
    # Filled where it lies: a tensor made from a list would wait for its way to a GPU.
    wanted = torch.full((not_above.shape[0], 1), rank, dtype=torch.int32, device=not_above.device)
    return torch.searchsorted(not_above, wanted)[:, 0].to(torch.float32)
