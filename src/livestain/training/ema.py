"""The running average of the weights: it is what validates and what is exported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from livestain.training.extra import needs_train_extra

with needs_train_extra():
    from lightning.pytorch.callbacks import Callback

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer
    from torch import nn

__all__ = ["AverageWeights", "update_average"]


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
    now = network.state_dict()
    for key, mine in average.state_dict().items():
        if mine.is_floating_point():
            mine.lerp_(now[key], 1 - keep)
        else:
            mine.copy_(now[key])


class AverageWeights(Callback):
    """Update the module's `average` after every step.

    Parameters
    ----------
    decay : float
        See `update_average`.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Take in the weights of the step that has just been made."""
        module: Any = pl_module
        update_average(
            module.average, module.network, decay=self.decay, updates=trainer.global_step
        )
