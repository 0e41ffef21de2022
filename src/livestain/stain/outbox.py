"""What is on its way to a worker: bounded, sent by a thread of its own."""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import TYPE_CHECKING, Any

from livestain.stain.protocol import send

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

__all__ = ["Outbox"]

_SIZE = 1024


class Outbox:
    """Messages to one worker; whoever posts never waits for it.

    Made before its worker is launched: what was announced before that is found by the worker's look into
    the store, what is announced after it is in here.

    Parameters
    ----------
    finishing : callable
        Asked after messages were dropped: whether `finish` may have been one of them.
    """

    def __init__(self, finishing: Callable[[], bool]) -> None:
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue(_SIZE)
        self._finishing = finishing
        self._thread: threading.Thread | None = None
        self.rescan = threading.Event()
        """Set when a message was dropped, until the worker is told to look into the store."""

    def post(self, message: dict[str, Any]) -> None:
        """Send a message, or drop it where too many wait, and let the worker look into the store."""
        try:
            self._queue.put_nowait(message)
        except queue.Full:
            self.rescan.set()

    def put(self, message: dict[str, Any] | None, timeout: float) -> None:
        """Send a message that must not be dropped; after `timeout` seconds the worker hangs anyway."""
        with contextlib.suppress(queue.Full):
            self._queue.put(message, timeout=timeout)

    def start(self, connection: Connection) -> None:
        """Begin to send."""
        self._thread = threading.Thread(
            target=self._pump, args=(connection,), name="livestain-worker-messages", daemon=True
        )
        self._thread.start()

    def _pump(self, connection: Connection) -> None:
        """Send what is there; a hung worker blocks this thread and nothing else."""
        try:
            while (message := self._queue.get()) is not None:
                if self.rescan.is_set() and self._queue.empty():
                    self.rescan.clear()
                    send(connection, "rescan")
                    if self._finishing():
                        send(connection, "finish")
                send(connection, **message)
        except (OSError, ValueError):
            return  # the connection is gone; who listens to it sees it too and acts

    def say_stop(self, connection: Connection) -> None:
        """Tell the worker to leave, after what is on its way to it; one that is gone needs no telling."""
        if self._thread is not None and self._thread.is_alive():
            self.put({"kind": "stop"}, 1.0)
            self.put(None, 1.0)
            self._thread.join(5.0)
        else:
            with contextlib.suppress(OSError, ValueError):
                send(connection, "stop")

    def end(self) -> None:
        """Let the sending thread end; one that is blocked in a send ends when the connection closes."""
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)
