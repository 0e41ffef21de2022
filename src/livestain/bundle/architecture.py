"""How other tools (bioimageio.core) build a bundle's module; livestain itself never asks rdf.yaml."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from livestain.bundle.description import NormalisationSettings, WindowSpec
from livestain.bundle.module import StainModule
from livestain.networks import build_network

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["stain_module"]


def stain_module(
    network: str,
    network_kwargs: Mapping[str, Any],
    normalisation: Mapping[str, Any],
    **options: Any,
) -> StainModule:
    """Build a `StainModule` with random weights from plain values, as rdf.yaml holds them.

    Parameters
    ----------
    network : str
        Name in `livestain.networks`.
    network_kwargs : mapping
        Its keyword arguments.
    normalisation : mapping
        Fields of `NormalisationSettings`.
    **options : Any
        `sources`, `own_plane`, `spread` and `window` of `StainModule`, where they are not the usual ones;
        the window by its fields.

    Raises
    ------
    KeyError
        If no network has that name.
    SettingsError
        If the normalisation or the window does not fit its schema.
    """
    settings = NormalisationSettings.parse(dict(normalisation), where="normalisation")
    if "window" in options:
        options["window"] = WindowSpec.parse(dict(options["window"]), where="window")
    return StainModule(build_network(network, **network_kwargs), settings, **options)
