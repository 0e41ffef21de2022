"""Planes that windows share are read once, and no more of them is kept than may be."""

from __future__ import annotations

import numpy as np
import pytest

from livestain.errors import StoreError
from livestain.planes import PlaneIndex, Window
from livestain.stain.recent import RecentPlanes
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


def test_a_plane_that_is_not_there_is_told(store):
    with pytest.raises(StoreError):
        RecentPlanes().read(store, sources(N_T - 1, 2))
