"""Several workers through the real runner: the planes divided, one that dies, one that is given up."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
import useq

from livestain.bundle import read_bundle
from livestain.errors import SettingsError, WorkerError
from livestain.inference import Stainer
from livestain.live.microscope import simulated_core
from livestain.live.session import Session
from livestain.restain import restain
from livestain.stain.host import HostSettings
from livestain.stain.share import Share
from livestain.stain.team import devices_of
from livestain.store import (
    Store,
    journal_path,
    level_shapes,
    open_store,
    read_journal,
    store_status,
)


def a_sequence(t=4, z=3, lag="backfill"):
    return useq.MDASequence(
        axis_order="tpgcz",
        time_plan={"interval": 0, "loops": t},
        z_plan={"range": 0.5 * (z - 1), "step": 0.5} if z > 1 else None,
        channels=[
            {"group": "Channel", "config": "Brightfield", "exposure": 5},
            {"group": "Virtual", "config": "mitochondria"},
        ],
        metadata={"livestain": {"channels": {"mitochondria": {"lag": lag}}}},
    )


@pytest.fixture
def new_core():
    cores = []

    def new(shape=(64, 80)):
        cores.append(simulated_core(5, shape=shape))
        return cores[-1]

    yield new
    while cores:
        cores.pop().unloadAllDevices()


def lines(out, kind):
    return [line for line in read_journal(journal_path(out)) if line["kind"] == kind]


def by_worker(out):
    """Which planes each worker has stained; none twice."""
    stained = lines(out, "stained")
    places = [tuple(line["index"]) for line in stained]
    assert len(set(places)) == len(places)
    return {
        n: {p for p, s in zip(places, stained, strict=True) if s["worker"] == n} for n in (0, 1)
    }


def test_two_workers_divide_the_planes(new_core, bundle_of, tmp_path):
    out = tmp_path / "run.ome.zarr"
    bundle = bundle_of(z=3)  # windows reach over the shares
    report = Session(
        new_core(),
        a_sequence(),
        out,
        models={"mitochondria": str(bundle)},
        device="cpu,cpu",
        worker="thread",
    ).run()
    assert (report.planes_acquired, report.planes_stained, report.planes_missing) == (12, 12, 0)
    assert [(m["worker"], m["device"], m["tile"]) for m in report.models] == [
        (0, "cpu", None),
        (1, "cpu", None),
    ]
    assert sorted(line["worker"] for line in lines(out, "worker")) == [0, 1]
    parts = by_worker(out)
    with open_store(out) as store, Stainer(read_bundle(bundle), device="cpu") as stainer:
        for place in store.plan.planned_indices(1):
            assert place in parts[0 if Share(0, 2).has(place) else 1]
            sources = np.stack([store.read(i) for i in store.plan.sources_of(place)])
            found = store.read_decoded(place)
            np.testing.assert_allclose(found, stainer.stain(sources)[0], atol=0.0011)


def test_one_given_up_leaves_its_share_owed_and_the_others_go_on(new_core, tiny_bundle, tmp_path):
    """In lockstep, where the acquisition waits for what still can come, and for nothing else."""
    out = tmp_path / "run.ome.zarr"
    session = Session(
        new_core(),
        a_sequence(lag="lockstep"),
        out,
        models={"mitochondria": str(tiny_bundle)},
        device="cpu,cpu",
        host_settings=HostSettings(max_barren_deaths=1),
    )
    pids = {}
    tell, committed = session._on_worker, session._on_committed

    def note(kind, message):
        if kind == "ready":
            pids[message["worker"]] = message["pid"]
        tell(kind, message)

    def kill(*plane):
        """Before the worker is told of its first plane."""
        if 1 in pids:
            os.kill(pids.pop(1), signal.SIGKILL)
        committed(*plane)

    session._on_worker, session._on_committed = note, kill
    with pytest.raises(
        WorkerError, match=r"^worker 1 \(cpu\): The staining worker could not be kept"
    ):
        session.run()
    report, parts = session.report, by_worker(out)
    assert report.planes_acquired == 12
    assert report.worker_deaths == 1
    with open_store(out) as store:
        planned = store.plan.planned_indices(1)
    assert parts[0] == {tuple(i) for i in planned if Share(0, 2).has(i)}
    assert not parts[1]
    left = 12 - len(parts[0])
    assert report.planes_owed == report.planes_missing == left
    told = lines(out, "fault")
    assert [fault["worker"] for fault in told] == [1, 1]
    assert told[0]["why"].startswith("worker 1 (cpu): worker died: it was killed")
    assert told[1]["why"].startswith(
        "worker 1 (cpu): The staining worker could not be kept running"
    )
    assert [fault["why"] for fault in told] == report.notes
    assert len({line["pid"] for line in lines(out, "worker")}) == 2
    done = restain(out, models={"mitochondria": str(tiny_bundle)}, device="cpu", worker="thread")
    assert (done.planes_stained, done.planes_owed) == (left, 0)


def test_stacks_of_a_model_of_whole_stacks_stay_together(new_core, bundle_of, tmp_path):
    out = tmp_path / "run.ome.zarr"
    bundle = bundle_of(network="care3d", z="all", depth=1)
    report = Session(
        new_core(),
        a_sequence(t=6),
        out,
        models={"mitochondria": str(bundle)},
        device="cpu,cpu",
        worker="thread",
    ).run()
    assert (report.planes_stained, report.planes_missing) == (18, 0)
    times = [{t for _, t, _, _ in part} for part in by_worker(out).values()]
    assert not times[0] & times[1]
    assert len(times[0]) == len(times[1]) == 3


def test_pyramids_are_divided_too_and_restain_takes_several_devices(
    new_core, tiny_bundle, tmp_path, monkeypatch
):
    out = tmp_path / "run.ome.zarr"
    shape = (560, 520)
    models = {"mitochondria": str(tiny_bundle)}
    write, written = Store.write_levels, []

    def note(self, index, plane):
        written.append((index, self))
        write(self, index, plane)

    monkeypatch.setattr(Store, "write_levels", note)
    session = Session(
        new_core(shape),
        a_sequence(t=4, z=1),
        out,
        models=models,
        device="cpu,cpu",
        worker="thread",
        leave_owed=True,
    )
    assert session.run().planes_acquired == 4
    left = store_status(out).owed
    done = restain(out, models=models, device="cpu, cpu", worker="thread")
    assert (done.planes_stained, done.planes_owed) == (left, 0)
    assert [m["worker"] for m in done.models] == [0, 1]
    assert len(level_shapes(*shape)) > 1
    with open_store(out) as store:
        assert not store.levels_missing(0)
        assert not store.levels_missing(1)
    raw = [index for index, _ in written if index.c == 0]
    assert len(raw) == len(set(raw)) == 4
    for index, store in written:  # each worker has a store of its own
        mine = Share(0, 2).has(index)
        assert all(Share(0, 2).has(i) == mine for i, other in written if other is store)


@pytest.mark.parametrize("device", ["", "cpu,", ",cuda:0"])
def test_devices_have_names(device):
    with pytest.raises(
        SettingsError, match=r"several with commas between them, such as cuda:0,cuda:1"
    ):
        devices_of(device)
    assert devices_of("cuda:0, cuda:1") == ["cuda:0", "cuda:1"]
