"""What of a short training's score is lost because BatchNorm's running statistics have not settled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from livestain.bundle import find_bundle
from livestain.metrics import pearson
from livestain.training.find import find_pairs
from livestain.training.pair import PairSpec

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from livestain.training.pairs import PairSet
    from livestain.training.recipe import Recipe

__all__ = ["settled_scores"]

_BATCH = 8


def settled_scores(
    bundle: Path, recipe: Recipe, data: Path, left_out: str
) -> dict[str, float] | None:
    """Score a model of single planes as it is, and with normalisation statistics of all its training images.

    The statistics are those of the final weights over whole training images ("precise BN": Wu and Johnson
    2021, arXiv 2105.07576); the weights are untouched, and the movie left out is only scored on.

    Parameters
    ----------
    bundle : Path
        A model of single planes.
    recipe : Recipe
        That it was trained by.
    data : Path
        Folder of movies.
    left_out : str
        The movie to score.

    Returns
    -------
    dict or None
        Mean Pearson correlation, ``as trained`` and ``recalibrated``. None of networks without BatchNorm.
    """
    module: Any = find_bundle(bundle).load_module()
    norms = [layer for layer in module.network.modules() if isinstance(layer, _BatchNorm)]
    if not norms:
        return None
    with find_pairs(data, PairSpec.of_recipe(recipe)) as found, torch.inference_mode():
        test = _images(module, found.select([left_out]))
        train = _images(module, found.select(None, leave_out=(left_out,)))
        before = _score(module.network, test)
        for layer in norms:
            layer.reset_running_stats()
            layer.momentum = None  # the plain mean over all that is seen
            layer.train()
        for first in range(0, len(train), _BATCH):
            module.network(torch.cat([image for image, _ in train[first : first + _BATCH]]))
        module.network.eval()
        return {"as trained": before, "recalibrated": _score(module.network, test)}


def _images(module: Any, pairs: PairSet) -> list[tuple[torch.Tensor, NDArray[Any]]]:
    """Return each pair's normalised source, (1, 1, y, x), and its target, (y, x)."""
    read = (pairs.read(pair) for pair in pairs.pairs)
    return [
        (
            module.prepare(torch.from_numpy(one.source.reshape(1, 1, *one.source.shape[-2:]))),
            one.target.reshape(one.target.shape[-2:]),
        )
        for one in read
    ]


def _score(network: Any, images: list[tuple[torch.Tensor, NDArray[Any]]]) -> float:
    network.eval()
    return float(np.mean([pearson(network(x)[0, 0].numpy(), y) for x, y in images]))
