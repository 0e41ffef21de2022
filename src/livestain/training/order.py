"""Which samples a process draws, in which order: the same whoever loads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.utils.data import Sampler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from livestain.training.ranks import Ranks

__all__ = ["Order"]


class Order(Sampler[list[int]]):
    """The numbers of the samples of each batch that is still to come.

    Parameters
    ----------
    first, stop : int
        Steps that are done, and steps in all.
    batch_size : int
        Samples a step, over all processes.
    ranks : Ranks
        Each takes its share of every batch.
    """

    def __init__(self, first: int, stop: int, batch_size: int, ranks: Ranks) -> None:
        self._steps = range(first, stop)
        self._batch_size = batch_size
        self._ranks = ranks

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the numbers of a batch, or of this process's share of it."""
        share = self._ranks.share(self._batch_size)
        for step in self._steps:
            start = step * self._batch_size + self._ranks.rank * share
            yield list(range(start, start + share))

    def __len__(self) -> int:
        """Return how many batches are still to come."""
        return len(self._steps)
