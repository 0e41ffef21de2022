"""The raw writer by itself: errors come at the next plane, also while a listener is busy."""

from __future__ import annotations

import shutil
import threading

import numpy as np
import pytest

from livestain.errors import StoreError
from livestain.live.recorder import Recorder
from livestain.planes import PlaneIndex
from livestain.store import (
    ChannelPlan,
    Journal,
    PlannedBlock,
    StorePlan,
    create_store,
    journal_path,
    read_journal,
)

SIDE = 32


@pytest.fixture
def parts(tmp_path):
    """A store for 200 planes and its journal."""
    plan = StorePlan(
        n_t=200,
        n_z=1,
        height=SIDE,
        width=SIDE,
        pixel_size_um=0.1,
        channels=(
            ChannelPlan(
                name="Brightfield", kind="raw", planned=(PlannedBlock(t=range(200), z=(0,)),)
            ),
        ),
    )
    path = tmp_path / "run.ome.zarr"
    with create_store(path, plan) as store, Journal(journal_path(path)) as journal:
        yield store, journal


def plane(t):
    return np.full((SIDE, SIDE), t, np.uint16)


def test_a_write_error_stops_the_run_while_a_listener_is_busy(parts):
    store, journal = parts
    busy, go_on, errors = threading.Event(), threading.Event(), []

    def listener(*_):
        busy.set()
        assert go_on.wait(60)

    recorder = Recorder(
        store,
        journal,
        max_bytes=4 * SIDE * SIDE * 2,
        on_committed=listener,
        on_error=errors.append,
    )
    try:
        recorder.record(PlaneIndex(0, 0, 0, 0), plane(0), {}, 0)
        assert busy.wait(60)
        shutil.rmtree(store.path / "0")
        (store.path / "0").write_bytes(b"")  # a folder can not be made there again
        taken = []

        def record_all():
            for t in range(1, 200):
                recorder.record(PlaneIndex(0, t, 0, 0), plane(t), {}, 0)
                taken.append(t)

        with pytest.raises(StoreError, match="Cannot write plane"):
            record_all()
        assert len(taken) <= 8, "no more than what the bound lets through"
        assert len(errors) == 1
    finally:
        go_on.set()
        recorder.close()


def test_every_plane_is_told_once_in_its_order(parts):
    store, journal = parts
    told = []
    recorder = Recorder(
        store,
        journal,
        max_bytes=2**20,
        on_committed=lambda index, *_: told.append(index.t),
        on_error=lambda error: pytest.fail(str(error)),
    )
    for t in range(200):
        recorder.record(PlaneIndex(0, t, 0, 0), plane(t), {"exposure_ms": 5.0}, 0)
    recorder.later(lambda: told.append("task"))
    recorder.close()
    assert told == [*range(200), "task"]
    lines = read_journal(journal_path(store.path))
    assert [line["index"][1] for line in lines] == list(range(200))
    assert store.present(0).all()
