"""The journal beside a store: why a plane is not there, and what is known of one that is."""

from __future__ import annotations

import json
import logging
import math
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from livestain.errors import FullDiskError, StoreError
from livestain.store.space import no_space

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Journal", "journal_lines", "journal_path", "read_journal"]

_log = logging.getLogger(__name__)


def journal_path(store_path: Path | str) -> Path:
    """Return where the journal of a store lies: beside it, `RUN.ome.zarr.journal.jsonl`."""
    store_path = Path(store_path)
    return store_path.with_name(store_path.name + ".journal.jsonl")


class Journal:
    """An append-only file of JSON objects, one a line, written by the acquisition process alone.

    Every line is handed to the operating system before `append` returns, so that a killed process
    loses no line and at most cuts its last one. Safe to use from several threads.

    Parameters
    ----------
    path : Path
        The file; created if it is not there, else continued.

    Raises
    ------
    StoreError
        If the file cannot be opened or written.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._cut = False
        try:
            # Without a buffer, so that each line is one write to the operating system.
            self._file = self.path.open("ab", buffering=0)
            if _last_byte(self.path) not in (b"", b"\n"):
                # The process before us was killed in mid-line: do not glue our first line to it.
                self._file.write(b"\n")
        except OSError as error:
            raise self._failed("open", error) from error

    def append(self, kind: str, **fields: Any) -> None:
        """Write one line: {"kind": kind, "time": now in UTC, **fields}.

        Parameters
        ----------
        kind : str
            "plane", "stained", "missing", "uncertain", "skipped", "impossible", "fault", "started",
            "resumed", "lock-broken" or "finished".
        **fields
            JSON types, tuples, numpy numbers and paths; NaN and infinity are written as null. A
            `time` given here stands instead of now.
        """
        self.append_all(kind, [fields])

    def append_all(self, kind: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write several lines of a kind at once: one call of the operating system."""
        now = datetime.now(UTC).isoformat()
        data = "".join(
            json.dumps(_plain({"kind": kind, "time": now, **row}), separators=(",", ":")) + "\n"
            for row in rows
        ).encode()
        with self._lock:
            if self._file.closed:
                raise StoreError(
                    f"The journal {self.path} is closed; a line of kind '{kind}' came after. "
                    "Close it after the last writer has ended."
                )
            try:
                # A line that was cut ends there, where there is space again.
                written = self._file.write(b"\n" * self._cut + data) - self._cut
            except OSError as error:
                raise self._failed("write to", error) from error
            if written != len(data):
                self._cut = True
                raise FullDiskError(
                    f"Cannot write to the journal {self.path}: only {max(0, written)} of {len(data)} bytes "
                    "went in; the disk is full. Make space before the next run."
                )
            self._cut = False

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with self._lock:
            self._file.close()

    def __enter__(self) -> Self:
        """Return the journal itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _failed(self, verb: str, error: OSError) -> StoreError:
        kind = FullDiskError if no_space(error) else StoreError
        return kind(
            f"Cannot {verb} the journal {self.path}: {error.strerror or error}. "
            "Expected a file in a folder that can be written to, on a disk with space."
        )


def journal_lines(store_path: Path | str) -> list[dict[str, Any]]:
    """Return the lines of a store's journal; none where there is no journal.

    Raises
    ------
    StoreError
        As `read_journal`, of one that is there.
    """
    journal = journal_path(store_path)
    return read_journal(journal) if journal.exists() else []


def read_journal(path: Path | str) -> list[dict[str, Any]]:
    """Read a journal; a line that was cut by a crash is left out.

    Parameters
    ----------
    path : Path
        As `journal_path` gives it.

    Returns
    -------
    list of dict
        Oldest first.

    Raises
    ------
    StoreError
        If the file cannot be read.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StoreError(
            f"Cannot read the journal {path}: {error.strerror or error}. "
            "Expected the file that lies beside its store."
        ) from error
    lines = []
    for number, raw in enumerate(data.split(b"\n"), start=1):
        if not raw.strip():
            continue
        try:
            line = json.loads(raw)
        except ValueError:  # of JSON and of UTF-8
            _log.debug("%s: line %d is cut, probably by a crash; left out", path, number)
            continue
        if isinstance(line, dict):
            lines.append(line)
    return lines


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if size == 0:
            return b""
        file.seek(size - 1)
        return file.read(1)


def _plain(value: Any) -> Any:
    """Turn numpy numbers, tuples, paths, NaN into what JSON has."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    return value
