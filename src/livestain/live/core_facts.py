"""What a session asks of pymmcore-plus itself: direct signals, and what the microscope was like."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pymmcore_plus.metadata import summary_metadata
from pymmcore_plus.metadata.serialize import json_dumps

from livestain.live.microscope import ReplayCore, SimulatedCore
from livestain.stain.provenance import versions_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import useq
    from pymmcore_plus import CMMCorePlus

__all__ = ["connect_direct", "provenance"]

_PACKAGES = ("torch", "pymmcore-plus", "useq-schema", "tensorstore")


def connect_direct(signal: Any, slot: Callable[..., None]) -> None:
    """Connect so that the slot runs on the acquisition thread, under psygnal and under Qt alike.

    In a Qt program pymmcore-plus' signals are Qt signals, whose automatic connection may queue a frame
    to the main thread, behind whatever the user interface is doing.
    """
    if type(signal).__module__.startswith("psygnal"):
        signal.connect(slot)
        return
    from qtpy.QtCore import Qt

    signal.connect(slot, Qt.ConnectionType.DirectConnection)


def provenance(
    core: CMMCorePlus, sequence: useq.MDASequence, *, decided: bool = False
) -> dict[str, Any]:
    """Return what the store keeps of a run: the sequence, versions, and the system's state, as JSON types.

    Parameters
    ----------
    core, sequence
        Of the run.
    decided : bool
        Whether events are decided while it runs.
    """
    return {
        **_simulation(core),
        "decided": decided,
        "sequence": sequence.model_dump(mode="json", exclude_unset=True),
        "versions": versions_of(_PACKAGES),
        # Its own writer, since the state holds enums and device objects.
        "system_state": json.loads(json_dumps(summary_metadata(core))),
    }


def _simulation(core: CMMCorePlus) -> dict[str, Any]:
    """Return the mark of simulated cells, which must never pass for real ones, whoever opens the store."""
    if isinstance(core, SimulatedCore):
        return core.simulation()
    # Of a recording no dish is made again; but shown a second time its cells are no more real than before.
    replayed = isinstance(core, ReplayCore) and core.source.simulated
    return {"simulated": True} if replayed else {}
