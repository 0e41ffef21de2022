"""The backlog against a brute-force reading of the sentence that defines what is owed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livestain.planes import PlaneIndex
from livestain.stain.backlog import Backlog, Stamp
from livestain.store import (
    ChannelPlan,
    PlannedBlock,
    PositionPlan,
    StorePlan,
    VirtualPlan,
    WindowPlan,
    create_store,
)

pytestmark = pytest.mark.filterwarnings("error")


def a_plan(n_t=4, n_z=3, *, n_p=1, window=None, lag="backfill", times=None):
    """A plan of a raw channel and, for each lag policy that is named, a virtual one."""
    places = {"p": range(n_p), "z": range(n_z)}
    virtual = [
        ChannelPlan(
            name=f"mitochondria {n}",
            kind="virtual",
            planned=(PlannedBlock(t=times or range(n_t), **places),),
            virtual=VirtualPlan(
                source="Brightfield",
                window=window or WindowPlan(),
                scale=0.01,
                offset=-5,
                unit="a.u.",
                bundle="b",
                bundle_sha256="0" * 64,
                output="mitochondria",
                lag=policy,
            ),
        )
        for n, policy in enumerate(lag.split())
    ]
    raw = ChannelPlan(
        name="Brightfield", kind="raw", planned=(PlannedBlock(t=range(n_t), **places),)
    )
    positions = tuple(PositionPlan(path=str(p) if n_p > 1 else "") for p in range(n_p))
    return StorePlan(
        n_t=n_t,
        n_z=n_z,
        height=8,
        width=8,
        pixel_size_um=0.1,
        channels=(raw, *virtual),
        positions=positions,
    )


def drain(backlog):
    targets = []
    while (task := backlog.take()) is not None:
        targets.append(task.target)
        backlog.close(task.target)
    return targets


windows = st.builds(
    WindowPlan,
    z=st.sampled_from([1, 3, "all"]),
    past=st.integers(0, 2),
    future=st.integers(0, 2),
)
places = st.tuples(st.integers(0, 3), st.integers(0, 2))


@given(window=windows, come=st.sets(places), given_up=st.sets(places))
@settings(max_examples=150, deadline=None)
def test_owed_is_what_the_sentence_says(window, come, given_up):
    plan = a_plan(window=window)
    excluded = {PlaneIndex(0, t, 1, z) for t, z in given_up}
    backlog = Backlog(plan, excluded)
    for t, z in come:
        backlog.arrived(PlaneIndex(0, t, 0, z))
    owed = set()
    for target in plan.planned_indices(1):
        sources = window.window().sources(target, 0, n_t=4, n_z=3)
        if all((s.t, s.z) in come for s in sources) and target not in excluded:
            owed.add(target)
    assert backlog.owed == len(owed)
    assert set(drain(backlog)) == owed
    assert backlog.owed == 0


def test_newest_time_point_first_and_a_stack_in_its_order():
    backlog = Backlog(a_plan())
    for t in (0, 2, 1):
        for z in range(3):
            backlog.arrived(PlaneIndex(0, t, 0, z))
    assert [(i.t, i.z) for i in drain(backlog)] == [(t, z) for t in (2, 1, 0) for z in range(3)]


def test_live_only_gives_up_what_a_newer_time_point_overtook():
    backlog = Backlog(a_plan(lag="live-only"))
    backlog.arrived(PlaneIndex(0, 0, 0, 0))
    backlog.arrived(PlaneIndex(0, 0, 0, 1))
    taken = backlog.take()
    backlog.close(taken.target)
    backlog.arrived(PlaneIndex(0, 1, 0, 0))
    assert backlog.pop_skipped() == [PlaneIndex(0, 0, 1, 1)]
    backlog.arrived(PlaneIndex(0, 0, 0, 2))  # late, and overtaken already
    assert backlog.pop_skipped() == [PlaneIndex(0, 0, 1, 2)]
    assert drain(backlog) == [PlaneIndex(0, 1, 1, 0)]
    assert backlog.pop_skipped() == []


@pytest.mark.parametrize(
    "lag", ["backfill backfill", "live-only backfill", "backfill live-only", "live-only live-only"]
)
def test_a_slow_model_starves_no_other_and_what_is_shown_is_the_newest(lag):
    """On a clock of its own: a plane comes at each step; one model takes 6 steps, one a third of a step."""
    n_t, takes = 60, {1: 6.0, 2: 1 / 3}
    policies = dict(enumerate(lag.split(), start=1))
    backlog = Backlog(a_plan(n_t, 1, lag=lag))
    clock, came, taken, given_up = 0.0, 0, [], set()
    while came < n_t or backlog.owed:
        while came < n_t and came <= clock:
            backlog.arrived(PlaneIndex(0, came, 0, 0))
            came += 1
        given_up.update(backlog.pop_skipped())
        task = backlog.take()
        if task is None:
            clock = float(came)
            continue
        c, t = task.target.c, task.target.t
        done = {i.t for i in taken if i.c == c} | {i.t for i in given_up if i.c == c}
        assert t == max(set(range(came)) - done), "the newest of its channel"
        other = 3 - c
        if taken and taken[-1].c == c:
            waits = {PlaneIndex(0, n, other, 0) for n in range(came)} - set(taken) - given_up
            assert not waits, "the other's turn has come"
        assert task.target not in taken
        taken.append(task.target)
        clock += takes[c]
        backlog.close(task.target)
    for c, policy in policies.items():
        own = {i.t for i in taken if i.c == c}
        skipped = {i.t for i in given_up if i.c == c}
        assert own | skipped == set(range(n_t))
        assert not own & skipped
        assert bool(skipped) is (policy == "live-only")
        assert n_t - 1 in own
        assert len([i for i in taken[:16] if i.c == c]) == 8


def test_the_newest_is_the_last_visit_whatever_its_position():
    backlog = Backlog(a_plan(3, 1, n_p=2, lag="live-only"))
    for p, t in (
        (0, 0),
        (0, 1),
        (1, 0),
    ):  # the second position is visited later, though its time is earlier
        backlog.arrived(PlaneIndex(p, t, 0, 0))
    assert backlog.pop_skipped() == [PlaneIndex(0, 0, 1, 0)], "another position's is not overtaken"
    assert [(i.p, i.t) for i in drain(backlog)] == [(1, 0), (0, 1)]


def test_a_failed_plane_stays_owed_but_is_not_taken_until_it_is_put_back():
    backlog = Backlog(a_plan())
    backlog.arrived(PlaneIndex(0, 0, 0, 0))
    task = backlog.take()
    assert backlog.owed == 1
    assert not backlog.takeable
    backlog.retry(task.target)
    assert backlog.take().target == task.target
    backlog.close(task.target)
    assert backlog.owed == 0


def test_live_means_no_newer_time_point_was_owed_when_it_was_taken():
    backlog = Backlog(a_plan())
    for t in range(2):
        backlog.arrived(PlaneIndex(0, t, 0, 0), Stamp(t, t + 1))
    newest, older = backlog.take(), backlog.take()
    assert (newest.live, newest.stamp) == (True, Stamp(1, 2))
    assert (older.live, older.stamp) == (False, Stamp(0, 1))


def test_a_plane_found_in_the_store_has_no_latency():
    backlog = Backlog(a_plan())
    backlog.arrived(PlaneIndex(0, 0, 0, 0))
    task = backlog.take()
    assert task.stamp is None
    assert not task.live


def test_a_repeated_announcement_owes_nothing_twice():
    backlog = Backlog(a_plan())
    for _ in range(2):
        backlog.arrived(PlaneIndex(0, 0, 0, 0), Stamp(0, 1))
    assert drain(backlog) == [PlaneIndex(0, 0, 1, 0)]
    backlog.arrived(PlaneIndex(0, 0, 0, 0), Stamp(0, 1))
    assert drain(backlog) == []


def test_scan_finds_what_the_store_holds(tmp_path):
    import numpy as np

    plan = a_plan()
    with create_store(tmp_path / "a.ome.zarr", plan) as store:
        for t in range(3):
            store.write(PlaneIndex(0, t, 0, 1), np.zeros((8, 8), np.uint16)).result()
        store.write_virtual(PlaneIndex(0, 1, 1, 1), np.zeros((8, 8), np.float32))
        backlog = Backlog(plan)
        backlog.scan(store)
    assert [(i.t, i.z) for i in drain(backlog)] == [(2, 1), (0, 1)]
