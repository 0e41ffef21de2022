"""Writes on their way to the disk."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from livestain.errors import FullDiskError, StoreError
from livestain.store.space import no_space

if TYPE_CHECKING:
    from pathlib import Path

    from livestain.planes import PlaneIndex

__all__ = ["InFlight", "WriteFuture"]


class WriteFuture:
    """The writing of one plane: done when every other process can read it.

    Returned by `Store.write`; the store holds it until it is done, so it may be let go of.
    """

    __slots__ = ("_future", "_path", "index", "observed")

    def __init__(self, future: Any, index: PlaneIndex, path: Path) -> None:
        self._future = future
        self._path = path
        self.index = index
        self.observed = False
        """Whether somebody has asked how it ended; an error nobody asked for comes at close."""
        future.force()

    def done(self) -> bool:
        """Return whether the write has ended, well or badly."""
        return bool(self._future.done())

    def wait(self, timeout: float) -> bool:
        """Wait until the write has ended, well or badly, at most `timeout` seconds; return whether it has."""
        try:
            self._future.exception(timeout=timeout)
        except TimeoutError:
            return False
        return True

    def result(self, timeout: float | None = None) -> None:
        """Wait until the plane is written.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait at most.

        Raises
        ------
        StoreError
            If it could not be written; the message names the store.
        TimeoutError
            If it is still being written after `timeout`.
        """
        error = self.exception(timeout)
        if error is not None:
            raise error

    def exception(self, timeout: float | None = None) -> StoreError | None:
        """Wait as `result` does, but return the error, or None where all went well."""
        self.observed = True
        return self.failure(timeout)

    def failure(self, timeout: float | None = None) -> StoreError | None:
        """Return the same as `exception`, without counting as having been asked: for the store."""
        cause = self._future.exception(timeout=timeout)
        if cause is None:
            return None
        error: StoreError
        if no_space(cause):
            error = FullDiskError(
                f"Cannot write plane {self.index.words} of {self._path}: the disk is full. What is written "
                "stays; make space, then go on with it (livestain resume, or livestain restain)."
            )
            error.__cause__ = cause
            return error
        error = StoreError(
            f"Cannot write plane {self.index.words} of "
            f"{self._path}: {cause}. Is the disk still there, and may it be written to? What is written "
            "stays."
        )
        error.__cause__ = cause
        return error


class InFlight:
    """The writes of one store that are on their way, so that close can wait for them.

    They are held, since tensorstore abandons a write whose future nobody holds. Nothing of it runs on the
    library's own threads: one that waits for Python's lock to call back compresses nothing meanwhile.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._pending: deque[WriteFuture] = deque()
        self._failed: list[WriteFuture] = []

    def start(self, commit: Any, index: PlaneIndex) -> WriteFuture:
        """Start a write (its `commit` future) and keep it until it is done."""
        future = WriteFuture(commit, index, self._path)
        with self._lock:
            while self._pending and self._pending[0].done():
                self._look(self._pending.popleft())
            self._pending.append(future)
        return future

    def finish(self) -> None:
        """Wait for all writes.

        Raises
        ------
        StoreError
            The first failure whose future nobody asked how it ended.
        """
        with self._lock:
            while self._pending:
                self._look(self._pending.popleft())
        unseen = [future for future in self._failed if not future.observed]
        self._failed.clear()
        for future in unseen[:1]:
            future.result()

    def _look(self, future: WriteFuture) -> None:
        if future.failure() is not None:
            self._failed.append(future)
