"""Models that look at several planes, and the lag policies, in whole runs."""

from __future__ import annotations

import numpy as np
import pytest
import useq
import zarr

from livestain.bundle import read_bundle
from livestain.inference import Stainer
from livestain.live.microscope import simulated_core
from livestain.live.session import Session
from livestain.planes import PlaneIndex
from livestain.store import journal_path, open_store, read_journal, store_status


@pytest.fixture
def core():
    core = simulated_core(6, shape=(64, 72))
    yield core
    core.unloadAllDevices()
    del core


def a_sequence(t=2, z=4, **settings):
    channels = {"mitochondria": settings} if settings else {}
    return useq.MDASequence(
        axis_order="tpgcz",
        time_plan={"interval": 0, "loops": t},
        z_plan={"range": 0.5 * (z - 1), "step": 0.5} if z > 1 else None,
        channels=[
            {"group": "Channel", "config": "Brightfield", "exposure": 5},
            {"group": "Virtual", "config": "mitochondria"},
        ],
        metadata={"livestain": {"channels": channels}},
    )


@pytest.mark.parametrize("lag", ["backfill", "lockstep"])
def test_a_window_over_depths_repeats_the_stacks_edges(core, bundle_of, tmp_path, lag):
    bundle = bundle_of(z=3)
    out = tmp_path / "run.ome.zarr"
    models = {"mitochondria": str(bundle)}
    report = Session(core, a_sequence(lag=lag), out, models=models, device="cpu").run()
    assert (report.planes_acquired, report.planes_stained, report.planes_missing) == (8, 8, 0)
    raw = zarr.open(out, mode="r")["0"][:, 0]
    with open_store(out) as store, Stainer(read_bundle(bundle), device="cpu") as stainer:
        for t in range(2):
            padded = np.concatenate([raw[t, :1], raw[t], raw[t, -1:]])
            for z in range(4):
                expected = stainer.stain(padded[z : z + 3])[0]
                got = store.read_decoded(PlaneIndex(0, t, 1, z))
                np.testing.assert_allclose(got, expected, atol=0.0011)
                # The window's order matters to this network, so that a swap would be seen.
                swapped = stainer.stain(padded[z : z + 3][::-1])[0]
                assert np.abs(got - swapped).max() > 0.01


def test_a_window_into_the_future_is_stained_one_time_point_late(core, bundle_of, tmp_path):
    bundle = bundle_of(future=1)
    out = tmp_path / "run.ome.zarr"
    session = Session(
        core, a_sequence(t=3, z=1), out, models={"mitochondria": str(bundle)}, device="cpu"
    )
    report = session.run()
    assert (report.planes_stained, report.planes_missing) == (3, 0)
    raw = zarr.open(out, mode="r")["0"][:, 0, 0]
    with open_store(out) as store, Stainer(read_bundle(bundle), device="cpu") as stainer:
        for t, later in enumerate((1, 2, 2)):  # the last time point's future is itself
            expected = stainer.stain(np.stack([raw[t], raw[later]]))[0]
            got = store.read_decoded(PlaneIndex(0, t, 1, 0))
            np.testing.assert_allclose(got, expected, atol=0.0011)


def test_two_models_stain_one_source(core, bundle_of, tmp_path):
    out = tmp_path / "run.ome.zarr"
    flat, deep = bundle_of(), bundle_of(z=3)
    sequence = useq.MDASequence(
        axis_order="tpgcz",
        time_plan={"interval": 0, "loops": 2},
        z_plan={"range": 1.0, "step": 0.5},
        channels=[
            {"group": "Channel", "config": "Brightfield", "exposure": 5},
            {"group": "Virtual", "config": "flat"},
            {"group": "Virtual", "config": "deep", "do_stack": False},
        ],
        metadata={
            "livestain": {
                "channels": {
                    "flat": {"bundle": str(flat), "output": "mitochondria"},
                    "deep": {"bundle": str(deep), "output": "mitochondria"},
                }
            }
        },
    )
    report = Session(core, sequence, out, device="cpu").run()
    assert (report.planes_acquired, report.planes_stained, report.planes_missing) == (6, 8, 0)
    assert [m["channel"] for m in report.models] == ["flat", "deep"]
    with open_store(out) as store:
        assert store.present(1).all()
        np.testing.assert_array_equal(store.present(2)[0], [[False, True, False]] * 2)
        with Stainer(read_bundle(deep), device="cpu") as stainer:
            stack = np.stack([store.read(PlaneIndex(0, 1, 0, z)) for z in range(3)])
            got = store.read_decoded(PlaneIndex(0, 1, 2, 1))
            np.testing.assert_allclose(got, stainer.stain(stack)[0], atol=0.0011)


def test_live_only_gives_up_what_it_cannot_keep_up_with_and_says_so(core, bundle_of, tmp_path):
    out = tmp_path / "run.ome.zarr"
    slow = bundle_of(width=32, depth=3)
    session = Session(
        core,
        a_sequence(t=60, z=1, lag="live-only"),
        out,
        models={"mitochondria": str(slow)},
        device="cpu",
        threads=1,
    )
    report = session.run()
    status = store_status(out)
    assert report.planes_acquired == 60
    assert report.planes_missing == 0, "what a lag policy skipped is done"
    assert report.planes_skipped == status.skipped > 0
    assert report.planes_stained + report.planes_skipped == 60
    assert status.owed == 0
    with open_store(out) as store:
        assert store.is_present(PlaneIndex(0, 59, 1, 0)), "the newest is never given up"
        skipped = {
            tuple(line["index"])
            for line in read_journal(journal_path(out))
            if line["kind"] == "skipped"
        }
        there = {(0, int(t), 1, 0) for t in np.flatnonzero(store.present(1)[0, :, 0])}
    assert skipped | there == {(0, t, 1, 0) for t in range(60)}
    assert not skipped & there


def test_a_microscope_of_another_pixel_size_is_resampled(core, bundle_of, tmp_path):
    bundle = bundle_of()
    out = tmp_path / "run.ome.zarr"
    session = Session(
        core,
        a_sequence(t=1, z=1),
        out,
        models={"mitochondria": str(bundle)},
        pixel_size_um=0.115,
        device="cpu",
    )
    assert session.run().planes_missing == 0
    with open_store(out) as store:
        assert store.plan.pixel_size_um == 0.115
        with Stainer(read_bundle(bundle), device="cpu", pixel_size_um=0.115) as stainer:
            expected = stainer.stain(store.read(PlaneIndex(0, 0, 0, 0))[None])[0]
        got = store.read_decoded(PlaneIndex(0, 0, 1, 0))
        np.testing.assert_allclose(got, expected, atol=0.0011)
