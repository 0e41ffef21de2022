"""Asking a child process to measure one thing, so that cold start, memory and a crash are its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from livestain.errors import LivestainError
from livestain.stain.launching import worker_environment

if TYPE_CHECKING:
    from livestain.benching.settings import Job

__all__ = ["NoAnswerError", "RefusedError", "ask"]


class RefusedError(LivestainError):
    """What was asked for cannot be done here; the message says why."""


class NoAnswerError(LivestainError):
    """The process crashed, or was not done in time."""


def ask(job: Job, *, timeout_s: float | None = None) -> dict[str, Any]:
    """Return what a fresh process measures.

    It has the environment that a run's worker has: threads, OpenMP's waiting, malloc.

    Parameters
    ----------
    job : Job
        What to measure; `began` is set here.
    timeout_s : float, optional
        The process is ended after so many seconds.

    Raises
    ------
    RefusedError
        If it says that this cannot be done.
    NoAnswerError
        If it crashed, or took longer.
    """
    environment = os.environ | worker_environment(job.threads)
    asked = job.model_copy(update={"began": time.time()}).model_dump_json()
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "livestain.benching.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        try:
            out, told = process.communicate(asked + "\n", timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise NoAnswerError(f"it was not done after {timeout_s:.0f} s") from None
        finally:
            process.kill()  # does nothing to one that has ended
    lines = out.splitlines()
    if process.returncode or not lines:
        raise NoAnswerError(f"the process crashed ({_ending(process.returncode)}): {_last(told)}")
    answer: dict[str, Any] = json.loads(lines[-1])
    if "refused" in answer:
        raise RefusedError(answer["refused"])
    result: dict[str, Any] = answer["result"]
    return result


def _ending(code: int) -> str:
    if code >= 0:
        return f"code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"{name}, often for lack of memory" if name == "SIGKILL" else name


def _last(told: str) -> str:
    """Return the last line that a process said of its failure."""
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"
