"""A store that a process of another machine may still write to is taken over on purpose alone."""

from __future__ import annotations

import json

import pytest
import useq

from livestain.live.microscope import simulated_core
from livestain.live.session import Session
from livestain.store import journal_path, lock_path, read_journal, store_status

OTHERS = {"what": "run", "host": "scope-2", "pid": 4711, "since": "2026-01-02T03:04:05+00:00"}


@pytest.fixture
def left(tiny_bundle, tmp_path):
    """A store of which the last run left predictions to be made."""
    core = simulated_core(5, shape=(256, 256))
    sequence = useq.MDASequence(
        time_plan={"interval": 0, "loops": 2},
        channels=["Brightfield", {"group": "Virtual", "config": "mitochondria"}],
    )
    out = tmp_path / "run.ome.zarr"
    models = {"mitochondria": str(tiny_bundle)}
    Session(core, sequence, out, models=models, worker="thread", leave_owed=True).run()
    core.unloadAllDevices()
    (out / "0" / "c.1.0.0.0.0").unlink()
    (out / "0" / "c.1.1.0.0.0").unlink(missing_ok=True)
    return out


@pytest.mark.parametrize("verb", ["resume", "restain"])
def test_the_option_takes_the_store_over(livestain, left, tiny_bundle, verb):
    call = verb, left, "--model", f"mitochondria={tiny_bundle}"
    lock_path(left).write_text(json.dumps(OTHERS))
    was = journal_path(left).read_bytes()
    refused = livestain(*call)
    assert refused.code == 2
    (line,) = [line for line in refused.err.splitlines() if line.startswith("livestain:")]
    assert "livestain run, process 4711 on scope-2, since 2026-01-02" in line
    assert "--break-lock" in line
    assert journal_path(left).read_bytes() == was
    assert json.loads(lock_path(left).read_text()) == OTHERS

    livestain(*call, "--break-lock")
    (broken,) = [x for x in read_journal(journal_path(left)) if x["kind"] == "lock-broken"]
    assert "process 4711 on scope-2" in broken["held_by"]
    assert not lock_path(left).exists()
    status = store_status(left)
    assert status.virtual.present == (2 if verb == "resume" else 1)
