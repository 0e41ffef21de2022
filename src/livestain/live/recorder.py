"""The raw writer: from frameReady to a committed plane, bounded in bytes, never out of order in words."""

from __future__ import annotations

import queue
import threading
import time
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


class Recorder:
    """Writes raw planes and, once a plane is committed, its journal line and the news of it.

    `record` runs on the acquisition thread and only starts the write. A thread of its own does what
    follows the commit, so that a slow journal or a slow listener never holds a frame.

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
        self._bytes = 0
        self._unfinished = 0
        self._error: BaseException | None = None
        # When a write last ended, or the first of those on their way began.
        self._moved = time.monotonic()
        self._waited_s = 0.0
        self.given_up = False
        """Whether the disk took nothing for so long that nobody waits for it any more."""
        # Indices and numbers only; no longer than the plan has planes.
        self._committed: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
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
        with self._room:
            self._wait_for_room(image.nbytes)
            if self._error is not None:
                raise StoreError(f"An earlier plane could not be written: {self._error}")
            if self._bytes == 0:
                self._moved = time.monotonic()
            self._bytes += image.nbytes
            self._unfinished += 1
        try:
            future = self._store.write(index, image)
        except BaseException:
            self._release(image.nbytes)
            self._finish_one()
            raise
        future.add_done_callback(partial(self._on_done, index, image.nbytes, facts, ready_ns))

    def _wait_for_room(self, nbytes: int) -> None:
        """Wait for the byte bound, which only a disk slower than the camera makes longer than no time."""

        def has_room() -> bool:
            return (
                self._error is not None
                or self._bytes == 0
                or self._bytes + nbytes <= self._max_bytes
            )

        if has_room():
            return
        began = time.monotonic()
        if not self._room.wait_for(has_room, timeout=_STUCK_S):
            raise self._stuck()
        self._waited_s += time.monotonic() - began

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

    def _on_done(
        self,
        index: PlaneIndex,
        nbytes: int,
        facts: dict[str, Any],
        ready_ns: int,
        future: WriteFuture,
    ) -> None:
        """Hand over what has ended; runs on a thread of the storage library, so returns at once."""
        committed_ns = time.perf_counter_ns()
        error = future.exception()
        if error is not None:
            self._note(error)
            self._finish_one()
        else:
            self._committed.put(partial(self._tell, index, facts, ready_ns, committed_ns))
        self._release(nbytes)

    def _release(self, nbytes: int) -> None:
        with self._room:
            self._bytes -= nbytes
            self._moved = time.monotonic()
            self._room.notify_all()

    def _finish_one(self) -> None:
        with self._room:
            self._unfinished -= 1
            self._room.notify_all()

    def _note(self, error: BaseException) -> None:
        with self._room:
            first, self._error = self._error is None, self._error or error
            self._room.notify_all()
        if first:
            self._on_error(error)

    def _keep_books(self) -> None:
        while (task := self._committed.get()) is not None:
            try:
                task()
            except BaseException as error:
                self._note(error)
            finally:
                self._finish_one()

    def _tell(
        self, index: PlaneIndex, facts: dict[str, Any], ready_ns: int, committed_ns: int
    ) -> None:
        self._journal.append("plane", index=index, **facts)
        self._on_committed(index, ready_ns, committed_ns)

    def later(self, task: Callable[[], None]) -> None:
        """Run a task on the thread that keeps the books, where the acquisition must not wait for it."""
        with self._room:
            self._unfinished += 1
        self._committed.put(task)

    def flush(self) -> None:
        """Wait until every recorded plane is committed, its news was told, and every task is done.

        Raises
        ------
        StoreError
            If the disk takes nothing for two minutes.
        """
        with self._room:
            while self._unfinished:
                left = self._moved + _STUCK_S - time.monotonic()
                if self._bytes and left <= 0:
                    raise self._stuck()
                self._room.wait(max(left, _LOOK_S))

    def close(self) -> None:
        """Flush, unless that was given up, and end the thread; idempotent."""
        if self._thread.is_alive():
            try:
                if not self.given_up:
                    self.flush()
            finally:
                self._committed.put(None)
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
