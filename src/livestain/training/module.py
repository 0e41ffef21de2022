"""What a recipe builds: its network, its discriminator, and the module that validates and is exported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from livestain.bundle.module import StainModule
from livestain.errors import SettingsError
from livestain.networks import build_network

if TYPE_CHECKING:
    from torch import nn

    from livestain.bundle.description import NetworkSpec
    from livestain.training.recipe import Recipe

__all__ = ["build_discriminator", "build_from_recipe", "stain_module"]


def build_from_recipe(recipe: Recipe) -> nn.Module:
    """Build the recipe's network with random weights.

    Raises
    ------
    SettingsError
        If there is no such network, it does not take these arguments, or the crop does not fit it.
    """
    network = _build(recipe, recipe.network_spec())
    sides = {"crop": (recipe.crop, "pixels", int(getattr(network, "divisor", 1)))}
    if recipe.dims == 3:
        sides["crop_depth"] = (recipe.crop_depth, "planes", int(getattr(network, "divisor_z", 1)))
    for key, (side, unit, divisor) in sides.items():
        if side % divisor:
            raise SettingsError(
                f"The recipe {recipe.name} has a {key} of {side} {unit}; its network takes multiples "
                f"of {divisor}. Choose {max(side // divisor, 1) * divisor}."
            )
    return network


def build_discriminator(recipe: Recipe, spec: NetworkSpec, in_channels: int) -> nn.Module:
    """Build a network that judges images of so many channels, with random weights.

    Raises
    ------
    SettingsError
        If there is no such network, or it does not take these arguments.
    """
    return _build(
        recipe, spec.model_copy(update={"kwargs": {"in_channels": in_channels, **spec.kwargs}})
    )


def _build(recipe: Recipe, spec: NetworkSpec) -> nn.Module:
    try:
        return build_network(spec.name, **spec.kwargs)
    except (KeyError, TypeError, ValueError) as error:
        told = str(error.args[0]) if error.args else str(error)
        raise SettingsError(f"The recipe {recipe.name} cannot have its network: {told}") from error


def stain_module(recipe: Recipe, network: nn.Module) -> StainModule:
    """Put a network behind its recipe's normalisation: raw counts in, predictions out, as live.

    Returns
    -------
    StainModule
        In eval mode. Validation, export and the live path all run this one.
    """
    window = recipe.window
    # A whole stack is predicted at once; of any other window of a 3-D network, its own plane alone.
    one_plane = recipe.dims == 3 and window.z != "all"
    options: dict[str, Any] = {
        "sources": len(recipe.sources),
        "own_plane": window.own_plane if one_plane else None,
        "spread": recipe.loss.predicts_spread,
        "window": window,
    }
    return StainModule(network, recipe.normalisation, **options).eval()
