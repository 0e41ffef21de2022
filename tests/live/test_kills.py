"""Kills of one run at random moments: no finished plane is lost, and the run comes to its end.

`benchmarks/kill.py` does it a hundred times, with a run for each.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from livestain.store import journal_path, open_store, read_journal, store_status

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows"),
]

VICTIMS = ("acquisition", "worker", "both", "worker")
TIMES = 13


@pytest.fixture
def kill(monkeypatch):
    """The benchmark's own parts, for a longer run: it has to outlive its kills."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import kill

    monkeypatch.setattr(kill, "TIMES", TIMES)
    monkeypatch.setattr(kill, "SHAPE", (144, 136))
    return kill


def lines_of(out):
    return read_journal(journal_path(out)) if journal_path(out).exists() else []


def count(out, kind):
    return sum(line["kind"] == kind for line in lines_of(out))


def wait_for(child, out, kind, more_than):
    """Wait until the journal has more than so many lines of a kind."""
    deadline = time.monotonic() + 120
    while count(out, kind) <= more_than:
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < deadline, f"no line of kind {kind}"
        time.sleep(0.01)  # nothing tells of a line in a file


@pytest.mark.parametrize("seed", [0])
def test_kills_lose_no_finished_plane(kill, tiny_bundle, tmp_path, seed):
    rng = np.random.default_rng(seed)
    out = tmp_path / "run.ome.zarr"
    finished: dict[str, str] = {}
    child, how = None, "run"
    seen = []
    try:
        for victim in rng.permutation(VICTIMS):
            planes, workers = count(out, "plane"), count(out, "worker")
            if child is None:
                child = kill.run(out, str(tiny_bundle), how)
                wait_for(child, out, "worker", workers)
            wait_for(child, out, "plane", planes + int(rng.integers(0, 10)))
            time.sleep(float(rng.uniform(0, 0.1)))  # a random moment is what is asked for
            worker = kill.child_of(child.pid)  # none while it is started again
            if victim != "acquisition" and worker is not None:
                with suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
            if victim != "worker":
                child.kill()
                child.communicate(timeout=60)
                if worker is not None:
                    kill.wait_gone(worker)
                child, how = None, "resume"
            told = {}
            now = kill.look(out, told, "then")
            assert told["valid_then"], told
            assert {name: now.get(name) for name in finished} == finished
            finished = now
            seen.append(len(now))
        if child is None:
            child = kill.run(out, str(tiny_bundle), "resume")
        _, why = child.communicate(timeout=180)
        assert child.returncode == 0, why
    finally:
        if child is not None and child.poll() is None:
            child.kill()
            child.communicate(timeout=60)
    assert seen == sorted(seen)
    assert 0 < seen[0] < seen[-1] < 2 * TIMES * kill.DEPTHS * kill.POSITIONS, "all in mid-run"
    told = {}
    now = kill.look(out, told, "after")
    assert told["valid_after"], told
    assert {name: now[name] for name in finished} == finished
    status = store_status(out)
    assert (status.present, status.missing, status.finished) == (status.planned, 0, True)
    with open_store(out) as store:
        assert [store.levels_missing(c) for c in range(2)] == [[], []]
