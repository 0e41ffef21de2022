"""Planes that windows share are read once, and no more of them is kept than may be."""

from __future__ import annotations

import numpy as np
import psutil
import pytest

from livestain.errors import StoreError
from livestain.planes import PlaneIndex, Window
from livestain.stain.recent import RecentPlanes, bytes_to_keep
from livestain.store import ChannelPlan, PlannedBlock, StorePlan, create_store

SIDE = 32
N_T = 8


@pytest.fixture
def store(tmp_path):
    plan = StorePlan(
        n_t=N_T,
        n_z=1,
        height=SIDE,
        width=SIDE,
        pixel_size_um=0.1,
        channels=(
            ChannelPlan(name="bf", kind="raw", planned=(PlannedBlock(t=range(N_T), z=(0,)),)),
        ),
    )
    with create_store(tmp_path / "run.ome.zarr", plan) as store:
        for t in range(N_T - 1):
            plane = np.full((SIDE, SIDE), 10 * t, np.uint16)
            store.write(PlaneIndex(0, t, 0, 0), plane).result(timeout=20)
        yield store


def sources(t, past):
    return Window(past=past).sources(PlaneIndex(0, t, 1, 0), 0, n_t=N_T, n_z=1)


def levels(planes):
    assert planes.shape[1:] == (SIDE, SIDE)
    assert planes.dtype == np.uint16
    return planes[:, 5, 7].tolist()


def file_of(store, t):
    return store.path / "0" / f"c.{t}.0.0.0.0"


def test_a_plane_of_two_windows_is_read_once(store):
    """The file of a plane that both windows have is taken away between them."""
    recent = RecentPlanes()
    assert levels(recent.read(store, sources(3, 2))) == [10, 20, 30]
    file_of(store, 2).unlink()
    assert levels(recent.read(store, sources(4, 2))) == [20, 30, 40]
    assert levels(recent.read(store, sources(0, 2))) == [0, 0, 0]


def test_what_is_given_out_may_be_changed(store):
    recent = RecentPlanes()
    recent.read(store, sources(3, 2))[:] = 0
    assert levels(recent.read(store, sources(3, 2))) == [10, 20, 30]


def test_no_more_is_kept_than_may_be(store):
    recent = RecentPlanes(most_bytes=2 * SIDE * SIDE * 2)
    recent.read(store, sources(3, 2))
    file_of(store, 1).unlink()
    with pytest.raises(StoreError):
        recent.read(store, sources(2, 1))


def test_of_windows_of_one_time_point_nothing_is_kept(store):
    recent = RecentPlanes()
    recent.read(store, sources(3, 0))
    file_of(store, 3).unlink()
    with pytest.raises(StoreError):
        recent.read(store, sources(3, 0))


def test_depths_of_a_window_are_read_once_and_of_a_whole_stack_kept_nowhere(tmp_path):
    plan = StorePlan(
        n_t=1,
        n_z=5,
        height=SIDE,
        width=SIDE,
        pixel_size_um=0.1,
        channels=(ChannelPlan(name="bf", kind="raw", planned=(PlannedBlock(t=(0,), z=range(5)),)),),
    )
    with create_store(tmp_path / "stack.ome.zarr", plan) as store:
        for z in range(5):
            plane = np.full((SIDE, SIDE), 10 * z, np.uint16)
            store.write(PlaneIndex(0, 0, 0, z), plane).result(timeout=20)
        three = [Window(z=3).sources(PlaneIndex(0, 0, 1, z), 0, n_t=1, n_z=5) for z in range(5)]
        recent, whole = RecentPlanes(), RecentPlanes()
        assert levels(recent.read(store, three[1])) == [0, 10, 20]
        whole.read(store, three[1], whole_stack=True)
        (store.path / "0" / "c.0.0.2.0.0").unlink()
        assert levels(recent.read(store, three[2])) == [10, 20, 30]
        with pytest.raises(StoreError):
            whole.read(store, three[2], whole_stack=True)


def test_what_a_run_needs_is_kept_while_there_is_memory():
    assert bytes_to_keep(10, (64, 64)) == 2**27
    assert bytes_to_keep(40, (2048, 1024)) == 160 * 2**20  # 4 MiB a plane
    assert bytes_to_keep(10**9, (2048, 2048)) < 2**27 + psutil.virtual_memory().total // 8


def test_a_plane_that_is_not_there_is_told(store):
    with pytest.raises(StoreError):
        RecentPlanes().read(store, sources(N_T - 1, 2))
