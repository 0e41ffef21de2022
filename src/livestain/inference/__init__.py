"""Planes in, planes out: a deployed model on a device."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from livestain.inference.backends import Backend, backend_names, register_backend
    from livestain.inference.device import resolve_device
    from livestain.inference.stainer import Stainer

__all__ = ["Backend", "Stainer", "backend_names", "register_backend", "resolve_device"]

# Loaded when first asked for, so that commands that do not compute do not import torch.
_HOMES = {
    "backends": ("Backend", "backend_names", "register_backend"),
    "device": ("resolve_device",),
    "stainer": ("Stainer",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
