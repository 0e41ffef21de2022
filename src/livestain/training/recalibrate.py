"""Statistics of batch normalisation computed again, of a training's final weights.

While a network trains, the running statistics follow weights that change, over few and small batches; after
a short training they are of no one network ("precise BN": Wu and Johnson 2021, arXiv:2105.07576).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from livestain.errors import SettingsError
from livestain.training.sampling import Crops

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from livestain.training.pairs import PairSet
    from livestain.training.recipe import Recipe

__all__ = ["batch_norms", "recalibrate"]

_CROPS, _BATCHES = 256, 16
"""Fewest crops, and fewest batches."""


def recalibrate(
    network: nn.Module,
    pairs: PairSet,
    recipe: Recipe,
    *,
    tick: Callable[[int, int], None] | None = None,
) -> int:
    """Compute the running statistics of a network's batch normalisation again; the weights stay.

    They become the mean over batches of crops, drawn as they were for the training, without augmentation.

    Parameters
    ----------
    network : nn.Module
        Changed in place, and left in eval mode.
    pairs : PairSet
        What was trained on.
    recipe : Recipe
        Says how crops are drawn and normalised, and how large batches are.
    tick : callable, optional
        Called with the number of batches that are done, and of all.

    Returns
    -------
    int
        The number of crops.

    Raises
    ------
    SettingsError
        If the network has no such statistics.
    DataError
        If the pairs cannot be cropped.
    """
    norms = batch_norms(network)
    if not norms:
        raise SettingsError(
            f"The network {recipe.network.name} of the recipe {recipe.name} has no batch normalisation, so "
            "nothing can be recalibrated. Export without it."
        )
    batches = max(_BATCHES, -(-_CROPS // recipe.batch_size))
    crops = Crops(pairs, recipe)
    loader = DataLoader(
        crops, batch_size=recipe.batch_size, sampler=range(batches * recipe.batch_size)
    )
    # torch's own update_bn trains the whole network, and would let dropout into the statistics.
    network.eval()
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean over all batches
        layer.train()
    with torch.inference_mode():
        for done, batch in enumerate(loader, start=1):
            network(batch["source"])
            if tick is not None:
                tick(done, batches)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
    network.eval()
    return batches * recipe.batch_size


def batch_norms(network: nn.Module) -> list[_BatchNorm]:
    """Return the layers of batch normalisation that have running statistics."""
    return [
        layer
        for layer in network.modules()
        if isinstance(layer, _BatchNorm) and layer.running_mean is not None
    ]
