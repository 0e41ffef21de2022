"""One writer at a time: a file beside the store that names who writes to it."""

from __future__ import annotations

import json
import os
import platform
import secrets
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psutil

from livestain._version import __version__
from livestain.errors import StoreError
from livestain.store.journal import Journal, journal_path

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["StoreLock", "lock_path"]


def lock_path(store_path: Path | str) -> Path:
    """Return where the lock of a store lies: beside it, `RUN.ome.zarr.lock`."""
    store_path = Path(store_path)
    return store_path.with_name(store_path.name + ".lock")


class StoreLock:
    """Holds a store for one run, or one work on it afterwards; take it with `with`, or `close` it.

    The lock of a process that is gone is taken over where that can be known: on the same machine. It is there
    for programs of livestain alone; readers need none.

    Parameters
    ----------
    store_path : Path
        The store; it need not be there yet.
    what : str
        What is being done, for whoever finds the lock: "run", "restain".
    break_lock : bool
        Whether to take it over too where nobody can know if its process is gone: that of another machine, or
        a lock that cannot be read. The journal then names who held it. A process that runs on this machine
        keeps it all the same.

    Attributes
    ----------
    path : Path
        Where it lies.
    broken : str
        Whose lock was broken; "" = nobody's.

    Raises
    ------
    StoreError
        If another process holds it; the message names it, and says what to do.
    """

    def __init__(self, store_path: Path | str, what: str, *, break_lock: bool = False) -> None:
        self.path = lock_path(Path(store_path).absolute())
        self._mine = json.dumps(
            {
                "what": what,
                "host": platform.node(),
                "pid": os.getpid(),
                "process_started": psutil.Process().create_time(),
                "since": datetime.now(UTC).isoformat(timespec="seconds"),
                "livestain": __version__,
            }
        )
        self._held = False
        self.broken = ""
        self._take(store_path, break_lock=break_lock)
        journal = journal_path(Path(store_path).absolute())
        if self.broken and journal.is_file():
            try:
                with Journal(journal) as lines:
                    lines.append(
                        "lock-broken", held_by=self.broken, broken_by=_who(json.loads(self._mine))
                    )
            except BaseException:
                self.close()
                raise

    def _take(self, store_path: Path | str, *, break_lock: bool) -> None:
        for _ in range(2):
            folder = self.path.parent
            # mkdir would take it for a lock that exists
            if folder.exists() and not folder.is_dir():
                raise StoreError(
                    f"Cannot write {self.path}: {folder} is a file. Expected a folder that can be written to."
                )
            try:
                folder.mkdir(parents=True, exist_ok=True)
                file = self.path.open("x", encoding="utf-8")
                try:
                    with file:
                        file.write(self._mine)
                except OSError:
                    self.path.unlink(missing_ok=True)  # an empty one would be nobody's, for ever
                    raise
            except FileExistsError:
                held = _read(self.path)
                if held is None or not _is_gone(held):
                    if not break_lock or _is_here(held):
                        raise StoreError(_told(Path(store_path), self.path, held)) from None
                    self.broken = _who(held)
                self._clear(held)
            except OSError as error:
                raise StoreError(
                    f"Cannot write {self.path}: {error.strerror or error}. Expected a folder that can be "
                    "written to, on a disk with space."
                ) from error
            else:
                self._held = True
                return
        raise StoreError(_told(Path(store_path), self.path, _read(self.path)))

    def _clear(self, held: dict[str, Any] | None) -> None:
        """Remove a lock, as it was read; not that of who was quicker to take it over."""
        aside = self.path.with_name(f"{self.path.name}.{secrets.token_hex(4)}")
        with suppress(FileNotFoundError):
            self.path.rename(aside)
            if _read(aside) != held:
                with suppress(FileExistsError), self.path.open("x", encoding="utf-8") as file:
                    file.write(aside.read_text(encoding="utf-8"))
            aside.unlink()

    def close(self) -> None:
        """Give the store free; a second call does nothing."""
        if not self._held:
            return
        self._held = False
        # Somebody may have removed it by hand and taken the store since.
        if self.path.is_file() and self.path.read_text(encoding="utf-8") == self._mine:
            self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        """Return the lock itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the store free."""
        self.close()


def _read(path: Path) -> dict[str, Any] | None:
    """Return what a lock says; None where it says nothing that can be read."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return held if isinstance(held, dict) else None


def _is_gone(held: dict[str, Any]) -> bool:
    """Whether the process that took a lock surely runs no more; of another machine's nobody knows."""
    if held.get("host") != platform.node() or not isinstance(held.get("pid"), int):
        return False
    try:
        started = psutil.Process(held["pid"]).create_time()
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False
    # Numbers of processes are used again.
    return abs(started - float(held.get("process_started", 0.0))) > 1.0


def _is_here(held: dict[str, Any] | None) -> bool:
    """Whether the process that took a lock surely runs, on this machine."""
    if held is None or held.get("host") != platform.node() or not isinstance(held.get("pid"), int):
        return False
    return psutil.pid_exists(held["pid"]) and not _is_gone(held)


def _who(held: dict[str, Any] | None) -> str:
    if held is None:
        return "something that cannot be read"
    what, pid, host, since = (held.get(key) for key in ("what", "pid", "host", "since"))
    return f"livestain {what}, process {pid} on {host}, since {since}"


def _told(store: Path, lock: Path, held: dict[str, Any] | None) -> str:
    told = f"{store.name} is being written by {_who(held)}."
    if held is not None and _is_here(held):
        return (
            f"{told} It runs on this machine: wait for its end, or end process {held['pid']} first."
        )
    return (
        f"{told} Wait for its end; if that process is gone for sure, take the store over with --break-lock "
        f"(livestain resume, restain, compact), or remove {lock}."
    )
