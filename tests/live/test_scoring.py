"""Scores of a run: which planes, and how sure, with crops of one frame not taken for independent."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from livestain.bundle import find_bundle
from livestain.inference import Stainer
from livestain.live.microscope import replay_core, simulated_core
from livestain.live.scoring import ChannelScore, frames_of, score_store
from livestain.planes import PlaneIndex
from livestain.store import ChannelPlan, PlannedBlock, StorePlan, VirtualPlan, create_store
from livestain.training import evaluate_bundle

NAMES = ("t000_z000_00", "t000_z000_01", "t003_z000_00", "t003_z001_02")


@pytest.fixture
def movie(tmp_path):
    rng = np.random.default_rng(0)
    for channel in ("brightfield", "mitochondria"):
        folder = tmp_path / "movie" / channel
        folder.mkdir(parents=True)
        for name in NAMES:
            Image.fromarray(rng.integers(0, 256, (32, 32), np.uint8)).save(folder / f"{name}.png")
    return tmp_path / "movie"


def make_store(path, *, n_t, n_z, side, scale=0.001, offset=-20.0):
    block = (PlannedBlock(t=range(n_t), z=range(n_z)),)
    virtual = VirtualPlan(
        source="Brightfield",
        scale=scale,
        offset=offset,
        unit="sd",
        bundle="demo",
        bundle_sha256="0" * 64,
        output="mitochondria",
    )
    plan = StorePlan(
        n_t=n_t,
        n_z=n_z,
        height=side,
        width=side,
        pixel_size_um=0.1,
        z_step_um=0.5,
        channels=(
            ChannelPlan(name="Brightfield", kind="raw", planned=block),
            ChannelPlan(name="mitochondria", kind="virtual", planned=block, virtual=virtual),
        ),
    )
    return create_store(path, plan)


@pytest.fixture
def store(tmp_path):
    """Two time points of two depths, predicted in part."""
    rng = np.random.default_rng(1)
    with make_store(tmp_path / "run.ome.zarr", n_t=2, n_z=2, side=16) as opened:
        for t, z in ((0, 0), (0, 1), (1, 0)):
            opened.write(PlaneIndex(0, t, 0, z), rng.integers(0, 999, (16, 16), np.uint16)).result(
                timeout=20
            )
            opened.write_virtual(PlaneIndex(0, t, 1, z), rng.normal(size=(16, 16)))
        yield opened


def truth(channel, index):
    return np.random.default_rng(index).normal(size=(16, 16)) if channel == "mitochondria" else None


def test_planes_of_one_time_point_are_one_frame(store):
    (score,) = score_store(store, truth).values()
    assert score.planes == [PlaneIndex(0, t, 1, z) for t, z in ((0, 0), (0, 1), (1, 0))]
    assert score.frames == [(0, 0), (0, 0), (0, 1)]


def test_the_frame_may_be_told(store):
    (score,) = score_store(store, truth, frame_of=lambda index: "one").values()
    assert score.frames == ["one"] * 3
    mean = pytest.approx(np.mean(score.pearson))
    assert score.intervals()["pearson"] == (mean, mean)


def test_the_frame_of_a_replayed_file_is_in_its_name(movie):
    frame_of = frames_of(replay_core(movie, pixel_size_um=0.1))
    labels = [frame_of(PlaneIndex(0, t, 2, 0)) for t in range(len(NAMES))]
    assert labels == ["t000_z000", "t000_z000", "t003_z000", "t003_z001"]


def test_the_frame_of_any_other_run_is_its_time_point(store):
    store.close()
    for core in (simulated_core(), replay_core(store.path)):
        frame_of = frames_of(core)
        assert [frame_of(PlaneIndex(0, t, 1, z)) for t in range(2) for z in range(2)] == [
            (0, 0),
            (0, 0),
            (0, 1),
            (0, 1),
        ]


def test_a_replayed_movie_has_the_scores_and_intervals_of_evaluate(movie, tiny_bundle, tmp_path):
    core = replay_core(movie, pixel_size_um=0.1)
    # Random weights predict next to nothing: finely encoded, or rounding would be what is scored.
    fine = {"scale": 1e-6, "offset": -0.28}
    with (
        make_store(tmp_path / "run.ome.zarr", n_t=len(NAMES), n_z=1, side=32, **fine) as store,
        Stainer(find_bundle(tiny_bundle), device="cpu") as stainer,
    ):
        for t in range(len(NAMES)):
            plane = core.source.plane("Brightfield", t)
            store.write(PlaneIndex(0, t, 0, 0), plane).result(timeout=20)
            store.write_virtual(PlaneIndex(0, t, 1, 0), stainer.stain(plane[None])[0])
        (live,) = score_store(store, core.truth, frame_of=frames_of(core)).values()
    found = evaluate_bundle(tiny_bundle, movie, device="cpu")
    assert np.mean(live.pearson) == pytest.approx(found.pearson, abs=1e-4)
    assert live.intervals()["pearson"] == pytest.approx(found.interval, abs=1e-4)
    assert live.intervals()["gain"] == pytest.approx(found.gain_interval, abs=1e-4)
    (scored,) = found.by_movie.values()
    assert scored.frames == len(set(live.frames)) == 3


def test_copies_of_one_frame_make_nothing_surer():
    values = np.random.default_rng(3).normal(0.6, 0.1, 8)
    once = ChannelScore(pearson=list(values), control=[0.1] * 8, frames=list(range(8)))
    often = ChannelScore(
        pearson=list(np.repeat(values, 5)), control=[0.1] * 40, frames=list(np.repeat(range(8), 5))
    )
    assert often.intervals()["pearson"] == pytest.approx(once.intervals()["pearson"])
    low, high = once.intervals()["pearson"]
    assert once.intervals()["gain"] == pytest.approx((low - 0.1, high - 0.1))
