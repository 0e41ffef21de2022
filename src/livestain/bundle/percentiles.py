"""Exact percentiles of counts: the value at the nearest rank, never one between two counts.

By three ways that give the same bits: a histogram for the camera's whole counts, selection for counts that
were resampled or corrected, and a sort, the one way that ONNX knows, in an exported graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["percentiles"]

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
        return _by_histogram(counts, ranks, _BINS[counts.dtype])
    values = counts.to(torch.float32)
    return [torch.kthvalue(values, rank, dim=1).values for rank in ranks]


def _by_histogram(counts: torch.Tensor, ranks: list[int], bins: int) -> list[torch.Tensor]:
    places = counts.to(torch.int64)
    # Not `bincount`, which on a GPU waits for the largest count, and takes one row at a time.
    one = torch.ones((), dtype=torch.int32, device=counts.device)
    histogram = torch.zeros((counts.shape[0], bins), dtype=torch.int32, device=counts.device)
    histogram.scatter_add_(1, places, one.expand(places.shape))
    not_above = histogram.cumsum(dim=1, dtype=torch.int32)
    # Filled where it lies: a tensor made from a list would wait for its way to a GPU.
    each = [
        torch.full((counts.shape[0], 1), rank, dtype=torch.int32, device=counts.device)
        for rank in ranks
    ]
    found = torch.searchsorted(not_above, torch.cat(each, dim=1))
    return [column.to(torch.float32) for column in found.unbind(dim=1)]
