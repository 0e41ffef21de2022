"""Frames that the camera loses: what comes after them lies in its place, and the hole is told."""

from __future__ import annotations

import numpy as np
import pytest
import useq
import zarr
from pymmcore_plus.core._sequencing import SequencedEvent

from livestain.live.microscope import simulated_core
from livestain.live.placing import FramePlacer
from livestain.live.session import Session
from livestain.planes import PlaneIndex, Window
from livestain.simulate.faults import Faults
from livestain.store import journal_path, read_journal, store_status

T, Z = 3, 5


@pytest.fixture
def new_core():
    """Return a function that gives the same microscope over the same dish, each time anew."""
    cores = []

    def new():
        cores.append(simulated_core(5, shape=(48, 40)))
        return cores[-1]

    yield new
    while cores:
        cores.pop().unloadAllDevices()


def a_sequence(interval=0.0, **settings):
    return useq.MDASequence(
        axis_order="tpgcz",
        time_plan={"interval": interval, "loops": T},
        z_plan={"range": 0.5 * (Z - 1), "step": 0.5},
        channels=[
            {"group": "Channel", "config": "Brightfield", "exposure": 5},
            *([{"group": "Virtual", "config": "mitochondria"}] if settings else []),
        ],
        metadata={"livestain": {"channels": {"mitochondria": settings}}} if settings else {},
    )


def dropping(core, lost):
    """Let the camera lose the frames that it counts by these numbers."""
    core.camera.faults = Faults(dropped_frames=tuple(lost))


def told(out, kind):
    lines = [line for line in read_journal(journal_path(out)) if line["kind"] == kind]
    return {tuple(line["index"]): line.get("why") for line in lines}


@pytest.mark.parametrize("triggered", [True, False])
def test_later_frames_stay_in_their_places(new_core, tmp_path, triggered):
    """In mid-stack, at the ends of stacks, two in a row, and the last of all."""
    lost = {2, 5, 8, 9, 14}
    core = new_core()
    core.mda.engine.use_hardware_sequencing = triggered
    whole = Session(core, a_sequence(), tmp_path / "whole.ome.zarr").run()
    assert whole.planes_acquired == T * Z
    core = new_core()
    core.mda.engine.use_hardware_sequencing = triggered
    dropping(core, lost)
    out = tmp_path / "holes.ome.zarr"
    report = Session(core, a_sequence(), out).run()
    assert (report.planes_acquired, report.planes_missing) == (T * Z - len(lost), len(lost))
    assert report.planes_uncertain == 0
    holes, planes = (
        zarr.open(tmp_path / f"{name}.ome.zarr", mode="r")["0"][:, 0] for name in ("holes", "whole")
    )
    for n in range(T * Z):
        t, z = divmod(n, Z)
        if n in lost:
            assert not holes[t, z].any()
        else:
            np.testing.assert_array_equal(holes[t, z], planes[t, z], err_msg=f"{t} {z}")
    reasons = told(out, "missing")
    assert set(reasons) == {(0, n // Z, 0, n % Z) for n in lost}
    word = (
        "the camera dropped it: its livestain-FrameNr went on to 3"
        if triggered
        else "failed to take"
    )
    assert word in reasons[0, 0, 0, 2]
    status = store_status(out)
    assert (status.impossible, status.uncertain, status.owed) == (len(lost), 0, 0)


def test_a_short_burst_of_a_camera_without_numbers_is_uncertain(new_core, tmp_path):
    """Micro-Manager's C++ core numbers the frames it received, which tells nothing of those it did not."""
    core = new_core()
    dropping(core, {2})
    frames = core.camera._frames

    def unnumbered(*args, **how):
        for meta in frames(*args, **how):
            yield {k: v for k, v in meta.items() if k != "livestain-FrameNr"}

    core.camera._frames = unnumbered
    out = tmp_path / "run.ome.zarr"
    report = Session(core, a_sequence(interval=0.05), out).run()
    assert (report.planes_acquired, report.planes_missing) == (T * Z - 1, 1)
    assert report.planes_uncertain == Z - 1
    assert set(told(out, "missing")) == {(0, 0, 0, Z - 1)}
    doubts = told(out, "uncertain")
    assert set(doubts) == {(0, 0, 0, z) for z in range(Z - 1)}
    assert "numbers none of them" in doubts[0, 0, 0, 0]
    assert store_status(out).uncertain == Z - 1
    assert (0, 1, 0, Z - 1) not in doubts


@pytest.mark.parametrize("lag", ["backfill", "lockstep"])
def test_what_lacks_a_source_plane_is_impossible(new_core, bundle_of, tmp_path, lag):
    """And in lockstep nobody waits for it."""
    core = new_core()
    dropping(core, {Z + 2})
    out = tmp_path / "run.ome.zarr"
    models = {"mitochondria": str(bundle_of(z=3))}
    sequence = a_sequence(lag=lag)
    report = Session(core, sequence, out, models=models, device="cpu", worker="thread").run()
    assert report.planes_acquired == T * Z - 1
    assert report.planes_stained == T * Z - 3
    reasons = told(out, "impossible")
    assert set(reasons) == {(0, 1, 1, z) for z in (1, 2, 3)}
    assert set(reasons.values()) == {"a source plane never came: Brightfield t 1 z 2"}
    assert store_status(out).virtual.impossible == 3


def burst(n, t=0):
    events = [useq.MDAEvent(index={"t": t, "c": 0, "z": z}) for z in range(n)]
    return SequencedEvent(events=events)


class Books:
    """A placer, and what it told."""

    def __init__(self):
        self.lost, self.uncertain = {}, {}
        self.placer = FramePlacer(self.lost.__setitem__, self.uncertain.__setitem__)

    def take(self, n, numbers, tag="ImageNumber", t=0, **end):
        event = burst(n, t)
        self.placer.begin(event)
        metas = [{"camera_metadata": {} if k is None else {tag: str(k)}} for k in numbers]
        found = [self.placer.place(e, m).z for e, m in zip(event.events, metas, strict=False)]
        self.placer.end(**end)
        return found


@pytest.mark.parametrize(
    ("bursts", "tag"),
    [
        # From a number that is known, or from any that the first whole burst shows.
        (([0, 1, 2, 3], [1, 3], [0, 1, 2, 3]), "livestain-FrameNr"),
        (([1, 2, 3, 4], [2, 4], [1, 2, 3, 4]), "PVCAM-FrameNr"),
        (([7, 8, 9, 10], [8, 10], [7, 8, 9, 10]), "Frame Number"),
        (([0, 1, 2, 3], [1, 3], [0, 1, 2, 3]), "ImageNumber"),
    ],
)
def test_cameras_count_in_many_ways(bursts, tag):
    books = Books()
    assert books.take(4, bursts[0], tag) == [0, 1, 2, 3]
    assert books.take(4, bursts[1], tag, t=1) == [1, 3]
    assert set(books.lost) == {PlaneIndex(0, 1, 0, 0), PlaneIndex(0, 1, 0, 2)}
    assert books.take(4, bursts[2], tag, t=2) == [0, 1, 2, 3]
    assert len(books.lost) == 2
    assert not books.uncertain


def test_a_counter_that_goes_on_may_have_counted_snaps():
    """Being ahead is then no loss; if images lack as well, nobody knows which."""
    books = Books()
    assert books.take(4, [7, 8, 9, 10], "FrameID") == [0, 1, 2, 3]
    assert books.take(4, [12, 13, 14, 15], "FrameID", t=1) == [0, 1, 2, 3]
    assert books.take(4, [16, 17, 18, 19], "FrameID", t=2) == [0, 1, 2, 3]
    assert not books.lost
    assert not books.uncertain
    assert books.take(4, [20, 22, 23], "FrameID", t=3) == [0, 2, 3]
    assert set(books.lost) == {PlaneIndex(0, 3, 0, 1)}
    assert not books.uncertain
    assert books.take(4, [26, 28], "FrameID", t=4) == [0, 2]
    assert set(books.uncertain) == {PlaneIndex(0, 4, 0, 0), PlaneIndex(0, 4, 0, 2)}
    assert "with which FrameID it began is not known" in books.uncertain[0, 4, 0, 0]


def test_numbers_that_make_no_sense_cost_no_frame():
    for numbers in ([5, 5, 5, 5], [0, None, 2, 3], [7, 6, 5, 4], [0, 9, 1, 2]):
        books = Books()
        assert books.take(4, numbers) == [0, 1, 2, 3], numbers
        assert not books.uncertain, "a whole burst cannot be displaced"
    for numbers in ([0, 3, 1, 2], [3, 2, 1, 0]):
        books = Books()
        assert sorted(books.take(4, numbers)) == [0, 1, 2, 3], numbers
        assert len(books.uncertain) == 4, numbers


def test_a_camera_without_numbers():
    books = Books()
    assert books.take(4, [None] * 4) == [0, 1, 2, 3]
    assert not books.uncertain
    assert not books.lost
    assert books.take(4, [None] * 3, t=1) == [0, 1, 2]
    assert set(books.uncertain) == {PlaneIndex(0, 1, 0, z) for z in range(3)}
    assert set(books.lost) == {PlaneIndex(0, 1, 0, 3)}
    assert books.take(4, [None] * 2, t=2, stopped=True) == [0, 1]
    assert len(books.lost) == 1, "what a user stopped is not lost by the camera"


def test_targets_are_the_inverse_of_sources():
    for window in (
        Window(),
        Window(z=3),
        Window(z="all"),
        Window(past=2, future=1),
        Window(z=5, past=1),
    ):
        sizes = {"n_t": 4, "n_z": 6}
        places = [PlaneIndex(0, t, 1, z) for t in range(4) for z in range(6)]
        for source in (PlaneIndex(0, 0, 0, 5), PlaneIndex(0, 2, 0, 3), PlaneIndex(0, 3, 0, 0)):
            expected = {p for p in places if source in window.sources(p, 0, **sizes)}
            assert set(window.targets(source, 1, **sizes)) == expected
