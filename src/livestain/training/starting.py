"""Beginning with the weights of another model instead of random ones (fine-tuning)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from livestain.bundle import ForeignSpec, find_bundle
from livestain.errors import SettingsError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from livestain.training.recipe import Recipe

__all__ = ["weights_of_start"]


def weights_of_start(recipe: Recipe, network: nn.Module) -> dict[str, torch.Tensor] | None:
    """Return the weights of the recipe's `start`, if it has one, for its network, on any device.

    Raises
    ------
    BundleError
        If there is no such bundle, or it is damaged.
    SettingsError
        If its network is another.
    """
    if recipe.start is None:
        return None
    bundle = find_bundle(recipe.start)
    theirs, wanted = bundle.description.network, recipe.network_spec()
    begun_from = bundle.load_module().network
    if isinstance(theirs, ForeignSpec) or begun_from is None:
        raise SettingsError(
            f"The recipe {recipe.name} cannot start from {bundle.name}: that is another tool's network. "
            "Give a bundle of livestain's, or another start."
        )
    begun: dict[str, torch.Tensor] = begun_from.state_dict()
    ours = network.state_dict()
    differ = sorted(
        key
        for key in ours.keys() | begun.keys()
        if key not in ours or key not in begun or ours[key].shape != begun[key].shape
    )
    if differ:
        raise SettingsError(
            f"The recipe {recipe.name} cannot start from {bundle.name}: that is a {theirs.name} with "
            f"{theirs.kwargs}, the recipe's network a {wanted.name} with {wanted.kwargs} ({len(differ)} "
            f"weights differ in shape or name, first {differ[0]}). Give the same network, or another start."
        )
    return begun
