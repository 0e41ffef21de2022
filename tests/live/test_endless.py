"""Time plans without a number of time points: as fast as it goes for a while, or until stopped."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import useq
import yaml
import yaozarrs
import zarr

from livestain.cli.app import run as livestain
from livestain.cli.driving import drive
from livestain.errors import LivestainError, SequenceError, StoreError
from livestain.live import checks
from livestain.live.endless import endless_time, time_points
from livestain.live.events import index_of
from livestain.live.microscope import replay_core, simulated_core
from livestain.live.rehearsal import rehearse
from livestain.live.resuming import PASSED
from livestain.live.session import Session
from livestain.planes import PlaneIndex
from livestain.restain import restain
from livestain.store import journal_path, open_store, read_journal, store_status

BRIGHTFIELD = {"group": "Channel", "config": "Brightfield", "exposure": 2}
VIRTUAL = {"group": "Virtual", "config": "mitochondria"}


@pytest.fixture
def core():
    core = simulated_core(5, shape=(64, 64))
    yield core
    core.unloadAllDevices()
    del core


def a_sequence(duration=0.0, **more):
    values = {
        "axis_order": "tpgcz",
        "time_plan": {"interval": 0, "duration": duration},
        "channels": [BRIGHTFIELD, VIRTUAL],
    }
    return useq.MDASequence(**{**values, **more})


STACK = {"z_plan": {"range": 1, "step": 0.5}}


def a_session(core, sequence, bundle, out, **more):
    return Session(
        core, sequence, out, models={"mitochondria": str(bundle)}, worker="thread", **more
    )


def stop_after(session, n):
    seen = []
    session.plane_acquired.connect(
        lambda plane: seen.append(plane) or (len(seen) == n and session.cancel())
    )


def test_as_fast_as_it_goes_for_a_while(core, tiny_bundle, tmp_path, capsys):
    """Two fields, stacks, a channel at every second time point: each plane in its place, and all there."""
    out = tmp_path / "run.ome.zarr"
    fluorescence = {
        "group": "Channel",
        "config": "Mitochondria",
        "exposure": 2,
        "acquire_every": 2,
        "do_stack": False,
    }
    sequence = a_sequence(
        0.5,
        stage_positions=[(0, 0), (40, 10)],
        channels=[BRIGHTFIELD, fluorescence, VIRTUAL],
        **STACK,
    )
    bursts, asked = Counter(), []
    core.mda.events.eventStarted.connect(
        lambda event: bursts.update([len(getattr(event, "events", [0]))])
    )
    core.mda.events.frameReady.connect(lambda image, event, meta: asked.append(index_of(event)))
    session = a_session(core, sequence, tiny_bundle, out)
    assert session.progress.planned_raw is None
    report, code = drive(session, None)
    assert code == 0
    assert f"{report.planes_acquired}/?" in capsys.readouterr().err
    assert bursts[3], "a stack is one burst"
    assert (report.planes_missing, report.planes_owed, report.interrupted) == (0, 0, False)
    assert report.answer_ms.p50 is None
    yaozarrs.validate_zarr_store(str(out))
    with open_store(out) as store:
        plan = store.plan
        # The duration is from the first event: none begins after it, and all of the last one's come.
        assert (plan.open_end, plan.n_t) == (False, 1 + max(i.t for i in asked))
        assert store.present_indices() >= set(asked)
        assert sorted(plan.planned_indices(0) + plan.planned_indices(1)) == sorted(asked)
        assert plan.planned(0).all()
        expected = np.zeros_like(plan.planned(1))
        expected[:, ::2, 1] = True
        np.testing.assert_array_equal(plan.planned(1), expected)
        np.testing.assert_array_equal(plan.planned(2), plan.planned(0))
        assert store.attributes["sequence"]["time_plan"] == {"interval": 0, "duration": 0.5}
    assert zarr.open_group(out, mode="r")["0"]["0"].shape[0] == plan.n_t
    status = store_status(out)
    assert (status.planned, status.present) == (status.present, status.planned)
    assert not [line for line in read_journal(journal_path(out)) if "answer_ms" in line]
    # It has come to its end, so nothing is left to be taken.
    journal = len(asked)
    models = {"mitochondria": str(tiny_bundle)}
    again = Session.resume(core, out, models=models, worker="thread").run()
    assert (again.planes_acquired, len(asked)) == (0, journal)
    assert store_status(out).to_dict() == status.to_dict()


@pytest.mark.parametrize("duration", [0.0, 3600.0])
def test_until_it_is_stopped_and_on_from_there(core, tiny_bundle, tmp_path, duration):
    out = tmp_path / "run.ome.zarr"
    session = a_session(core, a_sequence(duration, **STACK), tiny_bundle, out)
    stop_after(session, 3 * 20 + 1)  # more time points than there is room for at first
    report = session.run()
    assert report.interrupted
    with open_store(out) as store:
        first = store.plan.planned_indices(0)
        kept = {i: store.read(i) for i in store.plan.planned_indices(0) if store.is_present(i)}
    n_t = 1 + max(i.t for i in first)
    assert n_t > 20
    assert first == [PlaneIndex(0, t, 0, z) for t in range(n_t) for z in range(3)]
    cut = [i for i in first if i not in kept]
    assert report.planes_missing == 2 * len(cut), "and what would be predicted from it"

    session = Session.resume(core, out, models={"mitochondria": str(tiny_bundle)}, worker="thread")
    taken = []
    core.mda.events.frameReady.connect(lambda image, event, meta: taken.append(index_of(event)))
    stop_after(session, 3 * 10)
    assert session.run().interrupted
    assert taken[:4] == [PlaneIndex(0, n_t + n // 3, 0, n % 3) for n in range(4)]
    with open_store(out) as store:
        assert not store.plan.open_end
        assert store.plan.n_t == 1 + max(i.t for i in taken), "the last of which something came"
        for index, image in kept.items():
            np.testing.assert_array_equal(store.read(index), image)
    status = store_status(out)
    assert status.raw.present == len(kept) + len(taken)
    assert status.virtual.present == status.raw.present
    why = [x["why"] for x in read_journal(journal_path(out)) if x["kind"] == "missing"]
    assert why.count(PASSED) == len(cut)
    yaozarrs.validate_zarr_store(str(out))


def test_a_duration_counts_what_was_recorded_before(core, tiny_bundle, tmp_path):
    out = tmp_path / "run.ome.zarr"
    session = a_session(core, a_sequence(3600), tiny_bundle, out)
    stop_after(session, 3)
    session.run()
    lines = read_journal(journal_path(out))
    # Between its first plane and its second, an hour of recording: nothing is left.
    planes = [n for n, line in enumerate(lines) if line["kind"] == "plane"]
    lines[planes[0]]["time"] = "2026-01-01T00:00:00+00:00"
    for n in planes[1:]:
        lines[n]["time"] = "2026-01-01T01:00:00+00:00"
    journal_path(out).write_text("".join(json.dumps(line) + "\n" for line in lines))
    models = {"mitochondria": str(tiny_bundle)}
    assert Session.resume(core, out, models=models, worker="thread").run().planes_acquired == 0


KILLED = """
import os, sys
sys.path.insert(0, {tests!r})
from test_endless import a_sequence, a_session
from livestain.live.microscope import simulated_core

session = a_session(simulated_core(5, shape=(64, 64)), a_sequence(), {bundle!r}, {out!r})
seen = []
session.plane_stained.connect(lambda plane: seen.append(plane) or len(seen) == 20 and os._exit(9))
session.run()
"""


@pytest.fixture(scope="module")
def killed(tiny_bundle, tmp_path_factory):
    """A folder with the store and journal of a run that was killed."""
    folder = tmp_path_factory.mktemp("killed")
    here, out = str(Path(__file__).parent), folder / "run.ome.zarr"
    code = KILLED.format(tests=here, bundle=str(tiny_bundle), out=str(out))
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 9
    return folder


@pytest.mark.parametrize("then", ["resumed", "restained"])
def test_a_killed_one_is_settled_later(core, tiny_bundle, killed, tmp_path, then):
    shutil.copytree(killed, tmp_path, dirs_exist_ok=True)
    out = tmp_path / "run.ome.zarr"
    models = {"mitochondria": str(tiny_bundle)}
    with open_store(out) as store:
        assert store.plan.open_end
        there = [i for i in store.present_indices() if i.c == 0]
    if then == "resumed":
        session = Session.resume(core, out, models=models, worker="thread")
        stop_after(session, 20)
        assert session.run().planes_acquired >= 20
    else:
        restain(out, models=models, worker="thread")
    status = store_status(out)
    assert status.raw.present >= len(there) + (20 if then == "resumed" else 0)
    assert (status.virtual.present, status.owed) == (status.raw.present, 0)
    with open_store(out) as store:
        assert not store.plan.open_end
    yaozarrs.validate_zarr_store(str(out))


REFUSED = {
    "in the middle of others": (
        {"time_plan": [{"interval": 1, "loops": 2}, {"interval": 0, "duration": 5}]},
        ["2 phases", "Give that phase loops"],
    ),
    "fields before time": (
        {"axis_order": "ptgcz", "stage_positions": [(0, 0), (40, 10)]},
        ["ptgcz has p before t", "Put t first"],
    ),
    "channels before time": (
        {
            "axis_order": "pctz",
            "channels": [BRIGHTFIELD, {**BRIGHTFIELD, "config": "Mitochondria"}],
        },
        ["pctz has c before t"],
    ),
    "tiles before time": (
        {"axis_order": "pgtcz", "grid_plan": {"rows": 1, "columns": 2}},
        ["pgtcz has p before t"],
    ),
    "a position's own time": (
        {
            "stage_positions": [
                {"x": 0, "y": 0, "sequence": {"time_plan": {"interval": 0, "loops": 2}}}
            ]
        },
        ["Position 0", "a time plan of its own"],
    ),
    "an endless time of a position": (
        {
            "time_plan": None,
            "stage_positions": [
                {"x": 0, "y": 0, "sequence": {"time_plan": {"interval": 0, "duration": 2}}}
            ],
        },
        ["no end that can be counted"],
    ),
    "no duration and an interval": (
        {"time_plan": {"interval": 5, "duration": 0}},
        ["no end that can be counted", "a duration above 0"],
    ),
    "a duration below zero": (
        {"time_plan": {"interval": 0, "duration": -5}},
        ["duration -5 s", "time goes forward"],
    ),
    "predictions now and then": (
        {"channels": [BRIGHTFIELD, {**VIRTUAL, "acquire_every": 2}]},
        ["'mitochondria' has acquire_every 2"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused(core, tiny_bundle, tmp_path, case):
    changes, words = REFUSED[case]
    with pytest.raises(SequenceError) as caught:
        a_session(core, a_sequence(5, **changes), tiny_bundle, tmp_path / "run.ome.zarr").run()
    for word in words:
        assert word in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_nobody_waits_for_time_points_that_may_not_come(core, bundle_of, tmp_path):
    session = a_session(core, a_sequence(5), bundle_of(future=1), tmp_path / "run.ome.zarr")
    with pytest.raises(SequenceError, match="nobody knows whether they will come"):
        session.run()


def test_a_recording_has_a_number_of_time_points(png_movie, tiny_bundle, tmp_path):
    movie = png_movie(t=3)
    core = replay_core(movie, pixel_size_um=0.1)
    sequence = a_sequence(5, channels=[{"group": "Channel", "config": "brightfield"}])
    with pytest.raises(LivestainError, match="Give loops: 3"):
        Session(core, sequence, tmp_path / "run.ome.zarr").run()
    core.unloadAllDevices()


def test_a_disk_without_room_for_a_few_time_points_is_refused(
    core, tiny_bundle, tmp_path, monkeypatch
):
    session = a_session(core, a_sequence(5), tiny_bundle, tmp_path / "run.ome.zarr")
    two = 2 * session.plan.store.nbytes()
    monkeypatch.setattr(checks, "disk_of", lambda out: (tmp_path, two))
    with pytest.raises(StoreError, match="3 time points of the run may need"):
        session.run()


AUTOFOCUS = {"autofocus_device_name": "Z", "autofocus_motor_offset": 1}


@pytest.mark.parametrize(
    "sequence",
    [
        {},
        STACK,
        {"channels": [BRIGHTFIELD, {"config": "Cy5", "acquire_every": 3}], **STACK},
        {"channels": [{"config": "Cy5", "acquire_every": 2}]},
        {"autofocus_plan": {"axes": ("t",), **AUTOFOCUS}, **STACK},
        {"autofocus_plan": {"axes": ("p",), **AUTOFOCUS}, "stage_positions": [(0, 0), (5, 5)]},
        {"keep_shutter_open_across": "z", **STACK},
    ],
    ids=str,
)
def test_each_time_point_is_as_useq_has_it(sequence):
    """As of a plan with loops, which useq goes through by itself."""
    values = {"axis_order": "tpgcz", "channels": [BRIGHTFIELD], **sequence}
    n = 150
    counted = useq.MDASequence(**values, time_plan={"interval": 0, "loops": n})
    wanted = [list(events) for _, events in itertools.groupby(counted, lambda e: e.index["t"])]
    apart = time_points(useq.MDASequence(**values), None, together=False)
    given = list(itertools.islice(apart, len(wanted)))
    assert [len(events) for events in given] == [len(events) for events in wanted]
    bursts = time_points(useq.MDASequence(**values), None)
    for coming in (itertools.chain(*given), itertools.chain.from_iterable(bursts)):
        for theirs, ours in zip(itertools.chain(*wanted), coming, strict=False):
            assert (theirs.index, theirs.action) == (ours.index, ours.action)
            for name in ("channel", "exposure", "x_pos", "y_pos", "z_pos", "keep_shutter_open"):
                assert getattr(theirs, name) == getattr(ours, name)
            assert ours.min_start_time is None


def test_time_points_may_begin_later():
    sequence = useq.MDASequence(channels=["Cy5", {"config": "DAPI", "acquire_every": 2}])
    later = list(itertools.islice(time_points(sequence, None, 129, together=False), 3))
    assert [[e.index["t"] for e in events] for events in later] == [[129], [130, 130], [131]]
    assert list(time_points(sequence, 0.0)) == []


@pytest.mark.parametrize("lag", ["backfill", "lockstep"])
def test_single_images_are_triggered_together(core, tiny_bundle, tmp_path, lag):
    """A camera that is triggered is faster; where predictions are waited for, each is snapped by itself."""
    bursts = []
    core.mda.events.eventStarted.connect(
        lambda event: bursts.append(len(getattr(event, "events", [0])))
    )
    metadata = {"livestain": {"channels": {"mitochondria": {"lag": lag}}}}
    out = tmp_path / "run.ome.zarr"
    session = a_session(core, a_sequence(metadata=metadata), tiny_bundle, out)
    stop_after(session, 20)
    report = session.run()
    assert (max(bursts) > 1) == (lag == "backfill")
    # Of the burst that was stopped, what never came is not missing: its time has no number.
    status = store_status(out)
    assert (status.missing, report.planes_missing) == (0, 0)
    with open_store(out) as store:
        assert store.plan.planned_indices(0) == [
            PlaneIndex(0, t, 0, 0) for t in range(report.planes_acquired)
        ]


def test_a_setup_is_made_before_events_that_are_handed_over(core, tiny_bundle, tmp_path):
    """The runner does not see the sequence that they are of."""
    core.setAutoShutter(True)
    sequence = a_sequence(0.01, setup={"properties": [("Core", "AutoShutter", "0")]})
    shutter = []
    core.mda.events.frameReady.connect(lambda *_: shutter.append(core.getAutoShutter()))
    a_session(core, sequence, tiny_bundle, tmp_path / "run.ome.zarr").run()
    # pymmcore-plus' engine turns it on again after each event, as in any other run.
    assert shutter[0] is False


def test_the_command_line_says_what_is_known(core, tiny_bundle, tmp_path, capsys):
    sequence = tmp_path / "sequence.yaml"
    out, model = tmp_path / "run.ome.zarr", f"mitochondria={tiny_bundle}"
    told = {
        "axis_order": "tpgcz",
        "time_plan": {"interval": 0, "duration": 0.3},
        "channels": [{**BRIGHTFIELD, "exposure": 100}, VIRTUAL],
    }
    sequence.write_text(yaml.safe_dump(told))
    arguments = ["run", str(sequence), "--out", str(out), "--model", model]
    assert livestain([*arguments, "--dry-run"]) == 0
    table = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "unknown number, at most 3: as fast as it goes for 0.3 s" in table
    assert "1 of 256 x 256 pixels, and 1 predicted a time point" in table
    assert not out.exists()

    told["time_plan"] = {"interval": 0, "duration": 0}
    found = rehearse(
        Session(
            core,
            useq.MDASequence(**told),
            tmp_path / "other.ome.zarr",
            models={"mitochondria": str(tiny_bundle)},
            worker="thread",
        )
    )
    assert (found.open_end, found.most_times, found.duration_s) == (True, None, None)
    assert endless_time(useq.MDASequence(**told)).duration_s is None
