"""Staining after the run: what is owed, by the models that the run began with, and nothing else."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
import useq
import zarr
from typer.testing import CliRunner

from livestain.cli.app import app
from livestain.errors import BundleError, DataError, StoreError
from livestain.live.microscope import simulated_core
from livestain.live.session import Session
from livestain.restain import restain
from livestain.store import journal_path, lock_path, open_store, read_journal, store_status


@pytest.fixture
def core():
    core = simulated_core(5, shape=(64, 72))
    yield core
    core.unloadAllDevices()
    del core


def a_sequence(t=4, z=3, **settings):
    return useq.MDASequence(
        axis_order="tpgcz",
        time_plan={"interval": 0, "loops": t},
        z_plan={"range": 0.5 * (z - 1), "step": 0.5},
        channels=["Brightfield", {"group": "Virtual", "config": "mitochondria"}],
        metadata={"livestain": {"channels": {"mitochondria": settings}}} if settings else {},
    )


@pytest.fixture
def left(core, tmp_path):
    """Return a function that makes a store in which planes are owed."""

    def make(bundle, **settings):
        out = tmp_path / "run.ome.zarr"
        models = {"mitochondria": str(bundle)}
        options = {"device": "cpu", "worker": "thread", "leave_owed": True}
        session = Session(core, a_sequence(**settings), out, models=models, **options)
        report = session.run()
        assert report.planes_missing == 0, "owed is not missing"
        assert not report.interrupted
        # However fast the worker was: as if some of its planes had never been written.
        with open_store(out) as store:
            for index in store.plan.planned_indices(1)[::2]:
                (out / "0" / f"c.{index.t}.1.{index.z}.0.0").unlink(missing_ok=True)
        assert store_status(out).virtual.missing >= 6
        return out

    return make


@pytest.mark.parametrize(
    "window",
    [
        {"z": 1},
        {"z": 3},
        {"z": 1, "past": 1, "future": 1},
        {"z": 3, "past": 1},
        {"z": 3, "past": 2, "running": 0},
        {"z": "all", "network": "care3d", "width": 8, "depth": 1},
        {"z": 3, "more_kinds": ("fluorescence",)},
    ],
    ids=["plane", "z", "t", "z and t", "running", "stack", "two sources"],
)
def test_what_is_owed_is_as_it_would_have_been_live(core, bundle_of, tmp_path, window):
    """Bit for bit, raw planes and other predictions too: every second prediction is lost and made again."""
    bundle, out = bundle_of(**window), tmp_path / "run.ome.zarr"
    models, how = {"mitochondria": str(bundle)}, {"device": "cpu", "worker": "thread"}
    sources = ["Brightfield", "Mitochondria"][: 1 + len(window.get("more_kinds", ()))]
    kinds = ["brightfield", "fluorescence"][: len(sources)]
    sequence = a_sequence(source=sources, source_kind=kinds)
    sequence = sequence.replace(channels=[*sources, sequence.channels[-1]])
    Session(core, sequence, out, models=models, **how).run()
    c = len(sources)
    whole = zarr.open(out, mode="r")["0"][:]
    assert whole[:, c].any(axis=(-2, -1)).all()
    with open_store(out) as store:
        lost = store.plan.planned_indices(c)[::2]
    for index in lost:
        (out / "0" / f"c.{index.t}.{c}.{index.z}.0.0").unlink()
    ticks = []
    report = restain(out, models=models, progress=lambda *a: ticks.append(a), **how)
    assert report.planes_stained == len(lost) == ticks[-1][0] == ticks[-1][1]
    assert (report.planes_owed, report.planes_given_up, report.interrupted) == (0, 0, False)
    np.testing.assert_array_equal(zarr.open(out, mode="r")["0"][:], whole)
    lines = read_journal(journal_path(out))
    kinds = [line["kind"] for line in lines]
    assert kinds.count("restain") == kinds.count("restained") == 1
    assert store_status(out).finished
    after_it = [line for line in lines[kinds.index("restain") :] if line["kind"] == "stained"]
    assert {tuple(line["index"]) for line in after_it} == set(lost)
    assert restain(out, models=models, **how).planes_stained == 0


def test_another_model_is_refused(left, bundle_of, tmp_path):
    bundle, other = bundle_of(z=1), bundle_of(z=1, width=8)
    out = left(bundle)
    with pytest.raises(BundleError, match="predictions of one model"):
        restain(out, models={"mitochondria": str(other)})
    with pytest.raises(BundleError, match="No model is called"):
        restain(out, models={"mitochondria": "nowhere"})
    with pytest.raises(BundleError, match="no virtual channel of the store"):
        restain(out, models={"nuclei": str(bundle)})
    assert store_status(out).virtual.owed >= 6


def test_what_cannot_be_restained(core, tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        restain(tmp_path / "nothing.ome.zarr")
    out = tmp_path / "raw.ome.zarr"
    Session(core, a_sequence().replace(channels=["Brightfield"]), out).run()
    with pytest.raises(StoreError, match="no virtual channel"):
        restain(out)


def test_skipped_planes_are_left_unless_asked_for(left, bundle_of):
    bundle = bundle_of(z=1)
    out = left(bundle, lag="live-only")
    models = {"mitochondria": str(bundle)}
    with open_store(out) as store:
        missing = [i for i in store.plan.planned_indices(1) if not store.present(1)[i.p, i.t, i.z]]
    from livestain.store import Journal

    with Journal(journal_path(out)) as journal:
        for index in missing[:4]:
            journal.append("skipped", index=index, why="for the test")
    skipped = store_status(out).virtual.skipped
    assert skipped >= 4
    report = restain(out, models=models, device="cpu", worker="thread")
    assert (report.planes_owed, report.planes_given_up) == (0, skipped)
    report = restain(out, models=models, device="cpu", worker="thread", again=True)
    assert (report.planes_stained, report.planes_given_up) == (skipped, 0)


def test_after_a_crash_what_has_its_sources_is_done(left, bundle_of):
    """The rest waits for planes that nobody has taken; that is no failure of the staining."""
    bundle = bundle_of(z=3)
    out = left(bundle)
    journal = journal_path(out)
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(line for line in lines if b'"finished"' not in line))
    for t, c, z in ((2, 0, 1), (3, 0, 2), (2, 1, 0), (2, 1, 1), (2, 1, 2), (3, 1, 1), (3, 1, 2)):
        (out / "0" / f"c.{t}.{c}.{z}.0.0").unlink(missing_ok=True)
    # By the command, with a worker in a process of its own, as always.
    words = ["restain", str(out), "--model", f"mitochondria={bundle}", "--device", "cpu"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "5 cannot be predicted: their source planes were never taken" in result.stdout
    assert store_status(out).virtual.owed == 5
    assert store_status(out).virtual.present == 7
    models = {"mitochondria": str(bundle)}
    report = restain(out, models=models, device="cpu", worker="thread")
    assert (report.planes_owed, report.planes_waiting, report.planes_failed) == (0, 5, 0)


def test_it_can_be_stopped(left, bundle_of):
    bundle = bundle_of(z=1)
    out = left(bundle)
    owed, stop = store_status(out).virtual.owed, threading.Event()
    models = {"mitochondria": str(bundle)}
    stop.set()
    report = restain(out, models=models, device="cpu", worker="thread", stop=stop)
    assert report.interrupted
    assert report.planes_stained + report.planes_owed == owed
    assert restain(out, models=models, device="cpu", worker="thread").planes_owed == 0


def test_a_run_leaves_what_is_owed(tiny_bundle, tmp_path):
    (tmp_path / "a.yaml").write_text(a_sequence(t=8).yaml())
    out = tmp_path / "run.ome.zarr"
    words = ["run", str(tmp_path / "a.yaml"), "--out", str(out), "--leave-owed", "--json"]
    result = CliRunner().invoke(app, [*words, "--model", f"mitochondria={tiny_bundle}"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout.splitlines()[-1])
    assert told["planes_acquired"] == 24
    assert told["planes_missing"] == 0
    assert told["planes_stained"] + told["planes_owed"] == 24
    status = store_status(out)
    assert status.virtual.owed == told["planes_owed"]


def test_a_store_that_is_being_written_is_left_alone(core, tmp_path, tiny_bundle):
    out = tmp_path / "run.ome.zarr"
    models = {"mitochondria": str(tiny_bundle)}
    sequence = a_sequence().replace(time_plan={"interval": 0.1, "loops": 3})
    session = Session(core, sequence, out, models=models, worker="thread")
    with session, pytest.raises(StoreError, match="is being written by livestain run, process"):
        restain(out, models=models)
    assert session.report.planes_missing == 0
    restain(out, models=models, worker="thread")
    assert not lock_path(out).exists()
