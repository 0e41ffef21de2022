"""Leaving Python with a core alive, without an abort."""

from __future__ import annotations

import atexit
import weakref
from typing import TYPE_CHECKING

import pymmcore_plus._pymmcore as pymmcore

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

__all__ = ["leave_quietly"]


def leave_quietly(core: CMMCorePlus) -> None:
    """See to it that a core that is still alive at exit does not abort the process.

    MMCore tells its events from threads of its own. One that tells an event while the interpreter
    shuts down ends the process with "FATAL: exception not rethrown" and code 134 instead of the
    program's (a third of all exits with pymmcore-plus 0.18.1). So the events are cut off
    before. May be called more than once.

    Parameters
    ----------
    core : CMMCorePlus
        Any core; it is not kept alive.
    """
    reference = weakref.ref(core)

    def cut_off() -> None:
        alive = reference()
        if alive is not None:
            # pymmcore-plus forbids this method of its own class, for the sake of its events.
            pymmcore.CMMCore.registerCallback(alive, None)

    atexit.register(cut_off)
    weakref.finalize(core, atexit.unregister, cut_off).atexit = False
