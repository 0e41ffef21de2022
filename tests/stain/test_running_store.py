"""Running normalisation in a run: neither order nor holes nor repetition change a prediction."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from livestain.bundle import read_bundle
from livestain.planes import PlaneIndex
from livestain.restain import restain
from livestain.restain.verifying import verify_staining
from livestain.store import (
    ChannelPlan,
    PlannedBlock,
    StorePlan,
    VirtualPlan,
    WindowPlan,
    create_store,
    open_store,
    store_status,
)

N_T = 5
PAST = 2


def raw_planes():
    """Planes (t, y, x) of a lamp that drifts."""
    rng = np.random.default_rng(8)
    level = np.array([900, 1500, 1200, 3000, 2000]).reshape(N_T, 1, 1)
    return rng.normal(level, level / 9, (N_T, 64, 72)).astype(np.uint16)


def a_store(path, bundle, pixels, missing=()):
    model = read_bundle(bundle)
    (output,) = model.description.outputs
    every = (PlannedBlock(t=range(N_T), z=(0,)),)
    plan = StorePlan(
        n_t=N_T,
        n_z=1,
        height=64,
        width=72,
        pixel_size_um=0.1,
        channels=(
            ChannelPlan(name="Brightfield", kind="raw", planned=every),
            ChannelPlan(
                name="mitochondria",
                kind="virtual",
                planned=every,
                virtual=VirtualPlan(
                    source="Brightfield",
                    window=WindowPlan(past=PAST),
                    scale=output.scale,
                    offset=output.offset,
                    unit=output.unit,
                    bundle=model.name,
                    bundle_sha256=model.sha256,
                    output=output.name,
                ),
            ),
        ),
    )
    with create_store(path, plan) as store:
        for t in range(N_T):
            if t not in missing:
                store.write(PlaneIndex(0, t, 0, 0), pixels[t]).result(timeout=20)
    return path


@pytest.fixture
def bundle(bundle_of):
    return bundle_of(past=PAST, running=0)


def stained(path, bundle):
    report = restain(path, models={"mitochondria": str(bundle)}, device="cpu", worker="thread")
    with open_store(path) as store:
        there = {i.t: store.read_decoded(i) for i in store.present_indices() if i.c == 1}
    return report, there


def test_a_plane_is_predicted_from_its_own_and_statistics_of_the_earlier(tmp_path, bundle):
    """The oracle is the network alone on planes that numpy has normalised."""
    pixels = raw_planes()
    path = a_store(tmp_path / "run.ome.zarr", bundle, pixels)
    _, there = stained(path, bundle)
    network = read_bundle(bundle).load_module().network
    means, stds = pixels.mean((1, 2)), pixels.std((1, 2))
    for t in range(N_T):
        times = [max(t - k, 0) for k in range(PAST + 1)]
        x = (pixels[t] - means[times].mean()) / stds[times].mean()
        with torch.inference_mode():
            wanted = network(torch.from_numpy(x[None, None].astype(np.float32)))[0, 0].numpy()
        np.testing.assert_allclose(there[t], wanted, atol=0.002)
    verdict = verify_staining(path, models={"mitochondria": str(bundle)}, device="cpu")
    assert verdict.passed, verdict
    assert verdict.channels[0].identical == N_T


def test_what_has_a_hole_before_it_waits_for_it_and_is_then_the_same(tmp_path, bundle):
    """A statistic of what happens to be there already would give other predictions, silently."""
    pixels = raw_planes()
    whole = a_store(tmp_path / "whole.ome.zarr", bundle, pixels)
    _, wanted = stained(whole, bundle)
    path = a_store(tmp_path / "holed.ome.zarr", bundle, pixels, missing=(1,))
    _, there = stained(path, bundle)
    assert set(there) == {0, 4}, "t 1, 2 and 3 have the time point 1 in their windows"
    with open_store(path, mode="r+") as store:
        store.write(PlaneIndex(0, 1, 0, 0), pixels[1]).result(timeout=20)
    _, there = stained(path, bundle)
    assert store_status(path).virtual.owed == 0
    for t in range(N_T):
        np.testing.assert_array_equal(there[t], wanted[t])
