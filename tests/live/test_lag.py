"""What becomes of planes that a model does not keep up with, in whole runs."""

from __future__ import annotations

import json

import pytest
import useq
from typer.testing import CliRunner

from livestain.cli.app import app
from livestain.live.microscope import simulated_core
from livestain.live.session import Session
from livestain.store import journal_path, read_journal, store_status

SLOW = {"width": 16, "depth": 3}
"""Some tens of milliseconds for a plane of the dish, which comes every five."""

SLOWER = {"width": 32, "depth": 3}
"""Some hundreds."""


@pytest.fixture
def core():
    core = simulated_core(5, shape=(192, 192))
    yield core
    core.unloadAllDevices()
    del core


HOW = {"device": "cpu", "threads": 1, "worker": "thread"}


def a_sequence(virtual, t, z=1, interval=0.0):
    return useq.MDASequence(
        axis_order="tpgcz",
        time_plan={"interval": interval, "loops": t},
        z_plan={"range": 0.5 * (z - 1), "step": 0.5} if z > 1 else None,
        channels=[
            {"group": "Channel", "config": "Brightfield", "exposure": 5},
            *({"group": "Virtual", "config": name} for name in virtual),
        ],
        metadata={"livestain": {"channels": {n: {"lag": lag} for n, lag in virtual.items()}}},
    )


def lines_of(out, kind):
    """The places, time point and channel, of a run's journal lines of a kind, in their order."""
    return [tuple(x["index"][1:3]) for x in read_journal(journal_path(out)) if x["kind"] == kind]


def test_each_channel_has_its_policy_and_neither_starves(core, bundle_of, tmp_path):
    """A slow model that backfills beside a light one that does not look back."""
    slow, light = bundle_of(**SLOW), bundle_of(output="dna")
    out = tmp_path / "run.ome.zarr"
    sequence = a_sequence({"mitochondria": "backfill", "dna": "live-only"}, t=14)
    models = {"mitochondria": str(slow), "dna": str(light)}
    report = Session(core, sequence, out, models=models, **HOW).run()
    assert (report.planes_acquired, report.planes_missing, report.planes_owed) == (14, 0, 0)
    stained, skipped = lines_of(out, "stained"), lines_of(out, "skipped")
    assert sorted(t for t, c in stained if c == 1) == list(range(14))
    assert {c for _, c in skipped} == {2}
    assert sorted(t for t, c in stained + skipped if c == 2) == list(range(14))
    assert report.planes_skipped == len(skipped) > 0
    assert (13, 2) in stained, "the newest is never skipped"
    # As long as both are owed planes they take turns, and what is left is done when no more come.
    last = stained.index((13, 2))
    live = [c for _, c in stained[:last]]
    assert abs(live.count(1) - live.count(2)) <= 2
    assert len(stained) - last > 2
    after = [t for t, _ in stained[last + 1 :]]
    assert after[2:] == sorted(after[2:], reverse=True), "newest first"


def test_what_is_owed_is_done_in_the_pauses(core, bundle_of, tmp_path):
    out = tmp_path / "run.ome.zarr"
    sequence = a_sequence({"mitochondria": "backfill"}, t=2, z=4, interval=3.0)
    models = {"mitochondria": str(bundle_of(**SLOWER))}
    report = Session(core, sequence, out, models=models, **HOW).run()
    assert (report.planes_stained, report.planes_missing) == (8, 0)
    kinds = [
        (x["kind"], x["index"][1])
        for x in read_journal(journal_path(out))
        if x["kind"] in ("plane", "stained")
    ]
    came = max(n for n, line in enumerate(kinds) if line == ("plane", 0))
    again = kinds.index(("plane", 1))
    pause = kinds[came + 1 : again]
    assert pause.count(("stained", 0)) >= 2
    assert kinds[:again].count(("stained", 0)) == 4, "all of it before the next time point"


def test_leave_owed_ends_at_once_and_owes(core, bundle_of, tmp_path):
    (tmp_path / "a.yaml").write_text(a_sequence({"mitochondria": "backfill"}, t=10).yaml())
    out = tmp_path / "run.ome.zarr"
    words = ["run", str(tmp_path / "a.yaml"), "--out", str(out), "--leave-owed", "--json"]
    words += ["--model", f"mitochondria={bundle_of(**SLOWER)}", "--device", "cpu", "--threads", "1"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout.splitlines()[-1])
    assert (told["planes_acquired"], told["planes_missing"]) == (10, 0)
    assert told["planes_owed"] == 10 - told["planes_stained"] > 4
    assert not told["interrupted"]
    status = store_status(out)
    assert (status.owed, status.impossible, status.skipped) == (told["planes_owed"], 0, 0)
    result = CliRunner().invoke(app, ["status", str(out), "--json"])
    assert json.loads(result.stdout.splitlines()[-1])["owed"] == told["planes_owed"]
