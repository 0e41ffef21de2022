"""Pyramids give way to the camera, and come all the same."""

from __future__ import annotations

import time

import numpy as np
import pytest

from livestain.planes import PlaneIndex
from livestain.stain.backlog import Stamp
from livestain.stain.pyramids import Pyramids
from livestain.stain.share import Share
from livestain.store import ChannelPlan, PlannedBlock, StorePlan, create_store


@pytest.fixture
def store(tmp_path):
    planned = (PlannedBlock(t=range(3), z=(0,)),)
    plan = StorePlan(
        n_t=3,
        n_z=1,
        height=600,
        width=520,
        pixel_size_um=0.1,
        channels=(ChannelPlan(name="Brightfield", kind="raw", planned=planned),),
    )
    with create_store(tmp_path / "run.ome.zarr", plan) as opened:
        for index in plan.planned_indices(0):
            opened.write(index, np.full((600, 520), index.t + 1, np.uint16)).result()
        yield opened


def after(milliseconds):
    """The stamp of a plane that took so long to the disk."""
    return Stamp(0, round(milliseconds * 1e6))


def test_a_pyramid_rests_while_the_disk_is_behind_the_camera(store):
    pyramids = Pyramids(store, Share())
    index = PlaneIndex(0, 0, 0, 0)
    pyramids.arrived(index, after(3.0))
    assert pyramids.rest() == 0.0
    pyramids.arrived(index, after(500.0))
    # Until it has been quiet for a while, and not only for its own part of the time.
    assert 0.2 < pyramids.rest() <= 0.25
    pyramids.arrived(index, after(3.0))
    assert pyramids.rest() == 0.0


def test_all_pyramids_come_in_the_end(store):
    pyramids = Pyramids(store, Share())
    pyramids.scan()
    deadline = time.monotonic() + 20
    while len(pyramids) and time.monotonic() < deadline:
        if not pyramids.rest():
            assert pyramids.write_next() == ""
    assert store.levels_missing(0) == []
    for t in range(3):
        level = store.read(PlaneIndex(0, t, 0, 0), level=1)
        assert level.shape == (300, 260)
        assert (level == t + 1).all()
