"""Lightning's part: device, processes, the loop over the batches."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from livestain.training.extra import needs_train_extra
from livestain.training.order import Order

with needs_train_extra():
    from lightning.pytorch import Trainer
    from lightning.pytorch.strategies import DDPStrategy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lightning.pytorch.callbacks import Callback
    from torch.utils.data import Dataset

    from livestain.training.modes import StainTraining

__all__ = ["fit"]


def fit(
    training: StainTraining, crops: Dataset[Any], where: torch.device, callbacks: list[Callback]
) -> None:
    """Make the steps that are still to be made.

    Parameters
    ----------
    training : StainTraining
        Taken up from a checkpoint by a resumed run.
    crops : Dataset
        Samples by number.
    where : torch.device
        Of this process.
    callbacks : list of Callback
        What happens after each step, in order.
    """
    recipe, ranks = training.recipe, training.ranks
    if training.done >= recipe.steps:
        return
    loader: DataLoader[Any] = DataLoader(
        crops,
        batch_sampler=Order(training.done, recipe.steps, recipe.batch_size, ranks),
        num_workers=recipe.loaders,
        # Everywhere as on Windows: a forked process inherits locks and threads in any state.
        multiprocessing_context="spawn" if recipe.loaders else None,
        pin_memory=where.type == "cuda",
    )
    strategy: Any = "auto"
    if ranks.world > 1:
        strategy = DDPStrategy(find_unused_parameters=training.several_backwards)
        if where.type == "cuda":
            for name in training.names:
                network: Any = nn.SyncBatchNorm.convert_sync_batchnorm(getattr(training, name))
                setattr(training, name, network)
    if where.type == "cpu":
        devices: Any = ranks.local_world
    else:
        devices = ranks.local_world if ranks.world > 1 else [where.index or 0]
    with _quiet_lightning():
        trainer = Trainer(
            accelerator="gpu" if where.type == "cuda" else "cpu",
            devices=devices,
            num_nodes=ranks.world // ranks.local_world,
            strategy=strategy,
            min_epochs=0,
            max_epochs=1,
            precision="32-true",
            logger=False,
            callbacks=callbacks,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        try:
            trainer.fit(training, loader)
        except SystemExit as end:
            # Lightning ends the whole process when the user interrupts; ours to decide.
            if trainer.interrupted:
                raise KeyboardInterrupt from end
            raise


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep back advice that does not apply, such as loader processes for planes that lie in memory."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\.")
            yield
    finally:
        logger.setLevel(level)
