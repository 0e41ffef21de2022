"""One worker from its launch to its end, whichever way it ends."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from livestain.errors import WorkerError
from livestain.stain.launching import launch_process, launch_thread
from livestain.stain.protocol import receive, send

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from livestain.planes import PlaneIndex
    from livestain.stain.launching import RunningWorker
    from livestain.stain.outbox import Outbox
    from livestain.stain.protocol import WorkerSetup

__all__ = ["End", "HostSettings", "HostState", "live"]

_POLL_S = 0.1
_KILLED = -9
"""What a process that was killed by SIGKILL leaves behind; there is no such thing on Windows."""


@dataclass(frozen=True)
class HostSettings:
    """How patient a host is with its worker."""

    start_timeout_s: float = 180.0
    """Longest time from launch to `ready`; importing torch from a cold disk takes tens of seconds."""

    hang_timeout_s: float = 60.0
    """Silence for this long with a plane in hand, or after a ping that half of it in silence brings,
    counts as a hang; 20 predictions, where that is longer."""

    max_attempts: int = 2
    """Failures or deaths on one plane after which it is `impossible`."""

    max_barren_deaths: int = 3
    """Deaths in a row without a plane done or given up, after which staining is given up."""


@dataclass
class HostState:
    """What a host's threads share, under its condition."""

    ready: dict[str, Any] | None = None
    error: BaseException | None = None
    finished: bool = False
    finish_asked: bool = False
    closing: bool = False
    at_once: bool = False
    owed: int = 0
    in_hand: PlaneIndex | None = None
    model_ms: dict[int, float] = field(default_factory=dict)  # by virtual channel
    attempts: dict[PlaneIndex, int] = field(default_factory=dict)
    excluded: list[PlaneIndex] = field(default_factory=list)
    deaths: int = 0


@dataclass(frozen=True, slots=True)
class End:
    """How a worker ended."""

    why: str

    killed: bool = False
    """Whether somebody else killed it: a system that is out of memory does."""


def live(
    setup: WorkerSetup,
    state: HostState,
    outbox: Outbox,
    hear: Callable[[dict[str, Any]], bool],
    *,
    kind: Literal["process", "thread"],
    settings: HostSettings,
) -> End:
    """Launch a worker, listen to it until its end, and see that it has ended.

    Parameters
    ----------
    setup : WorkerSetup
        What it is told first.
    state : HostState
        Says when to leave, and what the worker has in hand.
    outbox : Outbox
        What it is told afterwards.
    hear : callable
        Called with each message; False ends the worker.
    kind : {"process", "thread"}
        Where it runs.
    settings : HostSettings
        Time-outs.
    """
    with contextlib.ExitStack() as stack:
        try:
            if kind == "thread":
                running, connection = launch_thread()
            else:
                running, connection = launch_process(
                    stack,
                    threads=setup.threads,
                    timeout_s=settings.start_timeout_s,
                    abandoned=lambda: state.closing,
                )
        except WorkerError as error:
            return End(str(error))
        stack.callback(running.join, 10.0)  # last: by then it was told to leave, or killed
        stack.callback(connection.close)
        stack.callback(outbox.end)
        try:
            send(connection, "setup", setup=setup.model_dump(mode="json"))
            end = _wait_ready(connection, running, state, hear, settings)
            if end is None:
                outbox.start(connection)
                end = _listen(connection, running, state, outbox, hear, settings)
        except (EOFError, OSError):
            end = _how_it_ended(running)
        stopping = state.closing or state.error is not None
        if stopping and not state.at_once:
            outbox.say_stop(connection)
            running.join(10.0)
        else:
            running.kill()
    return end


def _wait_ready(
    connection: Connection,
    running: RunningWorker,
    state: HostState,
    hear: Callable[[dict[str, Any]], bool],
    settings: HostSettings,
) -> End | None:
    deadline = time.monotonic() + settings.start_timeout_s
    while True:
        if connection.poll(_POLL_S):
            message = receive(connection)
            if not hear(message):
                return End(str(message["why"]))
            if message["kind"] == "ready":
                return None
            deadline = time.monotonic() + settings.start_timeout_s
        elif state.closing:
            return End("closed while starting")
        elif not running.alive() and not connection.poll(0):
            return _how_it_ended(running, "while it was starting")
        elif time.monotonic() > deadline:
            return End(f"it was not ready after {settings.start_timeout_s:.0f} s")


def _listen(
    connection: Connection,
    running: RunningWorker,
    state: HostState,
    outbox: Outbox,
    hear: Callable[[dict[str, Any]], bool],
    settings: HostSettings,
) -> End:
    heard = time.monotonic()
    asked = False  # a ping is answered between two planes: silence then means a hang
    while not state.closing:
        patience = max(
            settings.hang_timeout_s, 20 * max(state.model_ms.values(), default=0.0) / 1000
        )
        if connection.poll(_POLL_S):
            message = receive(connection)
            if not hear(message):
                return End(str(message["why"]))
            heard, asked = time.monotonic(), False
        elif not running.alive() and not connection.poll(0):
            return _how_it_ended(running)
        elif (silent := time.monotonic() - heard) > patience and (
            asked or state.in_hand is not None
        ):
            return End(f"it hung for more than {patience:.0f} s")
        elif not asked and silent > patience / 2:
            outbox.post({"kind": "ping"})
            heard, asked = time.monotonic(), True
    return End("closed")


def _how_it_ended(running: RunningWorker, when: str = "") -> End:
    """Tell the end of a worker that has said nothing of it."""
    code = running.exit_code(2.0)
    if code is None:
        why = "its connection ended"
    elif code == _KILLED:
        why = "it was killed, as a computer without free memory does"
    else:
        why = f"it crashed by signal {-code}" if code < 0 else f"it ended with exit code {code}"
    return End(f"{why} {when}".rstrip(), killed=code == _KILLED)
