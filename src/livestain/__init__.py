"""livestain: live digital staining for Micro-Manager.

Public names are imported when they are first used, so that ``import livestain`` loads neither torch
nor Micro-Manager.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from livestain._version import __version__

if TYPE_CHECKING:
    from livestain.bundle import Bundle, find_bundle, read_bundle
    from livestain.errors import LivestainError
    from livestain.inference import Stainer
    from livestain.live.microscope import replay_core, simulated_core
    from livestain.live.report import RunReport
    from livestain.live.session import Session
    from livestain.live.virtual import load_sequence
    from livestain.planes import PlaneIndex, Window
    from livestain.store import Store, open_store, store_status

__all__ = [
    "Bundle",
    "LivestainError",
    "PlaneIndex",
    "RunReport",
    "Session",
    "Stainer",
    "Store",
    "Window",
    "__version__",
    "find_bundle",
    "load_sequence",
    "open_store",
    "read_bundle",
    "replay_core",
    "simulated_core",
    "store_status",
]

_HOMES = {
    "Bundle": "livestain.bundle",
    "LivestainError": "livestain.errors",
    "PlaneIndex": "livestain.planes",
    "RunReport": "livestain.live.report",
    "Session": "livestain.live.session",
    "Stainer": "livestain.inference",
    "Store": "livestain.store",
    "Window": "livestain.planes",
    "find_bundle": "livestain.bundle",
    "load_sequence": "livestain.live.virtual",
    "open_store": "livestain.store",
    "read_bundle": "livestain.bundle",
    "replay_core": "livestain.live.microscope",
    "simulated_core": "livestain.live.microscope",
    "store_status": "livestain.store",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its room (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
