"""Starting a worker, in a process or in a thread, and getting its connection."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import secrets
import subprocess
import sys
import threading
import time
from multiprocessing import Pipe
from multiprocessing.connection import Client, Listener
from typing import TYPE_CHECKING, Any, Protocol

from livestain.errors import WorkerError

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

__all__ = ["RunningWorker", "launch_process", "launch_thread", "worker_environment"]

_POLL_S = 0.1


class RunningWorker(Protocol):
    """A worker that runs, in a process or in a thread."""

    @property
    def pid(self) -> int:
        """Process id of the worker; of this process where it is a thread."""
        ...

    def alive(self) -> bool:
        """Whether it still runs."""
        ...

    def kill(self) -> None:
        """End it now, where that can be done."""
        ...

    def join(self, timeout: float) -> None:
        """Wait for its end, at most `timeout` seconds."""
        ...

    def exit_code(self, timeout: float) -> int | None:
        """Return what a process ended with, after at most `timeout` seconds; -N: killed by signal N.

        None where it goes on, or is a thread.
        """
        ...


class _ProcessWorker:
    """A worker in a process of its own: ``python -P -m livestain.stain.worker``."""

    def __init__(self, address: Any, key: bytes, threads: int | None) -> None:
        group: dict[str, Any]
        if sys.platform == "win32":
            group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        else:
            group = {"start_new_session": True}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "livestain.stain.worker"],
            stdin=subprocess.PIPE,
            stdout=_stderr_or_nowhere(),
            env=os.environ | worker_environment(threads),
            **group,
        )
        stdin = self._process.stdin
        assert stdin is not None  # noqa: S101 - PIPE was asked for
        with contextlib.suppress(BrokenPipeError, OSError):  # its death is noticed by `alive`
            stdin.write((json.dumps({"address": address, "key": key.hex()}) + "\n").encode())
            stdin.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        self._process.kill()

    def join(self, timeout: float) -> None:
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(timeout)

    def exit_code(self, timeout: float) -> int | None:
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None


class _ThreadWorker:
    """The same worker in a thread of this process: pyramids without models, tests, debugging."""

    pid = os.getpid()

    def __init__(self, connection: Connection) -> None:
        from livestain.stain.worker import Worker

        worker = Worker(connection, exit_when_orphaned=False)
        self._thread = threading.Thread(target=worker.run, name="livestain-worker", daemon=True)
        self._thread.start()

    def alive(self) -> bool:
        return self._thread.is_alive()

    def kill(self) -> None:
        """Do nothing: a thread cannot be killed; it leaves when its connection closes."""

    def join(self, timeout: float) -> None:
        self._thread.join(timeout)

    def exit_code(self, timeout: float) -> int | None:
        """Return None: a thread has no code."""


def launch_thread() -> tuple[RunningWorker, Connection]:
    """Start a worker in a thread of this process, at the other end of a pipe."""
    ours, theirs = Pipe(duplex=True)
    return _ThreadWorker(theirs), ours


def launch_process(
    stack: contextlib.ExitStack,
    *,
    threads: int | None,
    timeout_s: float,
    abandoned: Callable[[], bool],
) -> tuple[RunningWorker, Connection]:
    """Start a worker process and wait until it has connected.

    Parameters
    ----------
    stack : ExitStack
        Closes the listening end.
    threads : int or None
        CPU threads of the model.
    timeout_s : float
        Longest time until it has connected.
    abandoned : callable
        Asked meanwhile; True stops waiting.

    Raises
    ------
    WorkerError
        If it ended or said nothing before it had connected.
    """
    key = secrets.token_bytes(32)
    listener = stack.enter_context(Listener(authkey=key))
    process = _ProcessWorker(listener.address, key, threads)
    accepted: queue.Queue[Any] = queue.Queue(1)

    def accept() -> None:
        try:
            accepted.put(listener.accept())
        except Exception as error:
            accepted.put(error)

    thread = threading.Thread(target=accept, name="livestain-worker-accept", daemon=True)
    thread.start()
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            connection = accepted.get(timeout=_POLL_S)
        except queue.Empty:
            if process.alive() and time.monotonic() < deadline and not abandoned():
                continue
            process.kill()
            process.join(5.0)
            with contextlib.suppress(Exception):  # only to wake `accept` from its wait
                Client(listener.address, authkey=key).close()
            thread.join(5.0)
            raise WorkerError("it ended or said nothing before it had connected") from None
        if isinstance(connection, Exception):
            process.kill()
            process.join(5.0)
            raise WorkerError(f"it could not connect: {connection}")
        return process, connection


def _stderr_or_nowhere() -> int:
    """Return where a worker's standard output goes: ours may be a pipe that expects JSON alone."""
    try:
        os.fstat(2)
    except OSError:  # a program without a console, on Windows
        return subprocess.DEVNULL
    return 2


def worker_environment(threads: int | None) -> dict[str, str]:
    """Return the variables that must be set before torch is imported."""
    count = str(threads or max(1, (os.cpu_count() or 2) - 1))
    return {
        # Spinning OpenMP threads beside a busy camera thread cost more than they gain.
        "OMP_WAIT_POLICY": "PASSIVE",
        # The same for Intel's OpenMP, which torch has on Windows: it else waits 200 ms before it sleeps.
        "KMP_BLOCKTIME": "0",
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        # glibc gives large buffers back after each plane otherwise, and page faults dominate.
        "MALLOC_MMAP_THRESHOLD_": str(256 * 2**20),
        "MALLOC_TRIM_THRESHOLD_": str(1024 * 2**20),
        "PYTHONUNBUFFERED": "1",
    }
