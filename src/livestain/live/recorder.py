"""The raw writer: from frameReady to a committed plane, bounded in bytes, never out of order in words."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from livestain.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from livestain.planes import PlaneIndex
    from livestain.store import Journal, Store, WriteFuture

__all__ = ["Recorder"]

_STUCK_S = 120.0
_LOOK_S = 0.2
_NOTEWORTHY_S = 0.05
_AT_ONCE = 256
"""Most lines of the journal that are written together."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A plane whose write was started, and what is told of it afterwards."""

    index: PlaneIndex
    facts: dict[str, Any]
    ready_ns: int
    future: WriteFuture


class Recorder:
    """Writes raw planes and, once a plane is committed, its journal line and the news of it.

    `record` runs on the acquisition thread and only starts the write. A thread of its own waits for the
    commits and does what follows them, so that a slow journal or a slow listener never holds a frame, and
    the storage library's threads have nothing to do but to compress and write (benchmarks/writing.py).

    Parameters
    ----------
    store : Store
        Where planes go.
    journal : Journal
        Where their times and positions go, after the commit.
    max_bytes : int
        Most bytes of planes on their way to the disk; at the bound `record` waits for the disk, the
        camera's own buffer fills, and the run ends with an error that names the disk.
    on_committed : callable
        Called as ``(index, ready_ns, committed_ns)`` from the recorder's thread.
    on_error : callable
        Called once with the first error.
    """

    def __init__(
        self,
        store: Store,
        journal: Journal,
        *,
        max_bytes: int,
        on_committed: Callable[[PlaneIndex, int, int], None],
        on_error: Callable[[BaseException], None],
    ) -> None:
        self._store = store
        self._journal = journal
        self._max_bytes = max_bytes
        self._on_committed = on_committed
        self._on_error = on_error
        self._room = threading.Condition()
        # The writes that count against the bound, oldest first; and the bytes of all of them.
        self._writing: deque[tuple[WriteFuture, int]] = deque()
        self._bytes = 0
        self._unfinished = 0
        self._error: BaseException | None = None
        # When a write was last seen to have ended, or the first of those on their way began.
        self._moved = time.monotonic()
        self._waited_s = 0.0
        self.given_up = False
        """Whether the disk took nothing for so long that nobody waits for it any more."""
        # Indices, numbers and futures; no longer than the plan has planes.
        self._books: queue.SimpleQueue[_Entry | Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=self._keep_books, name="livestain-recorder", daemon=True
        )
        self._thread.start()

    def record(
        self,
        index: PlaneIndex,
        image: NDArray[Any],
        meta: Mapping[str, Any],
        ready_ns: int,
        **more: Any,
    ) -> None:
        """Start the write of one plane; waits only for the byte bound. `more` goes into the journal too.

        Raises
        ------
        StoreError
            If an earlier write failed, or the disk took nothing for two minutes.
        """
        if not image.flags.owndata and image.base is not None:
            image = image.copy()  # a view into a buffer that the camera may fill again
        image.flags.writeable = False
        facts = frame_facts(meta) | more
        self._wait_for_room(image.nbytes)
        with self._room:
            if self._error is not None:
                raise StoreError(
                    f"The run cannot go on after an earlier error: {self._error}"
                ) from self._error
            if self._bytes == 0:
                self._moved = time.monotonic()
        future = self._store.write(index, image)
        with self._room:
            self._writing.append((future, image.nbytes))
            self._bytes += image.nbytes
            self._unfinished += 1
        self._books.put(_Entry(index, facts, ready_ns, future))

    def _wait_for_room(self, nbytes: int) -> None:
        """Wait for the byte bound, which only a disk slower than the camera makes longer than no time."""
        if self._has_room(nbytes):
            return
        began = time.monotonic()
        while not self._has_room(nbytes):
            with self._room:
                oldest = self._writing[0][0] if self._writing else None
            if oldest is not None and oldest.wait(_LOOK_S):
                continue
            if time.monotonic() - began > _STUCK_S:
                raise self._stuck()
        self._waited_s += time.monotonic() - began

    def _has_room(self, nbytes: int) -> bool:
        """Take the writes that have ended from the count, and return whether another plane fits."""
        ended: list[WriteFuture] = []
        with self._room:
            while self._writing and self._writing[0][0].done():
                future, size = self._writing.popleft()
                self._bytes -= size
                self._moved = time.monotonic()
                ended.append(future)
            if self._bytes and self._bytes + nbytes > self._max_bytes:
                # Others may have ended before the oldest one.
                left: deque[tuple[WriteFuture, int]] = deque()
                for future, size in self._writing:
                    if future.done():
                        self._bytes -= size
                        ended.append(future)
                    else:
                        left.append((future, size))
                self._writing = left
        # Here too, since the thread that keeps the books may be held up by a slow listener.
        for future in ended:
            if (error := future.exception()) is not None:
                self._note(error)
        with self._room:
            return (
                self._error is not None
                or self._bytes == 0
                or self._bytes + nbytes <= self._max_bytes
            )

    def _stuck(self) -> StoreError:
        self.given_up = True
        return StoreError(
            f"The disk under {self._store.path} has written nothing for {_STUCK_S:.0f} s while "
            f"{self._bytes / 1e6:.0f} MB wait. Planes written so far are safe; use a faster disk."
        )

    @property
    def slowness(self) -> str:
        """A sentence on how long the acquisition has waited for the disk; empty if hardly at all."""
        if self._waited_s < _NOTEWORTHY_S:
            return ""
        return (
            f"The disk under {self._store.path} is slower than the camera: the acquisition waited for it, "
            f"{self._waited_s:.1f} s in all, with {self._max_bytes / 1e6:.3g} MB on their way."
        )

    def overflowed(self, error: Exception) -> Exception:
        """Return what stopped the acquisition, where the camera's buffer overflowed: the disk, if it was."""
        if "overflow" not in str(error).lower() or not self.slowness:
            return error
        told = StoreError(
            f"{self.slowness} Meanwhile the camera's buffer overflowed. Planes written so far are safe; use "
            "a faster disk, smaller frames, or longer intervals."
        )
        told.__cause__ = error
        return told

    def _note(self, error: BaseException) -> None:
        with self._room:
            first, self._error = self._error is None, self._error or error
            self._room.notify_all()
        if first:
            self._on_error(error)

    def _keep_books(self) -> None:
        """Do what follows each commit, in the order in which planes came; the thread's own work."""
        waiting: deque[_Entry | Callable[[], None] | None] = deque()
        while True:
            waiting.append(self._books.get())
            while waiting:
                head = waiting[0]
                if head is None:
                    return
                if isinstance(head, _Entry):
                    while not head.future.wait(_LOOK_S):
                        if self.given_up:
                            self._fetch(waiting)
                            self._tell(
                                [e for e in waiting if isinstance(e, _Entry) and e.future.done()]
                            )
                            return
                    self._fetch(waiting)
                    done: list[_Entry] = []
                    while waiting and isinstance(head := waiting[0], _Entry) and head.future.done():
                        done.append(head)
                        waiting.popleft()
                    self._tell(done)
                    number = len(done)
                else:
                    waiting.popleft()
                    self._guarded(head)
                    number = 1
                with self._room:
                    self._unfinished -= number
                    self._room.notify_all()

    def _fetch(self, waiting: deque[_Entry | Callable[[], None] | None]) -> None:
        """Take what else has come: of a fast camera many planes, whose lines go to the disk in one go."""
        with suppress(queue.Empty):
            while len(waiting) < _AT_ONCE:
                waiting.append(self._books.get_nowait())

    def _tell(self, entries: list[_Entry]) -> None:
        """Write the journal's lines of planes whose writing has ended, and spread the news."""
        committed_ns = time.perf_counter_ns()
        good = []
        for entry in entries:
            error = entry.future.exception()
            if error is not None:
                self._note(error)
            else:
                good.append(entry)
        with self._room:
            self._moved = time.monotonic()
        if not good:
            return
        rows = [{"index": entry.index, **entry.facts} for entry in good]
        self._guarded(lambda: self._journal.append_all("plane", rows))
        for entry in good:
            self._guarded(partial(self._on_committed, entry.index, entry.ready_ns, committed_ns))

    def _guarded(self, task: Callable[[], None]) -> None:
        try:
            task()
        except BaseException as error:
            self._note(error)

    def later(self, task: Callable[[], None]) -> None:
        """Run a task on the thread that keeps the books, where the acquisition must not wait for it."""
        with self._room:
            self._unfinished += 1
        self._books.put(task)

    def flush(self) -> None:
        """Wait until every recorded plane is committed, its news was told, and every task is done.

        Raises
        ------
        StoreError
            If the disk takes nothing for two minutes.
        """
        while True:
            self._has_room(0)  # takes from the count what has ended
            with self._room:
                if not self._unfinished:
                    return
                if self.given_up:
                    raise self._stuck()
                if self._bytes and time.monotonic() - self._moved > _STUCK_S:
                    raise self._stuck()
                self._room.wait(_LOOK_S)

    def close(self) -> None:
        """Flush, unless that was given up, and end the thread; idempotent."""
        if self._thread.is_alive():
            try:
                if not self.given_up:
                    self.flush()
            finally:
                self._books.put(None)
                self._thread.join()


def frame_facts(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the journal keeps of pymmcore-plus' frame metadata."""
    camera = meta.get("camera_metadata") or {}
    position = meta.get("position") or {}
    event = meta.get("mda_event")
    # Stages are not always asked; the plan's place is where they were sent to.
    planned = {axis: getattr(event, f"{axis}_pos", None) for axis in "xyz"}
    facts: dict[str, Any] = {
        "camera_time_ms": meta.get("runner_time_ms"),
        "exposure_ms": meta.get("exposure_ms"),
        "x_um": position.get("x", planned["x"]),
        "y_um": position.get("y", planned["y"]),
        "z_um": position.get("z", planned["z"]),
        "image_number": camera.get("ImageNumber"),
    }
    # A simulated or replaying camera says what it showed; without it the truth could not be found again.
    shown = {
        key.partition("-")[2]: _number(value)
        for key, value in camera.items()
        if key.startswith(("Dish-", "Replay-"))
    }
    if shown:
        facts["shown"] = shown
    return {key: value for key, value in facts.items() if value is not None}


def _number(text: Any) -> float | str:
    try:
        return float(text)
    except (TypeError, ValueError):
        return str(text)
