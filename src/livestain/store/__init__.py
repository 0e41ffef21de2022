"""The store: one OME-Zarr image a position, where a plane's chunk exists only if the plane is done.

Public names are imported when they are first used, so that importing this room loads neither
tensorstore nor zarr.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from livestain.store.closing import finalise
    from livestain.store.create import check_place, create_store
    from livestain.store.encoding import decode, encode
    from livestain.store.future import WriteFuture
    from livestain.store.journal import Journal, journal_path, read_journal
    from livestain.store.plan import (
        ChannelPlan,
        PlannedBlock,
        StorePlan,
        VirtualPlan,
        WindowPlan,
    )
    from livestain.store.pyramid import halve, level_shapes
    from livestain.store.status import PlaneCounts, StoreStatus, store_status
    from livestain.store.store import Store, open_store

__all__ = [
    "ChannelPlan",
    "Journal",
    "PlaneCounts",
    "PlannedBlock",
    "Store",
    "StorePlan",
    "StoreStatus",
    "VirtualPlan",
    "WindowPlan",
    "WriteFuture",
    "check_place",
    "create_store",
    "decode",
    "encode",
    "finalise",
    "halve",
    "journal_path",
    "level_shapes",
    "open_store",
    "read_journal",
    "store_status",
]

_HOMES = {
    "ChannelPlan": "plan",
    "Journal": "journal",
    "PlaneCounts": "status",
    "PlannedBlock": "plan",
    "Store": "store",
    "StorePlan": "plan",
    "StoreStatus": "status",
    "VirtualPlan": "plan",
    "WindowPlan": "plan",
    "WriteFuture": "future",
    "check_place": "create",
    "create_store": "create",
    "decode": "encoding",
    "encode": "encoding",
    "finalise": "closing",
    "halve": "pyramid",
    "journal_path": "journal",
    "level_shapes": "pyramid",
    "open_store": "store",
    "read_journal": "journal",
    "store_status": "status",
}


def __getattr__(name: str) -> Any:
    """Import a public name from the file that holds it (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"livestain.store.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
