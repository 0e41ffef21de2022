"""Runs whose events are decided while they go on: every plane in its place, and answered in time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import ome_types
import pytest
import useq
import yaozarrs
import zarr
from useq import MDAEvent

from livestain.errors import MissingPlaneError, SequenceError
from livestain.live.microscope import simulated_core
from livestain.live.session import Session
from livestain.planes import PlaneIndex
from livestain.restain import restain
from livestain.simulate.faults import Faults
from livestain.store import open_store, read_journal, store_status
from livestain.store.journal import journal_path

FIELDS = ({"x": 0, "y": 0}, {"x": 40, "y": 10}, {"x": 90, "y": 0})


@pytest.fixture
def core():
    core = simulated_core(5, shape=(64, 64))
    yield core
    core.unloadAllDevices()
    del core


def frame(**more):
    """What one time point may have."""
    values = {
        "axis_order": "tpgcz",
        "stage_positions": FIELDS,
        "channels": [
            {"group": "Channel", "config": "Brightfield", "exposure": 2},
            {"group": "Channel", "config": "Mitochondria", "exposure": 3},
            {"group": "Virtual", "config": "mitochondria"},
        ],
    }
    return useq.MDASequence(**{**values, **more})


def session(core, tiny_bundle, out, events, sequence=None, **more):
    models = {"mitochondria": str(tiny_bundle)}
    return Session(
        core, sequence or frame(), out, events=events, models=models, worker="thread", **more
    )


def bright(p=0, **index):
    return MDAEvent(index={"p": p, **index}, channel="Brightfield")


def test_a_run_answers_what_was_predicted(core, tiny_bundle, tmp_path):
    """Three fields are looked at; the one with the brightest prediction is then followed."""
    out, seen = tmp_path / "run.ome.zarr", {}

    def events(running):
        for p in range(3):
            yield bright(p)
            seen[p] = float(running.wait_for(PlaneIndex(p, 0, 2, 0), timeout=30).mean())
        best = max(seen, key=seen.get)
        for t in range(1, 40):  # more than there is room for at first
            yield bright(best, t=t)
        yield MDAEvent(index={"p": best}, channel="Mitochondria")

    report = session(core, tiny_bundle, out, events).run()
    best = max(seen, key=seen.get)
    assert (report.planes_acquired, report.planes_stained) == (43, 42)
    assert (report.planes_missing, report.planes_owed) == (0, 0)
    # The first event answers nothing.
    assert report.answer_ms.p95 >= report.answer_ms.p50 > 0
    answers = [line for line in read_journal(journal_path(out)) if "answer_ms" in line]
    assert len(answers) == 42

    yaozarrs.validate_zarr_store(str(out))
    series = ome_types.from_xml((out / "OME" / "METADATA.ome.xml").read_bytes())
    assert [image.pixels.size_t for image in series.images] == [40] * 3
    group = zarr.open_group(out, mode="r")
    for p in range(3):
        assert group[str(p)]["0"].shape == (40, 3, 1, 64, 64)
    with open_store(out) as store:
        assert not store.plan.open_end
        for c, raw in ((0, True), (1, False), (2, True)):
            expected = np.zeros((3, 40, 1), bool)
            if raw:
                expected[:, 0] = expected[best] = True
            else:
                expected[best, 39] = True  # beside the newest brightfield
            np.testing.assert_array_equal(store.plan.planned(c), expected)
            np.testing.assert_array_equal(store.present(c), expected)
        x_um = zarr.open_group(out, mode="r")["livestain"]["x_um"]
        assert x_um[best, 20, 0, 0] == FIELDS[best]["x"]
    status = store_status(out)
    assert (status.planned, status.present, status.finished) == (85, 85, True)


def test_times_left_out_follow_each_other(core, tiny_bundle, tmp_path):
    out = tmp_path / "run.ome.zarr"

    def events(_):
        for p in (0, 1, 1, 2, 1):
            yield bright(p)
        yield MDAEvent(index={"p": 1}, channel="Mitochondria")

    session(core, tiny_bundle, out, events).run()
    with open_store(out) as store:
        assert store.plan.planned_indices(0) == [
            PlaneIndex(p, t, 0, 0) for p, t in ((0, 0), (1, 0), (1, 1), (1, 2), (2, 0))
        ]
        assert store.plan.planned_indices(1) == [PlaneIndex(1, 2, 1, 0)]


def test_a_list_of_events_is_one_burst(core, tiny_bundle, tmp_path):
    """Lists go to the hardware as triggered sequences; each frame still lies in its place."""
    bursts = []
    core.mda.events.eventStarted.connect(
        lambda event: bursts.append(len(getattr(event, "events", [0])))
    )
    out = tmp_path / "run.ome.zarr"
    stack = frame(z_plan={"range": 2, "step": 0.5})

    def events(_):
        for _ in range(2):
            yield [bright(1, z=z) for z in range(5)]

    given = {}
    core.mda.events.frameReady.connect(
        lambda image, event, meta: given.update(
            {(event.index["t"], event.index["z"]): image.copy()}
        )
    )
    report = session(core, tiny_bundle, out, events, stack).run()
    assert report.planes_acquired == report.planes_stained == 10
    assert bursts == [5, 5]
    with open_store(out) as store:
        for (t, z), image in given.items():
            np.testing.assert_array_equal(store.read(PlaneIndex(1, t, 0, z)), image)


@pytest.mark.parametrize("use", ["in lockstep", "after the end"])
def test_windows_reach_back_in_time_only(core, tiny_bundle, tmp_path, use):
    lag = "lockstep" if use == "in lockstep" else "backfill"
    settings = {"livestain": {"channels": {"mitochondria": {"lag": lag}}}}
    out = tmp_path / "run.ome.zarr"
    there = []

    def events(running):
        for t in range(3):
            yield bright(0, t=t)
            there.append(running.store.is_present(PlaneIndex(0, t, 2, 0)))

    session(core, tiny_bundle, out, events, frame(metadata=settings)).run()
    assert store_status(out).virtual.present == 3
    if use == "in lockstep":
        assert there == [True] * 3


LOCKSTEP = {"livestain": {"channels": {"mitochondria": {"lag": "lockstep"}}}}


@pytest.mark.parametrize(
    ("window", "taken", "predicted"),
    [
        ({"z": 3}, [(0, 1), (0, 3), (0, 2)], [(0, 2)]),  # in parts
        ({"z": 3}, [(0, z) for z in (4, 3, 2, 1, 0)], [(0, z) for z in range(5)]),  # from above
        ({"past": 1}, [(0, 0), (2, 0), (3, 0)], [(0, 0), (3, 0)]),  # with a gap in time
        ({"past": 1}, [(1, 0), (0, 0)], [(0, 0), (1, 0)]),  # backwards
    ],
)
def test_lockstep_waits_for_what_can_be_predicted_in_any_order(
    core, bundle_of, tmp_path, window, taken, predicted
):
    out = tmp_path / "run.ome.zarr"
    there = []

    def events(running):
        here = set()
        for t, z in taken:
            yield bright(0, t=t, z=z)
            here.add((t, z))
            there.append(
                {i for i in predicted if running.store.is_present(PlaneIndex(0, i[0], 2, i[1]))}
            )

    stack = {"z_plan": {"range": 2, "step": 0.5}} if "z" in window else {}
    run = session(core, bundle_of(**window), out, events, frame(metadata=LOCKSTEP, **stack))
    run.start()
    try:
        report = run.wait(timeout=30)
    finally:
        run.abort()
    assert there[-1] == set(predicted)
    assert (report.planes_acquired, report.planes_stained) == (len(taken), len(predicted))
    status = store_status(out)
    assert (status.virtual.planned, status.missing) == (len(predicted), 0)


@pytest.mark.parametrize("window", [{"z": 3}, {"past": 1}])
def test_a_lost_frame_plans_nothing_that_was_not_asked_for(core, bundle_of, tmp_path, window):
    """The last of four frames is lost; what would have followed it was never asked for."""
    out = tmp_path / "run.ome.zarr"
    axis = "z" if "z" in window else "t"
    stack = {"z_plan": {"range": 2.5, "step": 0.5}} if axis == "z" else {}
    burst = [bright(0, **{axis: n}) for n in range(4)]
    core.camera.faults = Faults(dropped_frames=(3,))
    session(core, bundle_of(**window), out, lambda _: [burst], frame(**stack)).run()
    with open_store(out) as store:
        assert store.plan.n_t == (1 if axis == "z" else 4)
        place = {"z": lambda n: PlaneIndex(0, 0, 2, n), "t": lambda n: PlaneIndex(0, n, 2, 0)}[axis]
        # Of the z-window, plane 3 needs plane 4, which nobody asked for; of the time window, it is lost.
        assert store.plan.planned_indices(2) == [place(n) for n in range(3 if axis == "z" else 4)]
    status = store_status(out)
    assert (status.raw.planned, status.raw.present, status.raw.impossible) == (4, 3, 1)
    assert status.virtual.impossible == 1


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (bright(7), ["position 7", "it has 3 positions", "Brightfield, Mitochondria"]),
        (bright(z=1), ["depth 1", "1 depth"]),
        (bright(t=-1), ["time -1", "count from 0"]),
        (MDAEvent(channel="Cy5"), ["'Cy5'", "Add it"]),
        (MDAEvent(index={"c": 1}, channel="Brightfield"), ["c=1", "c=0", "Leave c out"]),
        (bright(g=2), ["index 'g'"]),
        (MDAEvent(channel={"group": "Virtual", "config": "mitochondria"}), ["takes no image"]),
        (bright(t=0), ["a second time", "leave t out"]),
    ],
)
def test_an_event_without_a_place_ends_the_run_and_says_why(
    core, tiny_bundle, tmp_path, event, words
):
    out = tmp_path / "run.ome.zarr"

    def events(_):
        yield bright()
        yield event

    with pytest.raises(SequenceError) as caught:
        session(core, tiny_bundle, out, events).run()
    for word in words:
        assert word in str(caught.value)
    # What was taken is there, stained, and the store is settled.
    status = store_status(out)
    assert (status.planned, status.present, status.finished) == (2, 2, True)


def test_a_time_plan_and_decided_events_contradict_each_other(core, tiny_bundle, tmp_path):
    timed = frame(time_plan={"interval": 0, "loops": 2})
    with pytest.raises(SequenceError, match="Leave the time_plan out"):
        session(core, tiny_bundle, tmp_path / "run.ome.zarr", lambda _: [], timed).run()
    assert not list(tmp_path.iterdir())


def test_an_error_in_the_users_iterator_reaches_the_caller(core, tiny_bundle, tmp_path):
    out = tmp_path / "run.ome.zarr"
    closed = []

    def events(_):
        try:
            yield bright()
            raise ZeroDivisionError("mine")
        finally:
            closed.append(True)

    with pytest.raises(ZeroDivisionError, match="mine"):
        session(core, tiny_bundle, out, events).run()
    assert closed
    assert store_status(out).present == 2


def test_a_cancel_ends_an_iterator_that_waits(core, tiny_bundle, tmp_path):
    """A prediction that will never come is waited for until the run is stopped."""
    out = tmp_path / "run.ome.zarr"
    raised = []

    def events(running):
        yield bright()
        running.cancel()
        try:
            running.wait_for(PlaneIndex(1, 0, 2, 0))
        except MissingPlaneError as error:
            raised.append(error)
            raise

    report = session(core, tiny_bundle, out, events).run()
    assert report.interrupted
    assert len(raised) == 1
    assert report.planes_acquired == 1


def test_waiting_has_an_end(core, tiny_bundle, tmp_path):
    out = tmp_path / "run.ome.zarr"

    def events(running):
        yield bright()
        running.wait_for(PlaneIndex(1, 0, 2, 0), timeout=0.1)

    with pytest.raises(TimeoutError, match="p=1 t=0 c=2 z=0"):
        session(core, tiny_bundle, out, events).run()


KILLED = """
import os, sys
from useq import MDAEvent
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_deciding import frame, bright, session
from livestain.live.microscope import simulated_core
from livestain.planes import PlaneIndex

def events(running):
    for t in range(20):
        yield bright(1)
        running.wait_for(PlaneIndex(1, t, 2, 0), timeout=30)
    os._exit(9)

session(simulated_core(5, shape=(64, 64)), Path({bundle!r}), {out!r}, events).run()
"""


def test_a_store_whose_run_was_killed_says_what_was_asked_for(tiny_bundle, tmp_path):
    """Nobody settled its end: what came is what was planned, with and without the journal."""
    out = tmp_path / "run.ome.zarr"
    here = str(Path(__file__).parent)
    code = KILLED.format(tests=here, bundle=str(tiny_bundle), out=str(out))
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=120)
    assert done.returncode == 9
    yaozarrs.validate_zarr_store(str(out))
    for _ in range(2):
        status = store_status(out)
        assert (status.raw.planned, status.raw.present) == (20, 20)
        assert (status.virtual.planned, status.virtual.present) == (20, 20)
        assert not status.finished
        journal_path(out).unlink(missing_ok=True)


def test_what_a_killed_run_owes_is_stained_later(tiny_bundle, tmp_path):
    out = tmp_path / "run.ome.zarr"
    code = KILLED.format(tests=str(Path(__file__).parent), bundle=str(tiny_bundle), out=str(out))
    subprocess.run([sys.executable, "-c", code], check=False, timeout=120)
    with open_store(out) as store:
        first = store.read(PlaneIndex(1, 7, 2, 0))
    for level in ("0", "1"):
        for file in (out / "1" / level).glob("c.7.2.*"):
            file.unlink()
    report = restain(out, models={"mitochondria": str(tiny_bundle)}, worker="thread")
    assert (report.planes_stained, report.planes_owed) == (1, 0)
    with open_store(out) as store:
        assert (store.plan.open_end, store.plan.n_t) == (False, 20)
        np.testing.assert_array_equal(store.read(PlaneIndex(1, 7, 2, 0)), first)
