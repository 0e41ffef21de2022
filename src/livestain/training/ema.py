"""The running average of the weights: it is what validates and what is exported."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

if TYPE_CHECKING:
    from torch import nn

__all__ = ["update_average"]


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, *, decay: float, updates: int) -> None:
    """Move an average towards the network as it is after a step.

    The share that is kept grows as (1 + n) / (10 + n) up to `decay`, so that the random first weights
    are soon forgotten.

    Parameters
    ----------
    average, network : nn.Module
        Of the same architecture; parameters and buffers are averaged, integers are copied.
    decay : float
        Largest share that one step keeps, in [0, 1).
    updates : int
        Number n of this update, counted from 1.
    """
    keep = min(decay, (1 + updates) / (10 + updates))
    mine, now = ([*n.parameters(), *n.buffers()] for n in (average, network))
    pairs = list(zip(mine, now, strict=True))
    # All at once: a loop over the tensors costs a GPU more than the averaging itself.
    moved = [(m, n) for m, n in pairs if m.is_floating_point()]
    get_ema_multi_avg_fn(keep)([m for m, _ in moved], [n for _, n in moved], 0)
    for m, n in pairs:
        if not m.is_floating_point():
            m.copy_(n)
