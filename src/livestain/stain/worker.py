"""The stainer worker: takes the next owed plane, predicts it, writes it, reports it.

Started as ``python -P -m livestain.stain.worker`` with the address and key of its parent's connection
on its standard input, or inside a thread for debugging. It reads its source planes from the store.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from dataclasses import asdict
from multiprocessing.connection import Client
from pathlib import Path
from typing import TYPE_CHECKING, Any

from livestain.errors import FullDiskError, LivestainError
from livestain.planes import PlaneIndex
from livestain.stain.backlog import Backlog, Stamp, Task
from livestain.stain.models import Models
from livestain.stain.protocol import WorkerSetup, index_of, receive, send
from livestain.stain.pyramids import Pyramids
from livestain.stain.share import Share

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from livestain.inference import Shortage
    from livestain.inference.encoding import CountsPlane
    from livestain.stain.planes import Planes
    from livestain.store import Store

__all__ = ["ORPHAN_LIMIT_S", "Worker", "main"]

ORPHAN_LIMIT_S = 4.5
"""How long a worker process whose parent is gone may take to finish the plane in hand."""

_OWED_REPORT_S = 0.2


class Worker:
    """One worker on one connection.

    Parameters
    ----------
    connection : multiprocessing.connection.Connection
        To the acquisition process; when it closes, the worker finishes the plane in hand and leaves.
    exit_when_orphaned : bool
        Whether to end the whole process where the plane in hand takes longer than `ORPHAN_LIMIT_S`.
    """

    def __init__(self, connection: Connection, *, exit_when_orphaned: bool) -> None:
        self._connection = connection
        self._exit_when_orphaned = exit_when_orphaned
        # Bounded by the plan: each plane is announced once, in some hundred bytes.
        self._inbox: deque[dict[str, Any]] = deque()
        self._news = threading.Condition()
        self._leaving = False
        self._finishing = False
        self._models = Models(self._on_shortage)
        self._last_owed: tuple[float, int] = (0.0, -1)
        self._store: Store
        self._planes: Planes
        self._backlog: Backlog
        self._pyramids: Pyramids

    # ------------------------------------------------------------------ life

    def run(self) -> None:
        """Serve until the parent says stop or is gone; what can be told to it is told, not raised."""
        reader = threading.Thread(target=self._read, name="livestain-worker-reader", daemon=True)
        reader.start()
        with contextlib.ExitStack() as stack:
            # A parent that is gone cannot be told anything; leaving is then the right answer.
            stack.enter_context(contextlib.suppress(BrokenPipeError, ConnectionError, EOFError))
            stack.callback(self._connection.close)
            try:
                setup = WorkerSetup.parse(self._wait_for("setup")["setup"], where="worker setup")
                self._warm(setup, stack)
                # Only a worker that can work lets the session touch the disk.
                path = setup.store or self._wait_for("open")["store"]
                self._open(path, setup, stack)
            except LivestainError as error:
                send(self._connection, "refused", error=type(error).__name__, why=str(error))
                return
            except (BrokenPipeError, ConnectionError, EOFError):
                raise
            except Exception as error:
                why = f"The worker could not start: {type(error).__name__}: {error}"
                send(self._connection, "refused", error="WorkerError", why=why)
                return
            except _StopError:
                return
            try:
                self._serve()
            except FullDiskError as error:
                # No fault of the plane in hand, which stays owed, as all others do.
                send(self._connection, "refused", error=type(error).__name__, why=str(error))
                with self._news:
                    self._news.wait_for(self._told_to_leave)

    def _read(self) -> None:
        try:
            while True:
                message = receive(self._connection)
                with self._news:
                    self._inbox.append(message)
                    self._news.notify()
        except (EOFError, OSError, TypeError):
            # The last: of a connection that was closed here between its look and its reading.
            with self._news:
                self._leaving = True
                self._news.notify()
            if self._exit_when_orphaned:
                # The main thread may be deep in a slow prediction, or stuck for good.
                threading.Timer(ORPHAN_LIMIT_S, os._exit, args=(3,)).start()

    def _told_to_leave(self) -> bool:
        """Whether the parent says stop, or is gone."""
        return self._leaving or any(message["kind"] == "stop" for message in self._inbox)

    def _wait_for(self, kind: str) -> dict[str, Any]:
        """Wait for one message of a kind; pings are answered meanwhile."""
        while True:
            with self._news:
                self._news.wait_for(lambda: self._inbox or self._leaving)
                if not self._inbox:
                    raise _StopError
                message = self._inbox.popleft()
            if message["kind"] == kind:
                return message
            if message["kind"] == "stop":
                raise _StopError
            if message["kind"] == "ping":
                send(self._connection, "pong")

    def _open(self, path: str, setup: WorkerSetup, stack: contextlib.ExitStack) -> None:
        from livestain.stain.planes import planes_of
        from livestain.store import open_store

        self._store = stack.enter_context(open_store(path, mode="r+"))
        self._planes = stack.enter_context(planes_of(self._store))
        excluded = (PlaneIndex(*index) for index in setup.excluded)
        share = Share(*setup.share)
        self._backlog = Backlog(
            self._store.plan,
            excluded,
            live=setup.live,
            share=share,
            channels={model.c for model in setup.models},
        )
        self._pyramids = Pyramids(self._store, share)
        self._scan()

    def _warm(self, setup: WorkerSetup, stack: contextlib.ExitStack) -> None:
        began = time.perf_counter()
        warm_ms = self._models.load(setup, stack)
        send(
            self._connection,
            "ready",
            pid=os.getpid(),
            start_s=time.perf_counter() - began,
            model_ms=warm_ms,
            models=self._models.facts(),
        )

    def _on_shortage(self, bundle: str, shortage: Shortage) -> None:
        """Tell that a model's memory was exhausted, and how it goes on; before the next attempt."""
        send(self._connection, "memory", folder=bundle, **asdict(shortage))

    def _scan(self) -> None:
        self._backlog.scan(self._planes)
        self._pyramids.scan()

    # ------------------------------------------------------------------ work

    def _serve(self) -> None:
        while True:
            # A plane that failed stays owed until the parent says retry or exclude: wait for that.
            all_done = self._finishing and self._backlog.owed == 0
            rest = self._rest()
            busy = self._backlog.takeable or all_done or (self._pyramids and not rest)
            if not self._hear(block=not busy, timeout=rest if self._pyramids else None):
                return
            for target in self._backlog.pop_skipped():
                send(
                    self._connection,
                    "skipped",
                    index=target,
                    why="live-only: a newer time point came before this plane's turn",
                )
            task = self._backlog.take()
            if task is not None:
                self._report_owed()
                if not self._stain_all(task):
                    return
                continue
            self._report_owed(at_once=True)
            if self._pyramids:
                if not self._rest() and (why := self._pyramids.write_next()):
                    send(self._connection, "fault", why=why)
            elif self._finishing and self._backlog.owed == 0:
                self._finishing = False
                send(self._connection, "finished", owed=0)

    def _rest(self) -> float:
        """Return the seconds that pyramids have to wait; 0 when no more planes come."""
        return 0.0 if self._finishing else self._pyramids.rest()

    def _hear(self, *, block: bool, timeout: float | None = None) -> bool:
        """Take in the messages that are there; False when it is time to leave."""
        with self._news:
            if block:
                self._news.wait_for(lambda: self._inbox or self._leaving, timeout)
            messages = list(self._inbox)
            self._inbox.clear()
            leaving = self._leaving
        for message in messages:
            match message["kind"]:
                case "plane":
                    index = index_of(message)
                    stamp = Stamp(message["ready_ns"], message["committed_ns"])
                    self._backlog.arrived(index, stamp)
                    self._pyramids.arrived(index, stamp)
                case "rescan":
                    self._scan()
                case "retry":
                    self._backlog.retry(index_of(message))
                case "exclude":
                    self._backlog.close(index_of(message))
                case "finish":
                    self._finishing = True
                case "ping":
                    send(self._connection, "pong")
                case "stop":
                    leaving = True
        return not leaving

    def _stain_all(self, task: Task) -> bool:
        """Stain a plane, and the rest of its stack where that is predicted with it.

        The rest comes before newer stacks, which would else displace a prediction that is half written.

        Returns
        -------
        bool
            False when it is time to leave.
        """
        rest = self._backlog.take_beside(task)
        written = self._stain(task)
        for beside in rest:
            if not written:  # each plane is tried by itself, as any that failed
                self._backlog.retry(beside.target)
            elif not self._hear(block=False):
                return False
            else:
                self._stain(beside)
        return True

    def _stain(self, task: Task) -> bool:
        """Predict and write one plane; False where it failed."""
        send(self._connection, "taking", index=task.target)
        try:
            made = self._models.predict(self._planes, task)
            begun = time.perf_counter_ns()
            self._store.write_encoded(task.target, made.plane.counts)
        except FullDiskError:
            raise
        except Exception as error:
            send(
                self._connection,
                "failed",
                index=task.target,
                why=f"{type(error).__name__}: {error}",
                traceback=traceback.format_exc(),
            )
            return False
        done = time.perf_counter_ns()
        self._backlog.close(task.target)
        stages = {
            "read": made.read_ns / 1e6,
            "model": made.model_ns / 1e6,
            "write": (done - begun) / 1e6,
        }
        if task.stamp is not None:
            stages["commit"] = (task.stamp.committed_ns - task.stamp.ready_ns) / 1e6
            total = (done - task.stamp.ready_ns) / 1e6
            # For its turn; and, within a stack, for the planes that were written before it.
            stages["wait"] = max(0.0, total - sum(stages.values()))
            stages["total"] = total
        send(
            self._connection,
            "stained",
            index=task.target,
            pid=os.getpid(),
            live=task.live,
            latency_ms={name: round(ms, 3) for name, ms in stages.items()},
            quality=_quality(made.plane),
        )
        return True

    def _report_owed(self, *, at_once: bool = False) -> None:
        now, owed = time.monotonic(), self._backlog.owed
        due = at_once or now - self._last_owed[0] > _OWED_REPORT_S
        if due and owed != self._last_owed[1]:
            self._last_owed = (now, owed)
            send(self._connection, "owed", n=owed)


class _StopError(Exception):
    """The parent was gone before it had said what to do."""


def _quality(plane: CountsPlane) -> dict[str, float]:
    """Return a prediction's mean, spread, and the fraction of pixels that its encoding clipped."""
    return {
        "mean": round(plane.mean, 5),
        "std": round(plane.std, 5),
        "clipped": round(plane.clipped, 6),
    }


def main() -> None:
    """Connect to the parent that is named on standard input and serve it."""
    # Ctrl-C in the user's terminal is the session's business: it asks the worker to finish or stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        # Where a computer has no memory left, this process goes first, and never the acquisition.
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
    hello = json.loads(sys.stdin.readline())
    address = hello["address"]
    if isinstance(address, list):  # JSON has no tuples, a TCP address is one
        address = tuple(address)
    connection = Client(address, authkey=bytes.fromhex(hello["key"]))
    Worker(connection, exit_when_orphaned=True).run()
    sys.stdout.flush()
    sys.stderr.flush()
    # Leave at once: nothing is unwritten, and tearing torch and tensorstore down can take seconds.
    os._exit(0)


if __name__ == "__main__":
    main()
