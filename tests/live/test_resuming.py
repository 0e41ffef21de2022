"""Runs that died or were stopped go on: what can still be taken is taken, and nothing is faked."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import useq
import yaozarrs

from livestain.errors import MissingPlaneError, StoreError
from livestain.live.events import index_of
from livestain.live.microscope import simulated_core
from livestain.live.resuming import PASSED, earlier_run, what_remains
from livestain.live.session import Session
from livestain.planes import PlaneIndex
from livestain.restain import restain, verify_staining
from livestain.simulate.faults import Faults
from livestain.store import (
    Journal,
    compact_store,
    journal_path,
    open_store,
    read_journal,
    store_status,
)


@pytest.fixture
def core():
    core = simulated_core(5, shape=(64, 64))
    yield core
    core.unloadAllDevices()
    del core


def a_sequence(t=5, z=3, interval=0.0, **more):
    return useq.MDASequence(
        axis_order="tpgcz",
        time_plan={"interval": interval, "loops": t},
        z_plan={"range": 0.5 * (z - 1), "step": 0.5} if z > 1 else None,
        channels=["Brightfield", {"group": "Virtual", "config": "mitochondria"}],
        **more,
    )


def models(bundle):
    return {"mitochondria": str(bundle)}


def stop_after(session, n):
    """Cancel a session when so many planes were committed; of a burst, when it is over."""
    seen = []
    session.plane_acquired.connect(
        lambda plane: seen.append(plane) or (len(seen) == n and session.cancel())
    )


KILLED = """
import os, sys
sys.path.insert(0, {tests!r})
from test_resuming import a_sequence, models
from livestain.live.microscope import simulated_core
from livestain.live.session import Session

session = Session(simulated_core(5, shape=(64, 64)), a_sequence(), {out!r}, models=models({bundle!r}))
seen = []
session.plane_stained.connect(lambda plane: seen.append(plane) or len(seen) == 4 and os._exit(9))
session.run()
"""


def test_a_killed_run_is_taken_to_its_end(core, tiny_bundle, tmp_path):
    out = tmp_path / "run.ome.zarr"
    code = KILLED.format(tests=str(Path(__file__).parent), bundle=str(tiny_bundle), out=str(out))
    # Its output is read to the end: that is when the worker, which outlives it by a plane, is gone too.
    killed = [sys.executable, "-c", code]
    assert subprocess.run(killed, check=False, timeout=120, capture_output=True).returncode == 9
    before = store_status(out)
    assert not before.finished
    with open_store(out) as store:
        there = [i for i in store.plan.planned_indices(0) if store.is_present(i)]
        first = {i: store.read(i) for i in there}
    report = Session.resume(core, out, models=models(tiny_bundle), worker="thread").run()
    assert report.planes_acquired == 15 - len(there)
    assert report.planes_stained == 15 - before.virtual.present
    assert (report.planes_missing, report.planes_owed) == (0, 0)
    after = store_status(out)
    assert (after.present, after.finished) == (30, True)
    yaozarrs.validate_zarr_store(str(out))
    kinds = [line["kind"] for line in read_journal(journal_path(out))]
    assert kinds.count("started") == kinds.count("resumed") == 1
    # What was there is as it was; what came later is what a run in one piece has.
    whole = tmp_path / "whole.ome.zarr"
    Session(core, a_sequence(), whole, models=models(tiny_bundle), worker="thread").run()
    with open_store(out) as store, open_store(whole) as expected:
        for index, image in first.items():
            np.testing.assert_array_equal(store.read(index), image)
        assert store.levels_missing(0) == []
        for index in store.plan.planned_indices(0):
            assert store.read(index).std() > 0
            assert store.read(index).shape == expected.read(index).shape


def test_a_run_that_was_stopped_goes_on_where_it_was(core, tiny_bundle, tmp_path):
    out = tmp_path / "run.ome.zarr"
    session = Session(core, a_sequence(t=60, z=1), out, models=models(tiny_bundle), worker="thread")
    core.mda.engine.use_hardware_sequencing = False
    stop_after(session, 4)
    stopped = session.run()
    assert stopped.interrupted
    assert 4 <= stopped.planes_acquired < 60
    assert store_status(out).raw.impossible == 60 - stopped.planes_acquired
    order = []
    core.mda.events.frameReady.connect(lambda image, event, meta: order.append(index_of(event)))
    report = Session.resume(core, out, models=models(tiny_bundle), worker="thread").run()
    assert not report.interrupted
    assert order == [PlaneIndex(0, t, 0, 0) for t in range(stopped.planes_acquired, 60)]
    status = store_status(out)
    assert (status.present, status.missing, status.finished) == (120, 0, True)


def test_what_the_camera_lost_stays_lost(core, tiny_bundle, tmp_path):
    out = tmp_path / "run.ome.zarr"
    core.camera.faults = Faults(dropped_frames=(4,))
    session = Session(core, a_sequence(), out, models=models(tiny_bundle), worker="thread")
    session.run()
    before = store_status(out)
    assert before.raw.impossible == 1
    (out / "0" / "c.4.0.2.0.0").unlink()  # and one that was lost on the disk
    core.camera.faults = Faults()
    report = Session.resume(core, out, models=models(tiny_bundle), worker="thread").run()
    assert report.planes_acquired == 1
    after = store_status(out)
    assert after.raw.impossible == 1
    assert after.reasons == before.reasons


def test_planes_whose_time_has_passed_are_missing_and_not_faked(core, tiny_bundle, tmp_path):
    """A time-lapse of an hour that died after its second minute, resumed later."""
    out = tmp_path / "run.ome.zarr"
    sequence = a_sequence(t=6, z=2, interval=60.0)
    session = Session(core, sequence, out, models=models(tiny_bundle), worker="thread")
    stop_after(session, 2)
    session.run()
    earlier = earlier_run(out)
    zero = earlier.came[PlaneIndex(0, 0, 0, 0)]
    assert abs((datetime.now(UTC) - zero).total_seconds()) < 60
    left, late = what_remains(session.plan.sequence, earlier, zero + timedelta(seconds=150))
    assert late == [PlaneIndex(0, t, 0, z) for t in (1, 2) for z in (0, 1)]
    assert [index_of(event) for event in left] == [
        PlaneIndex(0, t, 0, z) for t in (3, 4, 5) for z in (0, 1)
    ]
    assert [event.min_start_time for event in left] == pytest.approx([30, 30, 90, 90, 150, 150])
    assert [event.reset_event_timer for event in left] == [True] + [False] * 5
    # At once, nothing is late.
    left, late = what_remains(session.plan.sequence, earlier, zero + timedelta(seconds=5))
    assert not late
    assert len(left) == 10


def test_late_planes_are_told(core, tiny_bundle, tmp_path):
    out = tmp_path / "run.ome.zarr"
    sequence = a_sequence(t=3, z=1, interval=60.0)
    session = Session(core, sequence, out, models=models(tiny_bundle), worker="thread")
    stop_after(session, 1)
    session.run()
    # As if it had been a quarter of an hour ago.
    lines = read_journal(journal_path(out))
    journal_path(out).unlink()
    with Journal(journal_path(out)) as journal:
        for line in lines:
            then = datetime.fromisoformat(line.pop("time")) - timedelta(minutes=15)
            journal.append(line.pop("kind"), time=then.isoformat(), **line)
    report = Session.resume(core, out, models=models(tiny_bundle), worker="thread").run()
    assert (report.planes_acquired, report.planes_stained, report.planes_missing) == (0, 0, 4)
    assert store_status(out).reasons[PASSED] == 2


def test_positions_have_clocks_of_their_own(core, tiny_bundle, tmp_path):
    """In ptcz each position begins its time-lapse anew; one that has not begun is late for nothing."""
    out = tmp_path / "run.ome.zarr"
    sequence = a_sequence(t=3, z=1, interval=60.0, stage_positions=[(0, 0), (30, 0)]).replace(
        axis_order="ptgcz"
    )
    session = Session(core, sequence, out, models=models(tiny_bundle), worker="thread")
    stop_after(session, 1)
    session.run()
    earlier = earlier_run(out)
    now = earlier.came[PlaneIndex(0, 0, 0, 0)] + timedelta(seconds=90)
    left, late = what_remains(session.plan.sequence, earlier, now)
    assert late == [PlaneIndex(0, 1, 0, 0)]
    assert [index_of(event) for event in left] == [
        PlaneIndex(0, 2, 0, 0),
        *(PlaneIndex(1, t, 0, 0) for t in range(3)),
    ]
    assert [event.min_start_time for event in left] == pytest.approx([30, 0, 60, 120])
    assert [event.reset_event_timer for event in left] == [True, True, False, False]


def test_a_later_positions_clock_is_its_own(core, tiny_bundle, tmp_path):
    """The camera's times count from the start of the run, which may be hours before a position's."""
    out = tmp_path / "run.ome.zarr"
    sequence = a_sequence(t=3, z=1, interval=60.0, stage_positions=[(0, 0), (30, 0)]).replace(
        axis_order="ptgcz"
    )
    session = Session(core, sequence, out, models=models(tiny_bundle), worker="thread")
    stop_after(session, 1)
    session.run()
    # As the run would have gone on: the first position to its end, an hour's rest, and the second began.
    zero = earlier_run(out).came[PlaneIndex(0, 0, 0, 0)]
    taken = {
        PlaneIndex(0, 1, 0, 0): 60.0,
        PlaneIndex(0, 2, 0, 0): 120.0,
        PlaneIndex(1, 0, 0, 0): 3720.0,
    }
    with Journal(journal_path(out)) as journal, open_store(out, mode="r+") as store:
        for index, s in taken.items():
            store.write(index, np.ones((64, 64), np.uint16)).result()
            when = (zero + timedelta(seconds=s)).isoformat()
            journal.append("plane", time=when, index=index, camera_time_ms=1e3 * s)
    now = zero + timedelta(seconds=3720 + 20)
    left, late = what_remains(session.plan.sequence, earlier_run(out), now)
    assert late == []
    assert [index_of(event) for event in left] == [PlaneIndex(1, t, 0, 0) for t in (1, 2)]
    assert [event.min_start_time for event in left] == pytest.approx([40, 100])


@pytest.mark.parametrize("order", ["tpgcz", "ptgcz"])
def test_each_image_that_is_left_has_its_autofocus(core, tmp_path, order):
    """Also the first of a time-lapse, where autofocus and image both begin the clock."""
    sequence = useq.MDASequence(
        axis_order=order,
        time_plan={"interval": 10, "loops": 2},
        stage_positions=[(0, 0, 0), (30, 0, 0)],
        channels=["Brightfield"],
        autofocus_plan={"autofocus_motor_offset": 1.0, "axes": ["t", "p"]},
    )
    out = tmp_path / "run.ome.zarr"
    session = Session(core, sequence.replace(autofocus_plan=None), out, worker="thread")
    stop_after(session, 1)
    session.run()
    earlier = replace(earlier_run(out), there=frozenset(), came={})
    left, _ = what_remains(sequence, earlier)
    acts = [event.action.type for event in left]
    assert acts == ["hardware_autofocus", "acquire_image"] * 4


def test_lockstep_goes_on_past_what_was_lost(core, bundle_of, tmp_path):
    """A prediction that lacks a plane of the earlier run is not waited for; those that can be are."""
    out = tmp_path / "run.ome.zarr"
    sequence = a_sequence(
        t=4, z=1, metadata={"livestain": {"channels": {"mitochondria": {"lag": "lockstep"}}}}
    )
    given = models(bundle_of(past=1))
    session = Session(core, sequence, out, models=given, worker="thread")
    core.camera.faults = Faults(dropped_frames=1.0)
    events = core.mda.events
    events.eventStarted.connect(lambda event: event.index["t"] == 1 and session.cancel())
    with contextlib.suppress(Exception):
        session.run()
    core.camera.faults = Faults()
    with Journal(journal_path(out)) as journal:
        journal.append("missing", index=PlaneIndex(0, 0, 0, 0), why="the camera failed to take it")
        for t in (0, 1):
            journal.append(
                "impossible", index=PlaneIndex(0, t, 1, 0), why="a source plane never came"
            )
    resumed = Session.resume(core, out, models=given, worker="thread")
    resumed.start()
    try:
        report = resumed.wait(timeout=30)
    finally:
        resumed.abort()
    assert (report.planes_acquired, report.planes_stained) == (3, 2)
    # What was there, or given up, before is known at once.
    with pytest.raises(MissingPlaneError):
        resumed.wait_for(PlaneIndex(0, 1, 1, 0), timeout=0)


def test_a_run_that_somebody_else_went_on_with_is_not_taken_twice(core, tiny_bundle, tmp_path):
    out = tmp_path / "run.ome.zarr"
    session = Session(core, a_sequence(t=9, z=1), out, models=models(tiny_bundle), worker="thread")
    core.mda.engine.use_hardware_sequencing = False
    stop_after(session, 2)
    session.run()
    first, second = (
        Session.resume(core, out, models=models(tiny_bundle), worker="thread") for _ in range(2)
    )
    assert first.run().planes_acquired > 0
    journal = journal_path(out).read_bytes()
    with pytest.raises(StoreError, match="written to since"):
        second.run()
    assert journal_path(out).read_bytes() == journal
    assert store_status(out).present == 18


def test_what_is_owed_is_stained_where_nothing_is_left_to_take(core, tiny_bundle, tmp_path):
    out = tmp_path / "run.ome.zarr"
    Session(
        core, a_sequence(t=30), out, models=models(tiny_bundle), worker="thread", leave_owed=True
    ).run()
    owed = store_status(out).owed
    session = Session.resume(core, out, models=models(tiny_bundle), worker="thread")
    report = session.run()
    assert (report.planes_acquired, report.planes_stained) == (0, owed)
    assert (session.progress.stained, session.progress.planned_virtual) == (owed, owed)
    assert store_status(out).missing == 0


def test_only_the_same_microscope_and_model_go_on(core, tiny_bundle, bundle_of, tmp_path):
    out = tmp_path / "run.ome.zarr"
    session = Session(core, a_sequence(t=60, z=1), out, models=models(tiny_bundle), worker="thread")
    stop_after(session, 3)
    session.run()
    was = journal_path(out).read_bytes()
    with pytest.raises(StoreError, match=r"begun with the model .* of SHA-256"):
        Session.resume(core, out, models=models(bundle_of(width=8))).run()
    other = simulated_core(5, shape=(64, 96))
    with pytest.raises(
        StoreError, match="its width is 64, and with this microscope it would be 96"
    ):
        Session.resume(other, out, models=models(tiny_bundle)).run()
    other.unloadAllDevices()
    assert journal_path(out).read_bytes() == was


def test_decided_events_are_their_programs(core, tiny_bundle, tmp_path):
    out = tmp_path / "run.ome.zarr"
    frame = a_sequence(z=1).replace(time_plan=None)
    Session(
        core,
        frame,
        out,
        events=lambda _: [useq.MDAEvent(channel="Brightfield")],
        models=models(tiny_bundle),
        worker="thread",
    ).run()
    with pytest.raises(StoreError, match="decided by a program"):
        Session.resume(core, out)


def test_a_resumed_run_is_triggered_where_the_first_was(core, tiny_bundle, tmp_path):
    """Stacks stay bursts, and frames of a burst that begins in mid-stack lie in their places."""
    out = tmp_path / "run.ome.zarr"
    Session(core, a_sequence(t=2), out, models=models(tiny_bundle), worker="thread").run()
    with open_store(out) as store:
        kept = store.read(PlaneIndex(0, 0, 0, 0))
    for name in ("c.0.0.1.0.0", "c.0.0.2.0.0", "c.1.0.0.0.0", "c.1.0.1.0.0"):
        (out / "0" / name).unlink()
    bursts = []
    core.mda.events.eventStarted.connect(lambda e: bursts.append(len(getattr(e, "events", "1"))))
    report = Session.resume(core, out, models=models(tiny_bundle), worker="thread").run()
    assert (sum(bursts), report.planes_acquired) == (4, 4)
    assert max(bursts) > 1
    with open_store(out) as store:
        np.testing.assert_array_equal(store.read(PlaneIndex(0, 0, 0, 0)), kept)
        place = core.camera.places
        for t, z in ((0, 1), (0, 2), (1, 0), (1, 1)):
            assert store.is_present(PlaneIndex(0, t, 0, z))
            assert place[0, t, z][1] == pytest.approx(0.5 * (z - 1))


def test_a_channel_that_was_added_meanwhile_is_left_to_restain(
    core, tiny_bundle, bundle_of, tmp_path
):
    """And the run's own model is found where it was, without being named again."""
    out, other = tmp_path / "run.ome.zarr", bundle_of(z=1, width=8)
    session = Session(core, a_sequence(), out, models=models(tiny_bundle), worker="thread")
    stop_after(session, 6)
    session.run()
    taken = store_status(out).raw.present
    assert taken < 15
    added = restain(out, model=str(other), channel="second", device="cpu", worker="thread")
    assert added.planes_stained == taken
    report = Session.resume(core, out, worker="thread", device="cpu").run()
    assert report.planes_acquired == 15 - taken
    status = store_status(out)
    assert (status.by_channel["mitochondria"].missing, status.by_channel["second"].owed) == (
        0,
        15 - taken,
    )
    again = restain(out, channel="second", device="cpu", worker="thread")
    assert (again.planes_stained, again.planes_owed) == (15 - taken, 0)
    assert verify_staining(out, device="cpu").passed


def test_a_compacted_run_does_not_go_on(core, tiny_bundle, tmp_path):
    out = tmp_path / "run.ome.zarr"
    session = Session(core, a_sequence(), out, models=models(tiny_bundle), worker="thread")
    stop_after(session, 6)
    session.run()
    compact_store(out, unfinished=True)
    with pytest.raises(StoreError, match="was compacted: its planes share files"):
        Session.resume(core, out, models=models(tiny_bundle))
