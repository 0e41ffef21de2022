"""Creating, opening, closing, attributes, and what becomes of writes that fail."""

from __future__ import annotations

import errno
import gc
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaozarrs
import zarr
from pydantic import ValidationError
from store_cases import at, block, make_plan, plane_of

from livestain.errors import MissingPlaneError, StoreError
from livestain.planes import PlaneIndex
from livestain.store import (
    ChannelPlan,
    Journal,
    PlannedBlock,
    PositionPlan,
    WindowPlan,
    create_store,
    journal_path,
    open_store,
    settle,
    store_status,
)
from livestain.store.chunks import chunk_file


def test_importing_the_room_loads_nothing_heavy():
    code = (
        "import sys, livestain.store; "
        "print([m for m in ('tensorstore', 'zarr', 'yaozarrs', 'torch') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_every_public_name_is_there():
    import livestain.store as room

    assert all(getattr(room, name) is not None for name in room.__all__)


@pytest.mark.parametrize("size", [(24, 32), (700, 513)])
def test_a_store_validates_and_says_what_it_holds(path, size):
    plan = make_plan(height=size[0], width=size[1])
    with create_store(path, plan, attributes={"sequence": {"axis_order": "tcz"}}):
        yaozarrs.validate_zarr_store(str(path))
    ome = zarr.open_group(path, mode="r").attrs["ome"]
    multiscale = ome["multiscales"][0]
    assert [(axis["name"], axis.get("unit")) for axis in multiscale["axes"]] == [
        ("t", "second"),
        ("c", None),
        ("z", "micrometer"),
        ("y", "micrometer"),
        ("x", "micrometer"),
    ]
    for level, dataset in enumerate(multiscale["datasets"]):
        scale, *translation = dataset["coordinateTransformations"]
        pixel = 0.1 * 2**level
        assert scale["scale"] == pytest.approx([2.0, 1.0, 0.5, pixel, pixel])
        # The first pixel of a level covers the same ground as those it is the mean of.
        corner = (translation[0]["translation"][4] if translation else 0) - pixel / 2
        assert corner == pytest.approx(-0.05)
    raw, virtual = ome["omero"]["channels"]
    assert (raw["label"], raw["color"], raw["window"]["end"]) == ("Brightfield", "FFFFFF", 65535)
    assert virtual["label"] == "mitochondria (predicted)"
    assert virtual["color"] == "FF00FF"
    assert virtual["active"]
    window = virtual["window"]
    assert [window[key] for key in ("min", "start", "end", "max")] == [0, 100, 4000, 65535]
    with open_store(path) as store:
        assert store.plan == plan
        assert store.attributes["sequence"] == {"axis_order": "tcz"}
        assert store.attributes["encoding"]["mitochondria"]["scale"] == 0.25
        assert store.attributes["assumed"] == {}


@pytest.mark.parametrize(("interval", "why"), [(None, "unknown"), (0.0, "is 0")])
def test_an_unknown_scale_is_one_and_said_to_be_assumed(path, interval, why):
    with create_store(path, make_plan(t_interval_s=interval, z_step_um=None)) as store:
        assert why in store.attributes["assumed"]["t"]
        assert "z-step is unknown" in store.attributes["assumed"]["z"]
    dataset = zarr.open_group(path, mode="r").attrs["ome"]["multiscales"][0]["datasets"][0]
    assert dataset["coordinateTransformations"][0]["scale"][:3] == [1.0, 1.0, 1.0]


def test_what_exists_is_kept_unless_it_is_to_be_overwritten(full, path):
    full.close()
    with Journal(journal_path(path)) as journal:
        journal.append("finished")
    with pytest.raises(StoreError, match=r"exists already.*--overwrite"):
        create_store(path, make_plan())
    assert open_store(path).present(0).all()
    with create_store(path, make_plan(n_t=2), overwrite=True) as store:
        assert not store.present(0).any()
        assert not journal_path(path).exists()
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_overwriting_removes_nothing_but_livestain_stores(path):
    path.mkdir()
    (path / "thesis.docx").write_text("years of work")
    with pytest.raises(StoreError, match="not a livestain store, so it is not overwritten"):
        create_store(path, make_plan(), overwrite=True)
    zarr.open_group(path, mode="w", attributes={"ome": {}})
    with pytest.raises(StoreError, match="not a livestain store"):
        create_store(path, make_plan(), overwrite=True)
    assert path.exists()


def test_an_old_store_that_cannot_be_removed_does_not_stop_the_new_one(full, path, monkeypatch):
    full.close()
    remove = os.unlink

    def stuck(name, **how):
        if str(name).endswith("c.0.0.0.0.0"):
            raise OSError(errno.EACCES, "Permission denied", name)
        remove(name, **how)

    monkeypatch.setattr(os, "unlink", stuck)
    with create_store(path, make_plan(n_t=2), overwrite=True) as store:
        assert store.plan.n_t == 2
        assert not store.present(0).any()


def test_a_journal_without_its_store_is_not_continued(path):
    journal_path(path).write_text('{"kind": "finished"}\n')
    with pytest.raises(StoreError, match="journal of an earlier run lies at"):
        create_store(path, make_plan())
    create_store(path, make_plan(), overwrite=True).close()
    assert not journal_path(path).exists()


def test_a_store_that_cannot_be_made_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="Cannot create the store"):
        create_store(tmp_path / "file" / "run.ome.zarr", make_plan())
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_folders_above_a_store_are_made(tmp_path):
    create_store(tmp_path / "a" / "b" / "run.ome.zarr", make_plan()).close()
    assert open_store(tmp_path / "a" / "b" / "run.ome.zarr").path.is_absolute()


def test_opening_what_is_no_store_says_what_is_wrong(path):
    with pytest.raises(StoreError, match="does not exist"):
        open_store(path)
    path.mkdir()
    with pytest.raises(StoreError, match="not a Zarr group"):
        open_store(path)
    (path / "zarr.json").write_text("{")
    with pytest.raises(StoreError, match="not a livestain store"):
        open_store(path)
    (path / "zarr.json").write_text('{"attributes": {"livestain": {"format": 99}}}')
    with pytest.raises(StoreError, match="format 99; this livestain reads format 1"):
        open_store(path)
    (path / "zarr.json").write_bytes(b"\xff")
    with pytest.raises(StoreError, match="Cannot read"):
        open_store(path)


def test_a_store_without_its_array_says_so(path):
    create_store(path, make_plan()).close()
    shutil.rmtree(path / "0")
    with pytest.raises(StoreError, match="Cannot open the array"):
        open_store(path)


def test_a_reader_does_not_write(full):
    full.close()
    with open_store(full.path) as reader:
        for call in (
            lambda: reader.write(at(0, 0, 0), plane_of(at(0, 0, 0))),
            lambda: reader.write_levels(at(0, 0, 0), plane_of(at(0, 0, 0))),
            lambda: reader.update_attributes({"a": 1}),
            lambda: reader.set_display(0, 0, 1),
        ):
            with pytest.raises(StoreError, match="open for reading"):
                call()


def test_a_closed_store_does_not_write(store):
    store.close()
    store.close()
    with pytest.raises(StoreError, match="is closed"):
        store.write(at(0, 0, 0), plane_of(at(0, 0, 0)))


def test_attributes_are_added_and_the_rest_stays(store):
    before = store.attributes
    store.update_attributes({"result": {"planes": 3}})
    store.set_display(0, 10, 200)
    store.attributes["plan"] = "a copy is changed, not the store"
    assert store.attributes == {**before, "result": {"planes": 3}}
    assert open_store(store.path).attributes == store.attributes
    yaozarrs.validate_zarr_store(str(store.path))
    window = json.loads((store.path / "zarr.json").read_text())["attributes"]["ome"]["omero"][
        "channels"
    ][0]["window"]
    assert (window["start"], window["end"]) == (10, 200)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"plan": {}}, "plan of .* are written by the store itself"),
        ({"x": np.zeros(2)}, "cannot be written as JSON"),
        ({"x": float("nan")}, "cannot be written as JSON"),
    ],
)
def test_attributes_that_cannot_be_kept_are_refused(store, attributes, message):
    before = (store.path / "zarr.json").read_text()
    with pytest.raises(StoreError, match=message):
        store.update_attributes(attributes)
    assert (store.path / "zarr.json").read_text() == before


def test_attributes_that_cannot_be_written_leave_the_old_ones(store):
    before = (store.path / "zarr.json").read_text()
    store.path.with_name(f".{store.path.name}.{os.getpid()}.zarr.json").mkdir()
    with pytest.raises(StoreError, match="Cannot write the attributes of"):
        store.update_attributes({"a": 1})
    assert (store.path / "zarr.json").read_text() == before


def test_a_level_that_was_taken_away_cannot_be_listed(store):
    shutil.rmtree(store.path / "0")
    with pytest.raises(StoreError, match="Cannot read"):
        store.present(0)


def test_reserved_attributes_are_refused_at_creation(path):
    with pytest.raises(StoreError, match="written by the store itself"):
        create_store(path, make_plan(), attributes={"format": 2})
    assert not path.exists()


def test_an_empty_display_window_is_refused(store):
    with pytest.raises(StoreError, match="display window of channel 0"):
        store.set_display(0, 5, 5)


def test_a_write_that_nobody_holds_is_written_all_the_same(store):
    """tensorstore alone abandons it."""
    for index in store.plan.planned_indices(0):
        store.write(index, plane_of(index))
        gc.collect()
    store.close()
    assert store.present(0).all()


def test_a_write_that_has_ended_is_readable(store):
    future = store.write(at(1, 0, 1), plane_of(at(1, 0, 1)))
    assert future.wait(30)
    assert future.done()
    assert store.is_present(future.index)
    assert future.exception() is None
    assert future.result(timeout=1) is None


def hinder(store, index):
    """Make one plane impossible to write: its file is a folder."""
    chunk_file(store.path / "0", index.t, index.c, index.z).mkdir()


def test_a_failed_write_says_where_and_what_to_do(store):
    hinder(store, at(0, 0, 0))
    future = store.write(at(0, 0, 0), plane_of(at(0, 0, 0)))
    with pytest.raises(StoreError, match=r"Cannot write plane p=0 t=0 c=0 z=0 of .*run\.ome\.zarr"):
        future.result(timeout=30)
    assert future.wait(30)
    assert not store.is_present(at(0, 0, 0))
    store.close()  # the error was seen: no second time


def test_a_failed_write_that_nobody_asked_for_comes_at_close(path):
    store = create_store(path, make_plan())
    hinder(store, at(0, 0, 0))
    store.write(at(0, 0, 0), plane_of(at(0, 0, 0)))
    with pytest.raises(StoreError, match="Cannot write plane p=0 t=0"):
        store.close()
    store.close()


def test_planned_planes_are_the_union_of_the_blocks():
    plan = make_plan(
        planned=(PlannedBlock(t=(0, 2), z=(0, 1, 2)), PlannedBlock(t=range(4), z=(1,)))
    )
    expected = np.array([[[1, 1, 1], [0, 1, 0], [1, 1, 1], [0, 1, 0]]], bool)
    for c in (0, 1):
        np.testing.assert_array_equal(plan.planned(c), expected)
        indices = plan.planned_indices(c)
        assert indices == sorted(indices)
        assert len(indices) == 8
        assert all(index.c == c for index in indices)
    assert plan.nbytes() == 2 * 8 * 24 * 32 * 2
    assert plan.c_of("mitochondria") == 1
    with pytest.raises(KeyError, match="No channel 'nuclei'"):
        plan.c_of("nuclei")


def raw(name, **changes):
    return ChannelPlan(**{"name": name, "kind": "raw", "planned": block(4, 3), **changes})


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: make_plan(channels=(raw("a"), raw("a"))), "given twice: a"),
        (lambda: make_plan(channels=make_plan().channels[::-1]), "raw channels come before"),
        (lambda: make_plan(channels=(raw("b"), make_plan().channels[1])), "none of the raw"),
        (
            lambda: make_plan(channels=(raw("b", planned=block(5, 3)),)),
            "plans position 0, time point 4",
        ),
        (lambda: make_plan(channels=()), "at least 1 item"),
        (lambda: make_plan(pixel_size_um=0), "greater than 0"),
        (lambda: raw("b", kind="virtual"), "needs 'virtual'"),
        (lambda: raw("b", virtual=make_plan().channels[1].virtual), "cannot have 'virtual'"),
        (lambda: raw("b", display=(5, 5)), "display goes from a smaller"),
        (lambda: raw("b", color="red"), "should match pattern"),
        (lambda: PlannedBlock(t=(), z=(0,)), "at least 1 item"),
        (lambda: WindowPlan(z=2), "odd number of planes"),
    ],
)
def test_a_plan_that_does_not_fit_together_is_refused(build, message):
    with pytest.raises(ValidationError, match=message):
        build()


def an_open_end(path):
    """A run of two positions whose end is open, with four time points taken, and room for as many."""
    positions = tuple(PositionPlan(path=str(p)) for p in range(2))
    plan = make_plan(n_t=4, n_z=1, planned=block(1, 1), positions=positions, open_end=True)
    store = create_store(path, plan)
    for t in range(4):
        store.write(at(t, 0, 0), plane_of(at(t, 0, 0))).result()
    return store


@pytest.mark.parametrize("died", ["as it grew", "as it was settled"])
def test_a_crash_between_arrays_and_plan_leaves_a_store_that_is_settled_later(
    path, monkeypatch, died
):
    store = an_open_end(path)

    def crash(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("livestain.store.store.write_group", crash)
        with pytest.raises(KeyboardInterrupt):
            store.grow(5) if died == "as it grew" else settle(store)
    store.close()
    with open_store(path, mode="r+") as again:
        assert again.plan.open_end
        settle(again)
        assert again.plan.n_t == 4
        for p in "01":
            for level in zarr.open_group(path, mode="r")[p].arrays():
                assert level[1].shape[0] == 4


def test_who_reads_while_the_end_is_cut_off_finds_planes_missing(path):
    store = an_open_end(path)
    store.grow(9)
    with open_store(path) as reader:
        settle(store)
        with pytest.raises(MissingPlaneError):
            reader.read(PlaneIndex(1, 6, 0, 0))
        np.testing.assert_array_equal(reader.read(at(3, 0, 0)), plane_of(at(3, 0, 0)))
    store.close()


def test_room_that_was_made_since_a_store_was_opened_counts(path):
    """Nine time points, of which the reader that counts knew four when it opened the store."""
    store = an_open_end(path)
    grown = []

    class Late(type(store)):
        def present_grid(self, level=0):
            if not grown:
                grown.append(store.grow(9))
                store.write(at(7, 0, 0), plane_of(at(7, 0, 0))).result()
            return super().present_grid(level)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("livestain.store.status.open_store", Late)
        status = store_status(path)
    assert (status.raw.planned, status.raw.present) == (5, 5)
    assert (status.virtual.planned, status.virtual.owed) == (5, 5)
    store.close()


def test_what_a_killed_write_left_does_not_spoil_the_plane_that_comes(path):
    """The storage library goes on with such a file; one that is longer than the plane would leave its end."""
    with create_store(path, make_plan()) as store:
        left = chunk_file(path / "0", 1, 0, 1).with_name("c.1.0.1.0.0.__lock")
        left.write_bytes(bytes(range(256)) * 100)
        store.remove_stale_writes()
        assert not left.exists()
        store.write(at(1, 0, 1), plane_of(at(1, 0, 1))).result()
        np.testing.assert_array_equal(store.read(at(1, 0, 1)), plane_of(at(1, 0, 1)))
