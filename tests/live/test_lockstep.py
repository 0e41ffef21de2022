"""Lockstep holds the next time point back, also where the hardware triggers, or is refused."""

from __future__ import annotations

import pytest
import useq
from useq import MDAEvent

from livestain.errors import SequenceError
from livestain.live.lockstep import held_at_time_points
from livestain.live.microscope import simulated_core
from livestain.live.session import Session
from livestain.store import read_journal
from livestain.store.journal import journal_path


@pytest.fixture
def core():
    core = simulated_core(5, shape=(48, 64))
    yield core
    core.unloadAllDevices()
    del core


def a_sequence(order="tpgcz", time_plan=None, z=3, **more):
    values = {
        "axis_order": order,
        "time_plan": time_plan or {"interval": 0, "loops": 4},
        "z_plan": {"range": 0.5 * (z - 1), "step": 0.5} if z > 1 else None,
        "channels": ["Brightfield", {"group": "Virtual", "config": "mitochondria"}],
        "metadata": {"livestain": {"channels": {"mitochondria": {"lag": "lockstep"}}}},
    }
    return useq.MDASequence(**{**values, **more})


@pytest.mark.parametrize("z", [1, 3])
@pytest.mark.parametrize(
    "time_plan",
    [
        {"interval": 0, "loops": 4},
        {"duration": 0, "loops": 4},
        [{"interval": 0, "loops": 2}, {"interval": 0.01, "loops": 2}],
    ],
)
def test_no_time_point_begins_before_the_one_before_is_predicted(
    core, tiny_bundle, tmp_path, time_plan, z
):
    bursts = []
    core.mda.events.eventStarted.connect(
        lambda event: bursts.append(len(getattr(event, "events", "1")))
    )
    out = tmp_path / "run.ome.zarr"
    models = {"mitochondria": str(tiny_bundle)}
    sequence = a_sequence(time_plan=time_plan, z=z)
    Session(core, sequence, out, models=models, worker="thread").run()
    # A stack of one time point is triggered as before.
    n_t = 1 + max(event.index["t"] for event in sequence)
    assert bursts == [z] * n_t
    stained, begun = {}, {}
    for line in read_journal(journal_path(out)):
        if line["kind"] == "stained":
            stained.setdefault(line["index"][1], []).append(line["time"])
        elif line["kind"] == "plane":
            begun.setdefault(line["index"][1], line)
    for t in range(n_t - 1):
        assert max(stained[t]) <= begun[t + 1]["time"]
        assert len(stained[t]) == z


def test_time_points_as_fast_as_it_goes_are_late_for_nothing(core, tiny_bundle, tmp_path):
    out = tmp_path / "run.ome.zarr"
    models = {"mitochondria": str(tiny_bundle)}
    Session(core, a_sequence(z=1), out, models=models, worker="thread").run()
    late = [line["index"][1] for line in read_journal(journal_path(out)) if "late_ms" in line]
    assert late == [0]


@pytest.mark.parametrize("order", ["ztpgc", "zctpg"])
def test_an_axis_order_in_which_later_times_come_first_is_refused(core, bundle_of, tmp_path, order):
    models = {"mitochondria": str(bundle_of(z=3))}
    with pytest.raises(SequenceError, match=r"lockstep.*Put t before c and z.*backfill"):
        Session(core, a_sequence(order), tmp_path / "run.ome.zarr", models=models).run()
    assert not list(tmp_path.iterdir())


def test_positions_may_be_visited_one_after_the_other(core, tiny_bundle, tmp_path):
    models = {"mitochondria": str(tiny_bundle)}
    sequence = a_sequence("ptgcz", stage_positions=[(0, 0), (30, 0)])
    session = Session(core, sequence, tmp_path / "run.ome.zarr", models=models, worker="thread")
    assert session.run().planes_stained == 2 * 4 * 3


def test_a_time_plan_with_its_own_pace_is_left_as_it_is():
    paced = a_sequence(time_plan={"interval": 2.0, "loops": 3})
    assert held_at_time_points(paced) == paced
    assert held_at_time_points(paced.replace(time_plan=None)).time_plan is None


@pytest.mark.parametrize(
    ("setup", "words"),
    [
        (MDAEvent(roi=(0, 0, 32, 32)), "the region of interest"),
        (MDAEvent(properties=[("Dish", "Binning", "2")]), "Dish Binning"),
    ],
)
def test_a_setup_that_changes_the_frame_is_refused_before_the_run(
    core, tiny_bundle, tmp_path, setup, words
):
    models = {"mitochondria": str(tiny_bundle)}
    out = tmp_path / "run.ome.zarr"
    with pytest.raises(SequenceError, match=f"setup changes {words}"):
        Session(core, a_sequence(setup=setup), out, models=models).run()
    assert not list(tmp_path.iterdir())


def test_the_first_autofocus_is_not_lost(core, tiny_bundle, tmp_path, monkeypatch):
    """useq remembers where the last going through its events ended, and planning a run goes through them."""
    core.setAutoFocusDevice("Autofocus")
    focused = []
    monkeypatch.setattr(core, "fullFocus", lambda: focused.append(True))
    sequence = a_sequence(
        stage_positions=[(0, 0)],
        autofocus_plan={"autofocus_motor_offset": 25, "axes": ("p",)},
    )
    models = {"mitochondria": str(tiny_bundle)}
    for n in range(2):
        Session(core, sequence, tmp_path / f"{n}.ome.zarr", models=models, worker="thread").run()
    assert len(focused) == 2
