"""Whole runs on Micro-Manager's demo hardware with our cameras."""

from __future__ import annotations

import json
import os
import signal

import numpy as np
import pytest
import useq
import zarr

from livestain.live.microscope import simulated_core
from livestain.live.session import Session
from livestain.planes import PlaneIndex
from livestain.stain.host import HostSettings
from livestain.store import journal_path, open_store, read_journal, store_status


def a_sequence(t=4, z=3, virtual=True, **more):
    channels = [
        {"group": "Channel", "config": "Brightfield", "exposure": 5},
        {
            "group": "Channel",
            "config": "Mitochondria",
            "exposure": 50,
            "acquire_every": 2,
            "do_stack": False,
        },
    ]
    if virtual:
        channels.append({"group": "Virtual", "config": "mitochondria"})
    return useq.MDASequence(
        axis_order="tpgcz",
        time_plan={"interval": 0, "loops": t},
        z_plan={"range": 0.5 * (z - 1), "step": 0.5} if z > 1 else None,
        channels=channels,
        **more,
    )


@pytest.fixture
def core():
    core = simulated_core(5, shape=(96, 80))
    yield core
    core.unloadAllDevices()
    del core


class Tap:
    """Keeps a copy of what the camera gave, as the runner's own listeners see it."""

    def __init__(self, core):
        self.frames = {}
        self.triggered = []
        core.mda.events.frameReady.connect(self._frame)

    def _frame(self, image, event, meta):
        index = event.index
        key = (index.get("t", 0), index.get("c", 0), index.get("z", 0))
        self.frames[key] = np.array(image)
        self.triggered.append(bool(meta.get("hardware_triggered")))


def raw_equals_camera(path, tap):
    array = zarr.open(path, mode="r")["0"]
    for (t, c, z), frame in tap.frames.items():
        np.testing.assert_array_equal(array[t, c, z], frame)


def test_a_run_stores_every_plane_and_its_prediction(core, tiny_bundle, tmp_path):
    tap = Tap(core)
    out = tmp_path / "run.ome.zarr"
    session = Session(core, a_sequence(), out, models={"mitochondria": str(tiny_bundle)})
    heard = {"acquired": [], "stained": [], "finished": []}
    session.plane_acquired.connect(lambda a: heard["acquired"].append(a.index))
    session.plane_stained.connect(lambda s: heard["stained"].append(s.index))
    session.finished.connect(heard["finished"].append)
    report = session.run()

    assert (report.planes_acquired, report.planes_stained, report.planes_missing) == (14, 12, 0)
    assert heard["finished"] == [report]
    assert len(set(heard["acquired"])) == 14
    assert len(set(heard["stained"])) == 12
    assert report.latency_ms.p50 > 0
    assert len(tap.frames) == 14
    raw_equals_camera(out, tap)
    assert True in tap.triggered, "the stacks are triggered bursts"
    assert False in tap.triggered, "the single fluorescence planes are snaps"

    from livestain.bundle import read_bundle
    from livestain.inference import Stainer

    with open_store(out) as store, Stainer(read_bundle(tiny_bundle), device="cpu") as stainer:
        assert [c.name for c in store.plan.channels] == [
            "Brightfield",
            "Mitochondria",
            "mitochondria",
        ]
        for place in store.plan.planned_indices(2):
            expected = stainer.stain(store.read(place.at(c=0))[None])[0]
            np.testing.assert_allclose(store.read_decoded(place), expected, atol=0.0011)
    status = store_status(out)
    assert (status.planned, status.present, status.missing) == (26, 26, 0)
    lines = read_journal(journal_path(out))
    assert [line["kind"] for line in lines].count("plane") == 14
    assert [line["kind"] for line in lines].count("stained") == 12
    assert lines[-1]["kind"] == "finished"
    assert {line["pid"] for line in lines if line["kind"] == "stained"} != {os.getpid()}


def test_a_raw_run_needs_no_model(core, tmp_path):
    tap = Tap(core)
    out = tmp_path / "raw.ome.zarr"
    report = Session(core, a_sequence(virtual=False), out).run()
    assert (report.planes_acquired, report.planes_stained, report.planes_missing) == (14, 0, 0)
    raw_equals_camera(out, tap)


def test_a_killed_worker_is_replaced_and_nothing_is_missing(core, tiny_bundle, tmp_path):
    out = tmp_path / "run.ome.zarr"
    tap = Tap(core)
    session = Session(core, a_sequence(t=8), out, models={"mitochondria": str(tiny_bundle)})
    killed = []

    def kill_once(stained):
        if not killed:
            journal = read_journal(journal_path(out))
            pid = next(line["pid"] for line in journal if line["kind"] == "worker")
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    session.plane_stained.connect(kill_once)
    report = session.run()
    assert killed
    assert report.worker_deaths == 1
    assert (report.planes_acquired, report.planes_stained, report.planes_missing) == (28, 24, 0)
    raw_equals_camera(out, tap)
    by = {line["pid"] for line in read_journal(journal_path(out)) if line["kind"] == "stained"}
    assert killed[0] in by
    assert len(by) == 2, "another process wrote the rest"
    assert store_status(out).missing == 0


def test_a_hanging_worker_is_replaced(core, tiny_bundle, tmp_path):
    out = tmp_path / "run.ome.zarr"
    session = Session(
        core,
        a_sequence(t=4),
        out,
        models={"mitochondria": str(tiny_bundle)},
        host_settings=HostSettings(hang_timeout_s=1.0),
    )
    stopped = []

    def stop_once(stained):
        if not stopped:
            stopped.append(stained)
            journal = read_journal(journal_path(out))
            pid = next(line["pid"] for line in journal if line["kind"] == "worker")
            os.kill(pid, signal.SIGSTOP)

    session.plane_stained.connect(stop_once)
    report = session.run()
    assert report.planes_missing == 0
    faults = [x["why"] for x in read_journal(journal_path(out)) if x["kind"] == "fault"]
    # Stopped while it had a plane in hand it hangs; between two planes it is merely silent for ever.
    assert any("hung" in why for why in faults)


def test_a_plane_on_which_the_worker_dies_twice_is_impossible(bundle_of, tmp_path):
    # Slow enough, at some hundred milliseconds a plane, that the worker dies with the plane in hand.
    slow = bundle_of(width=24, depth=3)
    core = simulated_core(5, shape=(512, 512))
    out = tmp_path / "run.ome.zarr"
    session = Session(core, a_sequence(t=3, z=1), out, models={"mitochondria": str(slow)})
    poison = [0, 1, 2, 0]

    def die_on_it(kind, message, report=session._on_worker):
        if kind == "ready":
            die_on_it.pid = message["pid"]
        if kind == "taking" and message["index"] == poison:
            os.kill(die_on_it.pid, signal.SIGKILL)
        report(kind, message)

    session._on_worker = die_on_it
    report = session.run()
    assert report.planes_acquired == 5
    assert report.planes_missing == 1
    assert report.worker_deaths == 2
    status = store_status(out)
    assert (status.impossible, status.owed) == (1, 0)
    why = [x["why"] for x in read_journal(journal_path(out)) if x["kind"] == "impossible"]
    assert len(why) == 1
    assert "failed 2 times: the worker died on it (it was killed, as a computer without" in why[0]
    # It may have been for want of memory: each successor took smaller tiles, and said so.
    steps = [
        x["models"][0]["tile_step"]
        for x in read_journal(journal_path(out))
        if x["kind"] == "worker"
    ]
    assert steps == [0, 1, 2]
    assert all(note.endswith("the next one predicts in smaller tiles") for note in report.notes)


def test_an_error_in_a_users_slot_costs_no_plane_and_reaches_the_caller(
    core, tiny_bundle, tmp_path
):
    out = tmp_path / "run.ome.zarr"
    session = Session(core, a_sequence(t=2), out, models={"mitochondria": str(tiny_bundle)})

    def broken(acquired):
        raise ZeroDivisionError("the user's own")

    session.plane_acquired.connect(broken)
    failed = []
    session.failed.connect(failed.append)
    with pytest.raises(ZeroDivisionError, match="the user's own"):
        session.run()
    assert len(failed) == 1
    assert store_status(out).missing == 0


def test_cancel_keeps_what_was_taken_and_stains_it(core, tiny_bundle, tmp_path):
    out = tmp_path / "run.ome.zarr"
    session = Session(core, a_sequence(t=200), out, models={"mitochondria": str(tiny_bundle)})
    session.plane_stained.connect(lambda s: session.cancel())
    report = session.run()
    assert report.interrupted
    assert 0 < report.planes_acquired < 700
    with open_store(out) as store:
        np.testing.assert_array_equal(store.present(0), store.present(2))
    status = store_status(out)
    assert status.owed == 0
    assert status.impossible == status.missing > 0


def test_lockstep_waits_for_each_prediction(core, tiny_bundle, tmp_path):
    out = tmp_path / "run.ome.zarr"
    sequence = a_sequence(
        t=3, metadata={"livestain": {"channels": {"mitochondria": {"lag": "lockstep"}}}}
    )
    session = Session(core, sequence, out, models={"mitochondria": str(tiny_bundle)})
    order = []
    session.plane_acquired.connect(lambda a: order.append(("raw", a.index.t, a.index.z)))
    session.plane_stained.connect(lambda s: order.append(("virtual", s.index.t, s.index.z)))
    assert session.run().planes_missing == 0
    brightfield = [step for step in order if step[0] == "raw"]
    for t in range(3):
        for z in range(3):
            assert ("virtual", t, z) in order
    last_first_stack = order.index(("virtual", 0, 2))
    first_second_stack = min(i for i, s in enumerate(order) if s[0] == "raw" and s[1] == 1)
    assert last_first_stack < first_second_stack
    assert len(brightfield) >= 9


def test_the_worker_as_a_thread_stains_the_same(core, tiny_bundle, tmp_path):
    a, b = tmp_path / "a.ome.zarr", tmp_path / "b.ome.zarr"
    models = {"mitochondria": str(tiny_bundle)}
    Session(core, a_sequence(t=1), a, models=models, device="cpu").run()
    Session(core, a_sequence(t=1), b, models=models, device="cpu", worker="thread").run()
    with open_store(a) as first, open_store(b) as second:
        for z in range(3):
            place = PlaneIndex(0, 0, 0, z)
            assert first.read(place).shape == (96, 80)
            assert second.is_present(place.at(c=2))


def test_the_store_says_who_predicted_what(core, tiny_bundle, tmp_path):
    from livestain.bundle import read_bundle

    out = tmp_path / "run.ome.zarr"
    Session(core, a_sequence(t=1), out, models={"mitochondria": str(tiny_bundle)}).run()
    about = json.loads((out / "zarr.json").read_text())["attributes"]
    virtual = about["livestain"]["plan"]["channels"][2]["virtual"]
    assert virtual["bundle_sha256"] == read_bundle(tiny_bundle).sha256
    assert virtual["source"] == "Brightfield"
    assert about["livestain"]["versions"]["pymmcore-plus"]
    assert about["livestain"]["sequence"]["channels"][2]["group"] == "Virtual"
    assert about["livestain"]["system_state"]["devices"]
    assert about["ome"]["omero"]["channels"][2]["label"] == "mitochondria (predicted)"
