"""The worker as a process of its own: users' scripts, dead parents, hangs, planes it cannot do."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
from multiprocessing.connection import Listener

import numpy as np
import pytest
import useq

from livestain.bundle import read_bundle
from livestain.errors import BundleError, WorkerError
from livestain.inference import Stainer
from livestain.live.microscope import simulated_core
from livestain.live.session import Session
from livestain.planes import PlaneIndex
from livestain.stain.host import HostSettings
from livestain.stain.protocol import ChannelModel, WorkerSetup, receive, send
from livestain.store import (
    ChannelPlan,
    PlannedBlock,
    StorePlan,
    VirtualPlan,
    create_store,
    journal_path,
    open_store,
    read_journal,
    store_status,
)
from livestain.store.chunks import chunk_file

SCRIPT = """
print("the script runs", flush=True)
import os, signal, sys
import useq
from livestain import Session, simulated_core

out, bundle, die = sys.argv[1:]
sequence = useq.MDASequence(
    axis_order="tpgcz",
    time_plan={"interval": 3600 if die == "idle" else 0, "loops": 3},
    channels=[
        {"group": "Channel", "config": "Brightfield", "exposure": 5},
        {"group": "Virtual", "config": "mitochondria"},
    ],
)
core = simulated_core(2, shape=(64, 80))
session = Session(core, sequence, out, models={"mitochondria": bundle}, device="cpu")
tell = session._on_worker


def watch(kind, message):
    tell(kind, message)
    if kind == {"in hand": "taking", "idle": "stained"}.get(die):
        print("gone", message["index"], flush=True)
        os.kill(os.getpid(), signal.SIGKILL)


session._on_worker = watch
report = session.run()
print("stained", report.planes_stained, "missing", report.planes_missing, flush=True)
"""


def a_sequence(t=3, z=1):
    return useq.MDASequence(
        axis_order="tpgcz",
        time_plan={"interval": 0, "loops": t},
        z_plan={"range": 0.5 * (z - 1), "step": 0.5} if z > 1 else None,
        channels=[
            {"group": "Channel", "config": "Brightfield", "exposure": 5},
            {"group": "Virtual", "config": "mitochondria"},
        ],
    )


@pytest.fixture
def core():
    core = simulated_core(5, shape=(64, 80))
    yield core
    core.unloadAllDevices()
    del core


def start_script(tmp_path, bundle, die):
    """Start the script in a folder whose numpy.py and torch.py nobody may import."""
    here = tmp_path / "here"
    here.mkdir()
    for name in ("numpy", "torch", "json"):
        (here / f"{name}.py").write_text("raise SystemExit('not the real one')\n")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    return subprocess.Popen(
        [sys.executable, script, tmp_path / "run.ome.zarr", bundle, die],
        cwd=here,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def all_as_predicted(path, bundle):
    """Check every virtual plane that is there against a prediction made here; return their places."""
    with open_store(path) as store, Stainer(read_bundle(bundle), device="cpu") as stainer:
        c = next(c for c, channel in enumerate(store.plan.channels) if channel.kind == "virtual")
        there = [i for i in store.plan.planned_indices(c) if store.is_present(i)]
        for index in there:
            expected = stainer.stain(store.read(index.at(c=0))[None])[0]
            np.testing.assert_allclose(store.read_decoded(index), expected, atol=0.0011)
    return there


def test_a_script_needs_no_main_guard_and_its_folder_shadows_nothing(tmp_path, tiny_bundle):
    script = start_script(tmp_path, tiny_bundle, "never")
    out, err = script.communicate(timeout=120)
    assert script.returncode == 0, err
    assert out.splitlines() == ["the script runs", "stained 3 missing 0"]
    assert "not the real one" not in err


@pytest.mark.parametrize("die", ["in hand", "idle"])
def test_the_worker_leaves_when_its_parent_is_killed(tmp_path, tiny_bundle, die):
    script = start_script(tmp_path, tiny_bundle, die)
    try:
        assert script.stdout.readline() == "the script runs\n"
        told = script.stdout.readline()
        assert told.startswith("gone"), script.stderr.read()
        # Both processes write to this pipe; it ends when the last of them has ended.
        _, err = script.communicate(timeout=5)
    finally:
        script.kill()
    assert script.returncode == -signal.SIGKILL
    assert "Traceback" not in err
    last = PlaneIndex(*json.loads(told.removeprefix("gone")))
    there = all_as_predicted(tmp_path / "run.ome.zarr", tiny_bundle)
    assert last in there, "the plane in hand was finished"
    status = store_status(tmp_path / "run.ome.zarr")
    assert status.present + status.missing == status.planned


STUCK = """
import threading
from livestain.inference import Stainer
from livestain.stain import worker

Stainer.warm_up = lambda self, *shape: 0.0
Stainer.stain_measured = lambda self, planes: threading.Event().wait()
worker.main()
"""


@pytest.mark.slow
def test_a_worker_stuck_in_a_plane_leaves_too_when_its_parent_is_gone(tmp_path, tiny_bundle):
    one = (PlannedBlock(t=(0,), z=(0,)),)
    virtual = VirtualPlan(
        source="Brightfield",
        scale=0.001,
        offset=-20.0,
        unit="sd",
        bundle="tiny",
        bundle_sha256=read_bundle(tiny_bundle).sha256,
        output="mitochondria",
    )
    plan = StorePlan(
        n_t=1,
        n_z=1,
        height=64,
        width=64,
        pixel_size_um=0.1,
        z_step_um=None,
        t_interval_s=None,
        channels=(
            ChannelPlan(name="Brightfield", kind="raw", planned=one),
            ChannelPlan(name="mitochondria", kind="virtual", planned=one, virtual=virtual),
        ),
    )
    path = tmp_path / "run.ome.zarr"
    with create_store(path, plan) as store:
        image = np.random.default_rng(0).integers(0, 4000, (64, 64), np.uint16)
        store.write(PlaneIndex(0, 0, 0, 0), image).result(10)
    key = secrets.token_bytes(16)
    with Listener(authkey=key) as listener:
        stuck = subprocess.Popen([sys.executable, "-P", "-c", STUCK], stdin=subprocess.PIPE)
        hello = {"address": listener.address, "key": key.hex()}
        stuck.stdin.write(json.dumps(hello).encode() + b"\n")
        stuck.stdin.close()
        try:
            with listener.accept() as connection:
                setup = WorkerSetup(
                    store=str(path),
                    shape=(64, 64),
                    pixel_size_um=0.1,
                    models=(
                        ChannelModel(
                            c=1,
                            bundle=str(tiny_bundle),
                            sha256=read_bundle(tiny_bundle).sha256,
                            output="mitochondria",
                        ),
                    ),
                    device="cpu",
                )
                send(connection, "setup", setup=setup.model_dump(mode="json"))
                kinds = [receive(connection)["kind"] for _ in range(2)]
                if kinds[-1] != "taking":
                    kinds.append(receive(connection)["kind"])
                assert kinds[0] == "ready"
                assert kinds[-1] == "taking"
            assert stuck.wait(timeout=5) == 3
        finally:
            stuck.kill()
            stuck.wait()
    assert store_status(path).owed == 1


def test_a_worker_that_hangs_between_two_planes_is_replaced(core, tiny_bundle, tmp_path):
    out = tmp_path / "run.ome.zarr"
    core.mda.engine.use_hardware_sequencing = False
    session = Session(
        core,
        a_sequence(t=2),
        out,
        models={"mitochondria": str(tiny_bundle)},
        host_settings=HostSettings(hang_timeout_s=0.6),
    )
    idle, found = threading.Event(), threading.Event()
    pids = []
    tell = session._on_worker

    def watch(kind, message):
        tell(kind, message)
        if kind == "stained" and not pids:
            pids.append(message["pid"])
            os.kill(message["pid"], signal.SIGSTOP)
            idle.set()
        if kind == "fault":
            found.set()

    def hold(event):
        # The second time point is taken when the first one's worker is known to be gone.
        if event.index["t"] == 1:
            assert idle.wait(60)
            assert found.wait(60)

    session._on_worker = watch
    core.mda.events.eventStarted.connect(hold)
    report = session.run()
    core.mda.events.eventStarted.disconnect(hold)
    assert (report.planes_missing, report.worker_deaths) == (0, 1)
    (fault,) = [line for line in read_journal(journal_path(out)) if line["kind"] == "fault"]
    assert "hung" in fault["why"]
    assert fault["in_hand"] is None
    assert len(all_as_predicted(out, tiny_bundle)) == 2


@pytest.mark.slow
def test_a_worker_that_was_told_too_much_looks_into_the_store(
    core, tiny_bundle, tmp_path, monkeypatch
):
    monkeypatch.setattr("livestain.stain.outbox._SIZE", 40)
    out = tmp_path / "run.ome.zarr"
    # Far more than the queue, the pipe (some 280) and what the worker took before its first plane was done.
    n = 700
    session = Session(core, a_sequence(t=n), out, models={"mitochondria": str(tiny_bundle)})
    pids = []
    tell, missing = session._on_worker, session._ledger.missing

    def stop_it(kind, message):
        tell(kind, message)
        if kind == "stained" and not pids:
            pids.append(message["pid"])
            os.kill(message["pid"], signal.SIGSTOP)

    def let_it_go_on(*told):
        # All raw planes are in the store by now, and most of the news of them was dropped.
        assert session._host._outbox.rescan.is_set()
        missing(*told)
        os.kill(pids[0], signal.SIGCONT)

    session._on_worker, session._ledger.missing = stop_it, let_it_go_on
    report = session.run()
    assert (report.planes_acquired, report.planes_stained, report.planes_missing) == (n, n, 0)
    assert report.worker_deaths == 0
    assert store_status(out).missing == 0


def test_a_damaged_source_plane_is_given_up_and_the_others_are_stained(core, tiny_bundle, tmp_path):
    out = tmp_path / "run.ome.zarr"
    session = Session(core, a_sequence(t=3, z=2), out, models={"mitochondria": str(tiny_bundle)})
    bad = PlaneIndex(0, 1, 0, 1)
    tell = session._on_committed

    def damage(index, ready_ns, committed_ns):
        if index == bad:
            file = chunk_file(out / "0", bad.t, bad.c, bad.z)
            data = bytearray(file.read_bytes())
            data[len(data) // 2] ^= 0xFF
            file.write_bytes(data)
        tell(index, ready_ns, committed_ns)

    session._on_committed = damage
    report = session.run()
    assert (report.planes_acquired, report.planes_stained, report.planes_missing) == (6, 5, 1)
    assert report.worker_deaths == 0
    lines = read_journal(journal_path(out))
    (given_up,) = [line for line in lines if line["kind"] == "impossible"]
    assert given_up["index"] == [*bad.at(c=1)]
    assert "failed 2 times" in given_up["why"]
    assert len(all_as_predicted(out, tiny_bundle)) == 5


def test_a_worker_that_cannot_start_leaves_no_store(core, tiny_bundle, tmp_path, monkeypatch):
    models = {"mitochondria": str(tiny_bundle)}
    session = Session(core, a_sequence(), tmp_path / "run.ome.zarr", models=models)
    monkeypatch.setenv("PYTHONHOME", str(tmp_path / "nowhere"))
    with pytest.raises(WorkerError, match=r"could not be kept running.*before it had connected"):
        session.start()
    monkeypatch.delenv("PYTHONHOME")
    session = Session(
        core,
        a_sequence(),
        tmp_path / "run.ome.zarr",
        models=models,
        host_settings=HostSettings(start_timeout_s=0.05),
    )
    with pytest.raises(WorkerError, match="could not be kept running"):
        session.start()
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_damaged_after_the_plan_is_refused_by_the_worker(core, bundle_of, tmp_path):
    bundle = tmp_path / "bundle"
    shutil.copytree(bundle_of(), bundle)
    out = tmp_path / "run.ome.zarr"
    session = Session(core, a_sequence(), out, models={"mitochondria": str(bundle)})
    assert session.plan.bundles
    weights = bundle / "weights.pt"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(BundleError, match="damaged"):
        session.start()
    assert not out.exists()
    assert not journal_path(out).exists()
