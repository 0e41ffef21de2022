"""A deployed model: description, normalisation, reading, writing and verifying."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from livestain.bundle.description import (
        BundleDescription,
        ChannelKind,
        InputSpec,
        Latency,
        NetworkSpec,
        NormalisationSettings,
        OutputChannel,
        ReferenceStatistics,
        WindowSpec,
    )
    from livestain.bundle.find import bundles_for, find_bundle, search_path
    from livestain.bundle.fit import check_fit
    from livestain.bundle.module import StainModule
    from livestain.bundle.normalisation import Normalise
    from livestain.bundle.read import Bundle, read_bundle, verify_bundle
    from livestain.bundle.write import write_bundle

__all__ = [
    "Bundle",
    "BundleDescription",
    "ChannelKind",
    "InputSpec",
    "Latency",
    "NetworkSpec",
    "NormalisationSettings",
    "Normalise",
    "OutputChannel",
    "ReferenceStatistics",
    "StainModule",
    "WindowSpec",
    "bundles_for",
    "check_fit",
    "find_bundle",
    "read_bundle",
    "search_path",
    "verify_bundle",
    "write_bundle",
]

# Loaded when first asked for: reading a description must not cost the two seconds of torch.
_HOMES = {
    "description": (
        "BundleDescription",
        "ChannelKind",
        "InputSpec",
        "Latency",
        "NetworkSpec",
        "NormalisationSettings",
        "OutputChannel",
        "ReferenceStatistics",
        "WindowSpec",
    ),
    "find": ("bundles_for", "find_bundle", "search_path"),
    "fit": ("check_fit",),
    "module": ("StainModule",),
    "normalisation": ("Normalise",),
    "read": ("Bundle", "read_bundle", "verify_bundle"),
    "write": ("write_bundle",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
