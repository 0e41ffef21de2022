"""Fewer files, the same planes: merging, tiles of large frames, channels that come later."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import yaozarrs
import zarr
from store_cases import at, make_plan, plane_of

from livestain.errors import MissingPlaneError, SettingsError, StoreError
from livestain.store import (
    PlannedBlock,
    PositionPlan,
    compact_store,
    create_store,
    journal_path,
    level_shapes,
    lock_path,
    open_store,
    store_status,
)
from livestain.store.chunks import tile_shape


def filled(path, plan, leave_out=()):
    """Write all raw and virtual planes of a store but some."""
    with create_store(path, plan) as store:
        for c, channel in enumerate(plan.channels):
            for index in plan.planned_indices(c):
                if index in leave_out:
                    continue
                image = plane_of(index, plan.height, plan.width)
                if channel.kind == "raw":
                    store.write(index, image).result()
                    store.write_levels(index, image)
                else:
                    store.write_virtual(index, image.astype(np.float32) / 7)
    return path


def contents(path):
    """All planes of all levels, by place."""
    with open_store(path) as store:
        levels = range(len(level_shapes(store.plan.height, store.plan.width)))
        return {
            (level, index): store.read(index, level=level)
            for index in store.present_indices()
            for level in levels
        }


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


def paths_of(path):
    group = json.loads((path / "zarr.json").read_text())
    return [d["path"] for d in group["attributes"]["ome"]["multiscales"][0]["datasets"]]


def planes_in(path):
    return [file for file in path.rglob("c.*") if file.is_file()]


def test_planes_are_the_same_in_fewer_files(path):
    holes = {at(2, 0, 1), at(2, 1, 1), at(5, 1, 0)}
    plan = make_plan(n_t=7, height=420, width=500)
    filled(path, plan, leave_out=holes)
    before, status = contents(path), store_status(path)
    # Two stacks of three in a file.
    done = compact_store(path, file_mb=6 * 420 * 500 * 2 / 1e6, unfinished=True)
    assert same(contents(path), before)
    assert paths_of(path) == ["0.1", "1.1"]
    assert sorted(p.name for p in path.iterdir() if p.is_dir()) == ["0.1", "1.1"]
    assert done.files_after == len(planes_in(path)) == 2 * 2 * 4  # channels, levels, files in time
    assert done.files_before == 2 * done.planes == len(before)
    after = store_status(path)
    assert (after.planned, after.present, after.missing) == (
        status.planned,
        status.present,
        status.missing,
    )
    with open_store(path) as store:
        assert store.is_compacted
        assert not store.is_present(at(2, 0, 1))
        assert store.is_present(at(2, 0, 0))
        with pytest.raises(MissingPlaneError, match="is not there"):
            store.read(at(2, 0, 1))
    assert not lock_path(path).exists()


def test_files_never_span_channels_so_what_is_owed_rewrites_nothing_else(path):
    owed = at(3, 1, 2)
    filled(path, make_plan(n_t=4), leave_out={owed})
    compact_store(path)
    raw = {file: file.read_bytes() for file in planes_in(path) if file.name.split(".")[2] == "0"}
    with open_store(path, mode="r+") as store:
        kept = store.read(at(0, 1, 0))
        assert not store.is_present(owed)
        written = store.write_virtual(owed, np.full((24, 32), 5.0, np.float32))
        np.testing.assert_array_equal(store.read(owed), written)
        np.testing.assert_array_equal(store.read(at(0, 1, 0)), kept)
    assert raw == {file: file.read_bytes() for file in raw}


CHILD = """
import sys
import numpy as np
from livestain.store import open_store
from livestain.planes import PlaneIndex
with open_store(sys.argv[1], mode="r+") as store:
    print("ready", flush=True)
    sys.stdin.readline()
    for t in range(int(sys.argv[2]), 40, 2):
        store.write_virtual(PlaneIndex(0, t, 1, 0), np.full((256, 240), float(t), np.float32))
"""


def test_two_processes_may_fill_one_file(path):
    """As two workers of a team do, on a store that was compacted before it was stained."""
    plan = make_plan(n_t=40, n_z=1, height=256, width=240)
    filled(path, plan, leave_out=set(plan.planned_indices(1)))
    compact_store(path)
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path), str(n)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in (0, 1)
    ]
    # Both are told to begin once both have loaded all they need, so that they write at the same time.
    assert [child.stdout.readline() for child in children] == ["ready\n"] * 2
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        child.communicate(timeout=60)
    assert [child.returncode for child in children] == [0, 0]
    with open_store(path) as store:
        assert store.present(1).sum() == 40
        for t in range(40):
            assert np.allclose(store.read_decoded(at(t, 1, 0)), t, atol=0.2)


def test_positions_are_compacted_one_by_one(path):
    positions = tuple(PositionPlan(name=f"P{p}", path=str(p)) for p in range(3))
    block = (PlannedBlock(p=range(3), t=range(4), z=range(3)),)
    filled(path, make_plan(positions=positions, planned=block))
    before = contents(path)
    compact_store(path)
    assert same(contents(path), before)
    yaozarrs.validate_zarr_store(str(path))
    assert len(planes_in(path)) == 3 * 2


def test_compacting_again_changes_the_size_of_files_or_nothing(path):
    filled(path, make_plan(n_t=6))
    before = contents(path)
    compact_store(path, file_mb=3 * 24 * 32 * 2 / 1e6)
    assert len(planes_in(path)) == 12
    stamps = {file: file.stat().st_mtime_ns for file in planes_in(path)}
    again = compact_store(path, file_mb=3 * 24 * 32 * 2 / 1e6)
    assert again.files_after == 12
    assert stamps == {file: file.stat().st_mtime_ns for file in planes_in(path)}
    compact_store(path)
    assert paths_of(path) == ["0.2"]
    assert len(planes_in(path)) == 2
    assert same(contents(path), before)


@pytest.mark.parametrize("step", ["_write", "_compare", "_to_disk", "write_group"])
def test_a_failure_at_any_step_leaves_the_store_as_it_was(path, step, monkeypatch):
    filled(path, make_plan(n_t=6))
    before = contents(path)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"livestain.store.compact.{step}", fail)
    with pytest.raises(StoreError, match="It is as it was"):
        compact_store(path)
    monkeypatch.undo()
    assert paths_of(path) == ["0"]
    assert [p.name for p in path.iterdir() if p.is_dir()] == ["0"]
    assert same(contents(path), before)
    compact_store(path)
    assert same(contents(path), before)


def test_what_a_killed_compaction_left_is_cleared_away(path):
    filled(path, make_plan(n_t=6))
    before = contents(path)
    shutil.copytree(path / "0", path / "0.1")  # as if killed before the group named it
    compact_store(path)
    assert paths_of(path) == ["0.1"]
    assert same(contents(path), before)
    shutil.copytree(path / "0.1", path / "0")  # as if killed before the old one was removed
    compact_store(path)
    assert [p.name for p in path.iterdir() if p.is_dir()] == ["0.1"]
    assert same(contents(path), before)


KILLED = """
import os, signal, sys
import livestain.store.compact as compact
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
setattr(compact, sys.argv[2], die) if sys.argv[2] != "rmtree" else setattr(compact.shutil, "rmtree", die)
compact.compact_store(sys.argv[1])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("step", ["_compare", "_to_disk", "write_group", "rmtree"])
def test_a_kill_at_any_step_leaves_a_whole_store(path, step):
    """Before the image names the new arrays it is the old store, after it the new one."""
    filled(path, make_plan(n_t=6, height=420, width=500))
    before = contents(path)
    child = subprocess.run([sys.executable, "-c", KILLED, str(path), step], timeout=120)
    assert child.returncode == -signal.SIGKILL
    yaozarrs.validate_zarr_store(str(path))
    assert same(contents(path), before)
    assert paths_of(path) == (["0.1", "1.1"] if step == "rmtree" else ["0", "1"])
    compact_store(path)  # and it takes over the lock of the process that is gone
    assert same(contents(path), before)
    assert len([p for p in path.iterdir() if p.is_dir()]) == 2
    assert len(planes_in(path)) == 4


def test_a_damaged_plane_stops_it_before_anything_changes(path):
    filled(path, make_plan(n_t=6))
    file = path / "0" / "c.2.0.1.0.0"
    bad = bytearray(file.read_bytes())
    bad[10] ^= 1
    file.write_bytes(bad)
    with pytest.raises(StoreError, match=r"t=2 c=0 z=1 .* is damaged .* Nothing was changed"):
        compact_store(path)
    assert paths_of(path) == ["0"]
    file.unlink()
    assert compact_store(path, unfinished=True).planes == 35


def test_a_run_that_could_go_on_is_not_compacted_unasked(path):
    filled(path, make_plan(n_t=6), leave_out={at(5, 0, 2), at(5, 1, 2)})
    with pytest.raises(StoreError, match=r"1 planes of .* were never taken"):
        compact_store(path)
    assert compact_store(path, unfinished=True).planes == 34


def test_a_reader_that_was_open_goes_on(path):
    filled(path, make_plan(n_t=6))
    with open_store(path) as reader:
        reader.read(at(0, 0, 0))
        compact_store(path)
        np.testing.assert_array_equal(reader.read(at(1, 0, 1)), plane_of(at(1, 0, 1)))
        assert reader.present(0).all()
        with open_store(path, mode="r+") as writer:
            writer.set_display(0, 1, 2)


def test_a_missing_pyramid_is_made_first(path):
    plan = make_plan(n_t=2, height=420, width=500)
    filled(path, plan)
    before = contents(path)
    (path / "1" / "c.1.0.2.0.0").unlink()
    compact_store(path)
    assert same(contents(path), before)


def test_the_journal_says_so(path):
    filled(path, make_plan(n_t=6))
    journal_path(path).write_text('{"kind":"started","time":"2026-01-01T00:00:00+00:00"}\n')
    compact_store(path, unfinished=True)
    assert json.loads(journal_path(path).read_text().splitlines()[-1])["kind"] == "compacted"


# -- tiles -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "tile"),
    [
        ((2048, 2048), (2048, 2048)),
        ((2304, 2304), (768, 768)),
        ((2160, 2560), (720, 640)),
        ((3200, 3200), (800, 800)),
        ((5120, 5120), (1024, 1024)),
        ((2531, 2600), (2531, 650)),  # a prime has no tiles
    ],
)
def test_tiles_divide_the_sides(shape, tile):
    assert tile_shape(*shape) == tile


def test_a_large_plane_is_one_file_of_tiles(path):
    plan = make_plan(n_t=1, n_z=2, height=2304, width=2080, virtual=False)
    filled(path, plan)
    array = zarr.open_group(path, mode="r")["0"]
    assert array.chunks == (1, 1, 1, 768, 520)
    assert array.shards == (1, 1, 1, 2304, 2080)
    assert sorted(file.name for file in planes_in(path / "0")) == ["c.0.0.0.0.0", "c.0.0.1.0.0"]
    expected = plane_of(at(0, 0, 1), 2304, 2080)
    np.testing.assert_array_equal(array[0, 0, 1], expected)
    with open_store(path) as store:
        np.testing.assert_array_equal(store.read(at(0, 0, 1)), expected)
        assert store.present(0).all()
    file = path / "0" / "c.0.0.1.0.0"
    bad = bytearray(file.read_bytes())
    bad[len(bad) // 2] ^= 1
    file.write_bytes(bad)
    with open_store(path) as store, pytest.raises(StoreError, match="is damaged"):
        store.read(at(0, 0, 1))
    before = (path / "0" / "c.0.0.0.0.0").stat().st_size
    with open_store(path, mode="r+") as store:  # zeros are stored, in every tile
        store.write(at(0, 0, 1), np.zeros((2304, 2080), np.uint16)).result()
        assert store.read(at(0, 0, 1)).max() == 0
    assert before > file.stat().st_size
    compact_store(path)
    with open_store(path) as store:
        assert store.present(0).all()
        assert store.read(at(0, 0, 1)).max() == 0


# -- channels that come later ------------------------------------------------------------------------


def later(name="second", source="Brightfield", n_t=4, n_z=3):
    plan = make_plan(n_t=n_t, n_z=n_z)
    virtual = plan.channels[1].virtual.model_copy(update={"source": source, "scale": 0.5})
    return plan.channels[1].model_copy(update={"name": name, "virtual": virtual})


@pytest.mark.parametrize("compacted", [False, True])
def test_a_channel_is_added_and_no_file_of_another_is_touched(path, compacted):
    filled(path, make_plan())
    if compacted:
        compact_store(path)
    before = {file: file.read_bytes() for file in planes_in(path)}
    with open_store(path) as reader, open_store(path, mode="r+") as store:
        store.add_channels([later()])
        assert [channel.name for channel in store.plan.channels] == [
            "Brightfield",
            "mitochondria",
            "second",
        ]
        assert not store.present(2).any()
        store.write_virtual(at(3, 2, 1), np.full((24, 32), 8.0, np.float32))
        assert np.allclose(store.read_decoded(at(3, 2, 1)), 8.0, atol=0.5)
        reader.refresh()
        assert reader.is_present(at(3, 2, 1))
    assert before == {file: file.read_bytes() for file in before}
    yaozarrs.validate_zarr_store(str(path))
    group = zarr.open_group(path, mode="r")
    assert group[paths_of(path)[0]].shape == (4, 3, 3, 24, 32)
    labels = [ch["label"] for ch in group.attrs["ome"]["omero"]["channels"]]
    assert labels == ["Brightfield", "mitochondria (predicted)", "second (predicted)"]
    assert group.attrs["livestain"]["encoding"]["second"]["scale"] == 0.5
    assert store_status(path).by_channel["second"].owed == 11


def test_a_channel_is_added_once_and_fits(path):
    filled(path, make_plan())
    with open_store(path, mode="r+") as store:
        with pytest.raises(SettingsError, match="channel names occur once"):
            store.add_channels([later("mitochondria")])
        with pytest.raises(SettingsError, match="none of the raw channels"):
            store.add_channels([later(source="Phase")])
    with open_store(path) as store, pytest.raises(StoreError, match="open for reading"):
        store.add_channels([later()])


def test_a_crash_while_a_channel_is_added_leaves_the_store_as_it_was(path, monkeypatch):
    filled(path, make_plan())
    with open_store(path, mode="r+") as store:
        monkeypatch.setattr("livestain.store.store.encoding_attributes", lambda _: 1 / 0)
        with pytest.raises(
            ZeroDivisionError
        ):  # a stand-in for SIGKILL, after the arrays and the names
            store.add_channels([later()])
    monkeypatch.undo()
    with open_store(path, mode="r+") as store:
        assert len(store.plan.channels) == 2
        store.add_channels([later("third")])
    labels = zarr.open_group(path, mode="r").attrs["ome"]["omero"]["channels"]
    assert [ch["label"] for ch in labels][2:] == ["third (predicted)"]
