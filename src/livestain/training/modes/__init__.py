"""Ways of training, each a Lightning module: supervised, adversarial, in cycles.

Noise2noise and distillation are supervised: they differ in what the batches hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from livestain.training.modes.adversarial import AdversarialTraining
from livestain.training.modes.base import StainTraining
from livestain.training.modes.cycle import CycleTraining
from livestain.training.modes.supervised import SupervisedTraining
from livestain.training.ranks import Ranks
from livestain.training.starting import weights_of_start

if TYPE_CHECKING:
    from livestain.training.recipe import Recipe

__all__ = ["StainTraining", "check_networks", "training_of"]


def training_of(recipe: Recipe, ranks: Ranks | None = None) -> StainTraining:
    """Return the training that a recipe asks for, with the first weights of its seed.

    Raises
    ------
    SettingsError
        If the recipe's networks cannot be built, or do not fit the rest of it.
    """
    return _kind(recipe)(recipe, ranks or Ranks())


def check_networks(recipe: Recipe) -> None:
    """Refuse networks that cannot be built, without the time and memory of building them.

    Raises
    ------
    SettingsError, BundleError
        As `training_of`.
    """
    with torch.device("meta"):
        networks = _kind(recipe).build(recipe)
    weights_of_start(recipe, networks["network"])


def _kind(recipe: Recipe) -> type[StainTraining]:
    if recipe.cycle is not None:
        return CycleTraining
    if recipe.adversarial is not None:
        return AdversarialTraining
    return SupervisedTraining
