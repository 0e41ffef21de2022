"""The words of a store: planned, present, missing; owed, skipped, impossible."""

from __future__ import annotations

import json

import numpy as np
import pytest
import typer
import yaozarrs
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from store_cases import at, block, make_plan, plane_of
from typer.testing import CliRunner

from livestain.cli.status import register
from livestain.errors import StoreError
from livestain.planes import PlaneIndex
from livestain.store import (
    ChannelPlan,
    Journal,
    PlannedBlock,
    PositionPlan,
    VirtualPlan,
    WindowPlan,
    create_store,
    finalise,
    journal_path,
    store_status,
)

RAW, VIRTUAL = at(1, 0, 1), at(1, 1, 1)

# What the journal says, whether the raw plane's source plane is there, the word for the raw plane
# (if it is missing) and for the virtual one.
WORDS = [
    ("no journal", None, False, "owed", "owed"),
    ("a run that goes on", [("started", None)], False, "owed", "owed"),
    ("not yet stained", [("plane", RAW)], True, None, "owed"),
    ("ended, not stained", [("plane", RAW), ("finished", None)], True, None, "owed"),
    ("ended without", [("started", None), ("finished", None)], False, "impossible", "impossible"),
    ("resumed", [("finished", None), ("resumed", None)], False, "owed", "owed"),
    ("dropped", [("missing", RAW)], False, "impossible", "impossible"),
    ("dropped, then came", [("missing", RAW), ("plane", RAW)], True, None, "owed"),
    ("not acquired by choice", [("skipped", RAW)], False, "skipped", "impossible"),
    ("given up", [("plane", RAW), ("skipped", VIRTUAL)], True, None, "skipped"),
    ("fails twice", [("plane", RAW), ("impossible", VIRTUAL)], True, None, "impossible"),
    ("given up, taken back", [("skipped", VIRTUAL), ("stained", VIRTUAL)], True, None, "owed"),
    ("said twice", [("impossible", VIRTUAL), ("skipped", VIRTUAL)], True, None, "skipped"),
    ("a fault is no verdict", [("fault", VIRTUAL)], True, None, "owed"),
    ("chunks are the truth", [("missing", RAW)], True, None, "owed"),
]


@pytest.mark.parametrize(
    ("lines", "source_there", "raw", "virtual"),
    [case[1:] for case in WORDS],
    ids=[w[0] for w in WORDS],
)
def test_every_missing_plane_has_exactly_one_word(path, lines, source_there, raw, virtual):
    plan = make_plan(planned=(PlannedBlock(t=(1,), z=(1,)),))
    with create_store(path, plan) as store:
        if source_there:
            store.write(RAW, plane_of(RAW)).result()
    if lines is not None:
        with Journal(journal_path(path)) as journal:
            for kind, index in lines:
                journal.append(kind, **({"index": index, "why": "because"} if index else {}))
    status = store_status(path)
    assert status.journal == (lines is not None)
    for counts, word in ((status.raw, raw), (status.virtual, virtual)):
        assert counts.planned == 1
        assert counts.present == (word is None)
        found = {name: getattr(counts, name) for name in ("owed", "skipped", "impossible")}
        assert found == {name: int(name == word) for name in found}
    assert status.planned == 2
    assert status.missing == status.owed + status.skipped + status.impossible
    assert sum(status.reasons.values()) == status.skipped + status.impossible


def test_reasons_are_counted(full):
    with Journal(journal_path(full.path)) as journal:
        for t in range(3):
            journal.append("skipped", index=at(t, 1, 0), why="the stainer was behind")
        journal.append("impossible", index=at(0, 1, 1), why="NaN, twice")
        journal.append("missing", index=at(3, 1, 1))
    status = store_status(full.path)
    assert status.reasons == {"the stainer was behind": 3, "NaN, twice": 1, "missing": 1}
    assert status.by_channel["mitochondria"].reasons == status.reasons
    assert status.by_channel["Brightfield"].reasons == {}
    assert (status.present, status.owed, status.skipped, status.impossible) == (12, 7, 3, 2)
    assert status.short_reasons() == status.reasons


def test_reasons_that_name_a_place_each_are_told_in_one_line(store, program):
    with Journal(journal_path(store.path)) as journal:
        for n in range(9):
            journal.append("missing", index=at(n // 3, 0, n % 3), why="its time had passed")
            why = f"a source plane never came: Brightfield t {n // 3} z {n % 3}"
            journal.append("impossible", index=at(n // 3, 1, n % 3), why=why)
    found = store_status(store.path)
    assert len(found.reasons) == 10
    assert found.short_reasons() == {"a source plane never came": 9, "its time had passed": 9}
    shown = program(store.path).stdout
    assert "9 x a source plane never came\n" in shown


@pytest.mark.parametrize(
    ("window", "lost"),
    [
        (WindowPlan(), 1),
        (WindowPlan(z=3), 3),
        (WindowPlan(z="all"), 5),
        (WindowPlan(past=1), 2),
        (WindowPlan(z=3, past=1, future=1), 9),
    ],
)
def test_a_source_plane_that_never_came_takes_its_window_with_it(path, window, lost):
    virtual = VirtualPlan(
        source="Brightfield", window=window, scale=1, offset=0, unit="counts", bundle="demo",
        bundle_sha256="0" * 64, output="mitochondria",
    )  # fmt: skip
    blocks = block(5, 5)
    plan = make_plan(
        n_t=5,
        n_z=5,
        channels=(
            ChannelPlan(name="Brightfield", kind="raw", planned=blocks),
            ChannelPlan(name="mitochondria", kind="virtual", planned=blocks, virtual=virtual),
        ),
    )
    create_store(path, plan).close()
    with Journal(journal_path(path)) as journal:
        journal.append("missing", index=at(2, 0, 2), why="the camera dropped it")
    status = store_status(path)
    assert status.raw.impossible == 1
    assert status.virtual.impossible == lost
    assert status.virtual.owed == 25 - lost
    assert status.reasons == {"the camera dropped it": 1, "a source plane never came": lost}


def test_a_source_that_is_not_planned_never_comes(path):
    plan = make_plan()
    sparse = plan.channels[0].model_copy(update={"planned": (PlannedBlock(t=(0, 2), z=(0, 1, 2)),)})
    create_store(path, make_plan(channels=(sparse, plan.channels[1]))).close()
    status = store_status(path)
    assert (status.virtual.planned, status.virtual.impossible, status.virtual.owed) == (12, 6, 6)


def test_planes_that_are_not_planned_do_not_count(path):
    plan = make_plan(planned=(PlannedBlock(t=(0,), z=(0,)),))
    with create_store(path, plan) as store:
        store.write(at(3, 0, 2), plane_of(RAW)).result()
    status = store_status(path)
    assert (status.planned, status.present, status.missing) == (2, 0, 2)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_the_words_always_add_up(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("words") / "run.ome.zarr"
    plan = make_plan(n_t=2, n_z=2)
    indices = plan.planned_indices(0) + plan.planned_indices(1)
    present = data.draw(st.sets(st.sampled_from(indices)))
    kinds = ["plane", "stained", "missing", "skipped", "impossible", "fault", "resumed", "finished"]
    lines = data.draw(st.lists(st.tuples(st.sampled_from(kinds), st.sampled_from(indices))))
    with create_store(path, plan) as store:
        for index in present:
            store.write(index, plane_of(index))
    with Journal(journal_path(path)) as journal:
        for kind, index in lines:
            journal.append(kind, index=index)
    found = store_status(path).to_dict()
    assert found["planned"] == 8
    assert found["present"] == len(present)
    for counts in (found, found["raw"], found["virtual"], *found["channels"].values()):
        assert counts["planned"] == counts["present"] + counts["missing"]
        assert counts["missing"] == counts["owed"] + counts["skipped"] + counts["impossible"]
        assert sum(counts["reasons"].values()) == counts["skipped"] + counts["impossible"]
    json.dumps(found)


@pytest.mark.parametrize("line", ['{"kind": "missing"}', '{"kind": "missing", "index": [0, 1]}'])
def test_a_line_without_a_place_says_nothing_about_planes(path, line):
    create_store(path, make_plan()).close()
    journal_path(path).write_text(line + "\n")
    assert store_status(path).owed == 24


# -- the run's end -------------------------------------------------------------------------------


def test_times_positions_and_latencies_go_into_the_store(full):
    with Journal(journal_path(full.path)) as journal:
        for t in range(3):
            journal.append(
                "plane",
                index=at(t, 0, 1),
                time="1970-01-01T00:01:40+00:00",
                exposure_ms=10.0,
                camera_time_ms=5.5 * t,
                x_um=1.0,
                z_um=None,
                image_number=t,
            )
        journal.append(
            "stained",
            index=at(1, 1, 1),
            latency_ms={"total": 7.5, "predict": 5.0},
            live=True,
            attempts=1,
            quality={"out of distribution": 0.2},
        )
        journal.append("missing", index=at(3, 0, 1), why="dropped")
    finalise(full.path)
    finalise(full.path)  # again, as after a resumed run
    yaozarrs.validate_zarr_store(str(full.path))
    group = zarr.open_group(full.path, mode="r")
    assert sorted(group.array_keys()) == ["0"]
    own = group["livestain"]
    assert own.attrs["arrays"] == sorted(own.array_keys())
    expected = np.full((1, 4, 2, 3), np.nan)
    expected[0, :3, 0, 1] = [0, 5.5, 11]
    np.testing.assert_array_equal(own["camera_time_ms"][:], expected)
    assert own["camera_time_ms"].metadata.dimension_names == ("p", "t", "c", "z")
    assert own["time_s"][0, 0, 0, 1] == 100
    assert own["latency_ms_total"][0, 1, 1, 1] == 7.5
    assert own["quality_out_of_distribution"][0, 1, 1, 1] == 0.2
    assert own["live"][0, 1, 1, 1] == 1
    assert "z_um" not in own


def test_the_end_of_a_run_without_a_journal_is_an_error(store):
    with pytest.raises(StoreError, match="Cannot read the journal"):
        finalise(store.path)


def test_the_end_of_a_run_on_a_full_or_locked_disk_is_an_error(store):
    with Journal(journal_path(store.path)) as journal:
        journal.append("plane", index=at(0, 0, 0), x_um=1.0)
    (store.path / "livestain").write_text("a file in its place")
    with pytest.raises(StoreError, match="Cannot write the group 'livestain'"):
        finalise(store.path)


# -- the command ---------------------------------------------------------------------------------


@pytest.fixture
def program():
    app = typer.Typer()
    register(app)
    app.callback()(lambda: None)  # so that the command keeps its name
    return lambda *arguments: CliRunner().invoke(app, ["status", *map(str, arguments)])


def test_the_command_gives_one_json_object(full, program):
    result = program(full.path, "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout.splitlines()[-1])
    assert found == store_status(full.path).to_dict()
    assert {key: found[key] for key in ("planned", "present", "missing", "owed")} == {
        "planned": 24,
        "present": 12,
        "missing": 12,
        "owed": 12,
    }
    assert set(found["channels"]) == {"Brightfield", "mitochondria"}


def test_the_command_shows_a_table(full, program):
    with Journal(journal_path(full.path)) as journal:
        journal.append("skipped", index=VIRTUAL, why="the stainer was [behind]")
    result = program(full.path)
    assert result.exit_code == 0
    words = " ".join(result.stdout.split())
    assert "mitochondria" in words
    assert "1 x the stainer was [behind]" in words
    journal_path(full.path).unlink()
    assert "no journal" in program(full.path).stdout


def test_the_command_on_no_store_raises_our_error(path, program):
    result = program(path)
    assert isinstance(result.exception, StoreError)
    assert "does not exist" in str(result.exception)


def test_each_position_is_counted_by_itself(tmp_path):
    """By name; two of one name are told apart by their numbers."""
    positions = tuple(
        PositionPlan(name=name, path=str(p)) for p, name in enumerate(("left", "", "twin", "twin"))
    )
    every = (PlannedBlock(p=range(4), t=range(2), z=range(2)),)
    plan = make_plan(n_t=2, n_z=2, planned=every, positions=positions)
    with create_store(tmp_path / "run.ome.zarr", plan) as store:
        for p, n in ((0, 4), (1, 3), (2, 1)):
            for index in [i for i in plan.planned_indices(0) if i.p == p][:n]:
                store.write(index, plane_of(index)).result()
        store.write_virtual(PlaneIndex(0, 0, 1, 0), np.zeros((24, 32)))
        with Journal(journal_path(store.path)) as journal:
            journal.append("missing", index=PlaneIndex(1, 1, 0, 1), why="the camera dropped it")
    status = store_status(tmp_path / "run.ome.zarr")
    assert list(status.by_position) == ["left", "Pos001", "twin (2)", "twin (3)"]
    present = {name: c["Brightfield"].present for name, c in status.by_position.items()}
    assert present == {"left": 4, "Pos001": 3, "twin (2)": 1, "twin (3)": 0}
    assert status.by_position["left"]["mitochondria"].owed == 3
    assert status.by_position["Pos001"]["Brightfield"].reasons == {"the camera dropped it": 1}
    assert status.by_position["Pos001"]["mitochondria"].impossible == 1
    assert status.by_channel["Brightfield"].present == status.raw.present == 8
    told = status.to_dict()["positions"]["twin (3)"]["mitochondria"]
    assert (told["planned"], told["owed"]) == (4, 4)
