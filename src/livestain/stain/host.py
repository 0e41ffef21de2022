"""The acquisition side of the worker: starts it, speaks to it, starts it again when it dies."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from livestain import errors
from livestain.errors import LivestainError, WorkerError
from livestain.stain.launching import launch_process, launch_thread
from livestain.stain.protocol import WorkerSetup, index_of, receive, send

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from livestain.planes import PlaneIndex
    from livestain.stain.launching import RunningWorker

__all__ = ["HostSettings", "WorkerHost"]

_OUTBOX = 1024
_POLL_S = 0.1


@dataclass(frozen=True)
class HostSettings:
    """How patient the host is with its worker."""

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
class _State:
    """What the host's threads share, under its condition."""

    ready: dict[str, Any] | None = None
    error: BaseException | None = None
    finished: bool = False
    finish_asked: bool = False
    closing: bool = False
    at_once: bool = False
    owed: int = 0
    in_hand: PlaneIndex | None = None
    attempts: dict[PlaneIndex, int] = field(default_factory=dict)
    excluded: list[PlaneIndex] = field(default_factory=list)
    deaths: int = 0


class WorkerHost:
    """Keeps one worker running for the length of a run.

    Parameters
    ----------
    setup : WorkerSetup
        Store, models, device.
    report : callable
        Called as ``report(kind, message)`` from the host's own thread, for kinds `taking`, `stained`,
        `skipped`, `impossible`, `fault` and `ready`. What it raises ends the host with that error.
    kind : {"process", "thread"}
        Where the worker runs.
    settings : HostSettings
        Time-outs and limits.
    """

    def __init__(
        self,
        setup: WorkerSetup,
        report: Callable[[str, dict[str, Any]], None],
        *,
        kind: Literal["process", "thread"] = "process",
        settings: HostSettings | None = None,
    ) -> None:
        self._setup = setup
        self._report = report
        self._kind = kind
        self._settings = settings or HostSettings()
        self._state = _State()
        self._changed = threading.Condition()
        self._outbox: queue.Queue[dict[str, Any] | None] = queue.Queue(_OUTBOX)
        self._rescan = threading.Event()
        self._thread = threading.Thread(
            target=self._supervise, name="livestain-worker-host", daemon=True
        )

    # ------------------------------------------------------------------ what the session calls

    def start(self) -> dict[str, Any]:
        """Start the worker and wait until it is warm.

        Returns
        -------
        dict
            The worker's `ready` message: pid, models with device and backend, ms of one prediction.

        Raises
        ------
        LivestainError
            What the worker refused (a damaged bundle, an unknown device), or `WorkerError`.
        """
        self._thread.start()
        with self._changed:
            # In short waits, since Windows does not interrupt a long one by Ctrl-C.
            while not (self._state.ready or self._state.error):
                self._changed.wait(_POLL_S)
            if self._state.error is not None:
                raise self._state.error
            assert self._state.ready is not None  # noqa: S101
            return self._state.ready

    def open(self, store: str) -> None:
        """Tell the warm worker which store to work on; it exists now."""
        self._setup = self._setup.model_copy(update={"store": store})
        self._post({"kind": "open", "store": store})

    def announce(self, index: PlaneIndex, ready_ns: int, committed_ns: int) -> None:
        """Tell the worker that a raw plane is in the store; never blocks.

        Where its queue is full the message is dropped, and the worker will look into the store instead.
        """
        self._post(
            {"kind": "plane", "index": index, "ready_ns": ready_ns, "committed_ns": committed_ns}
        )

    @property
    def owed(self) -> int:
        """Number of planes the worker last said are owed."""
        return self._state.owed

    @property
    def deaths(self) -> int:
        """How often a worker has died or been killed for hanging."""
        return self._state.deaths

    @property
    def error(self) -> BaseException | None:
        """Why staining was given up for good, if it was."""
        return self._state.error

    def finish(self, cancelled: threading.Event | None = None) -> bool:
        """Wait until nothing is owed any more, or staining was given up.

        Parameters
        ----------
        cancelled : threading.Event, optional
            When set, stop waiting: what is owed stays owed.

        Returns
        -------
        bool
            Whether all that could be done is done.
        """
        with self._changed:
            self._state.finish_asked = True
            self._post({"kind": "finish"})
            while not (self._state.finished or self._state.error):
                if cancelled is not None and cancelled.is_set():
                    return False
                self._changed.wait(_POLL_S)
            return self._state.finished

    def close(self, *, at_once: bool = False) -> None:
        """Let the worker finish the plane in hand and leave; kills it after some seconds.

        Parameters
        ----------
        at_once : bool
            Kill it now. The plane in hand stays owed: a plane is written whole or not at all.
        """
        with self._changed:
            self._state.closing = True
            self._state.at_once = at_once
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(30.0)

    # ------------------------------------------------------------------ messages out

    def _post(self, message: dict[str, Any]) -> None:
        try:
            self._outbox.put_nowait(message)
        except queue.Full:
            self._rescan.set()

    def _pump(self, connection: Connection, outbox: queue.Queue[dict[str, Any] | None]) -> None:
        """Send what is in the outbox; a hung worker blocks this thread and nothing else."""
        try:
            while (message := outbox.get()) is not None:
                if self._rescan.is_set() and outbox.empty():
                    self._rescan.clear()
                    send(connection, "rescan")
                    if self._state.finish_asked:
                        send(connection, "finish")
                send(connection, **message)
        except (OSError, ValueError):
            return  # the connection is gone; the supervisor sees it too and acts

    # ------------------------------------------------------------------ supervision

    def _supervise(self) -> None:
        barren = 0
        try:
            while not self._state.closing:
                done_before = self._progress()
                with self._changed:
                    # A new queue for each worker: what was announced before is found by its scan.
                    self._outbox = queue.Queue(_OUTBOX)
                    self._rescan.clear()
                    if self._state.finish_asked:
                        self._outbox.put({"kind": "finish"})
                why = self._one_life()
                if self._state.closing or self._state.error is not None:
                    return
                self._bury(why)
                barren = 0 if self._progress() > done_before else barren + 1
                if self._state.ready is None or barren >= self._settings.max_barren_deaths:
                    raise WorkerError(
                        f"The staining worker could not be kept running: {why}. Raw data is not "
                        "affected; planes that are not stained stay owed."
                    )
        except BaseException as error:
            with self._changed:
                self._state.error = error
                self._changed.notify_all()

    def _progress(self) -> int:
        return self._done + len(self._state.excluded)

    _done = 0

    def _bury(self, why: str) -> None:
        """Note a worker's death, and the plane on which it died."""
        victim = self._state.in_hand
        self._state.deaths += 1
        self._state.in_hand = None
        self._report(
            "fault",
            {"why": f"worker died: {why}", "in_hand": list(victim) if victim else None},
        )
        if victim is not None:
            self._count_failure(victim, f"the worker died on it ({why})")

    def _count_failure(self, index: PlaneIndex, why: str) -> bool:
        """Count a failure; True where the plane is now given up."""
        attempts = self._state.attempts.get(index, 0) + 1
        self._state.attempts[index] = attempts
        if attempts < self._settings.max_attempts:
            return False
        self._state.excluded.append(index)
        self._report("impossible", {"index": list(index), "why": f"failed {attempts} times: {why}"})
        return True

    def _one_life(self) -> str:
        """Run one worker until it ends; return why it ended."""
        setup = self._setup.model_copy(
            update={"excluded": (*self._setup.excluded, *(tuple(i) for i in self._state.excluded))}
        )
        with contextlib.ExitStack() as stack:
            try:
                if self._kind == "thread":
                    running, connection = launch_thread()
                else:
                    running, connection = launch_process(
                        stack,
                        threads=self._setup.threads,
                        timeout_s=self._settings.start_timeout_s,
                        abandoned=lambda: self._state.closing,
                    )
            except WorkerError as error:
                return str(error)
            stack.callback(running.join, 10.0)  # last: by then it was told to leave, or killed
            stack.callback(connection.close)
            outbox = self._outbox
            pump = threading.Thread(
                target=self._pump,
                args=(connection, outbox),
                name="livestain-worker-messages",
                daemon=True,
            )
            stack.callback(_end_pump, outbox)
            try:
                send(connection, "setup", setup=setup.model_dump(mode="json"))
                why = self._wait_ready(connection, running)
                if why is None:
                    pump.start()
                    why = self._listen(connection, running)
            except (EOFError, OSError):
                why = "it ended without a word"
            stopping = self._state.closing or self._state.error is not None
            if stopping and not self._state.at_once:
                _say_stop(connection, pump, outbox)
                running.join(10.0)
            else:
                running.kill()
        return why

    def _wait_ready(self, connection: Connection, running: RunningWorker) -> str | None:
        deadline = time.monotonic() + self._settings.start_timeout_s
        while not connection.poll(_POLL_S):
            if self._state.closing:
                return "closed while starting"
            if not running.alive() and not connection.poll(0):
                return "it ended while it was starting"
            if time.monotonic() > deadline:
                return f"it was not ready after {self._settings.start_timeout_s:.0f} s"
        message = receive(connection)
        if message["kind"] == "refused":
            return self._refused(message)
        with self._changed:
            self._state.ready = message
            self._changed.notify_all()
        self._report("ready", message)
        return None

    def _refused(self, message: dict[str, Any]) -> str:
        """Take the worker's word that it cannot work here; starting it again would not help."""
        kind = getattr(errors, message["error"], LivestainError)
        with self._changed:
            self._state.error = kind(message["why"])
            self._changed.notify_all()
        return str(message["why"])

    def _listen(self, connection: Connection, running: RunningWorker) -> str:
        assert self._state.ready is not None  # noqa: S101
        patience = max(self._settings.hang_timeout_s, 20 * self._state.ready["model_ms"] / 1000)
        heard = time.monotonic()
        asked = False  # a ping is answered between two planes: silence then means a hang
        while not self._state.closing:
            if connection.poll(_POLL_S):
                message = receive(connection)
                if message["kind"] == "refused":  # the store, after the models
                    return self._refused(message)
                self._take_in(message)
                heard, asked = time.monotonic(), False
            elif not running.alive() and not connection.poll(0):
                return "it ended without a word"
            elif (silent := time.monotonic() - heard) > patience and (
                asked or self._state.in_hand is not None
            ):
                return f"it hung for more than {patience:.0f} s"
            elif not asked and silent > patience / 2:
                self._post({"kind": "ping"})
                heard, asked = time.monotonic(), True
        return "closed"

    def _take_in(self, message: dict[str, Any]) -> None:
        state = self._state
        match message["kind"]:
            case "taking":
                state.in_hand = index_of(message)
                self._report("taking", message)
            case "stained":
                state.in_hand = None
                self._done += 1
                message["attempts"] = state.attempts.get(index_of(message), 0) + 1
                self._report("stained", message)
            case "failed":
                state.in_hand = None
                index = index_of(message)
                self._report("fault", {key: message[key] for key in ("index", "why", "traceback")})
                given_up = self._count_failure(index, message["why"])
                # Not to be dropped: without it the plane would be owed for ever. A worker that takes
                # nothing for so long hangs, is replaced, and its successor asks for no verdict.
                with contextlib.suppress(queue.Full):
                    self._outbox.put(
                        {"kind": "exclude" if given_up else "retry", "index": index},
                        timeout=self._settings.hang_timeout_s,
                    )
            case "owed":
                state.owed = message["n"]
            case "finished":
                with self._changed:
                    state.owed = message["owed"]
                    state.finished = state.finish_asked
                    self._changed.notify_all()
            case "pong":
                pass
            case kind:
                self._report(kind, message)


def _say_stop(
    connection: Connection,
    pump: threading.Thread,
    outbox: queue.Queue[dict[str, Any] | None],
) -> None:
    """Tell the worker to leave, after what is on its way to it; one that is gone needs no telling."""
    with contextlib.suppress(OSError, ValueError, queue.Full):
        if pump.is_alive():
            outbox.put({"kind": "stop"}, timeout=1.0)
            outbox.put(None, timeout=1.0)
            pump.join(5.0)
        else:
            send(connection, "stop")


def _end_pump(outbox: queue.Queue[dict[str, Any] | None]) -> None:
    """Let the sending thread end; one that is blocked in a send ends when the connection closes."""
    with contextlib.suppress(queue.Full):
        outbox.put_nowait(None)
