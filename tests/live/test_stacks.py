"""3-D networks in whole runs: stacks stained at once, and time as the third dimension."""

from __future__ import annotations

import numpy as np
import pytest
import useq
import zarr

from livestain.bundle import read_bundle
from livestain.errors import BundleError, SequenceError
from livestain.inference import Stainer
from livestain.live.microscope import simulated_core
from livestain.live.plan import plan_run
from livestain.live.session import Session
from livestain.live.virtual import split_sequence
from livestain.planes import PlaneIndex
from livestain.store import journal_path, open_store, read_journal

STACK = {"network": "care3d", "width": 4, "depth": 1, "z": "all"}
# Raw counts as stored are steps of 0.001, which is what half of this forgives.
ROUNDING = 0.0011


@pytest.fixture
def core():
    core = simulated_core(8, shape=(64, 72))
    yield core
    core.unloadAllDevices()
    del core


def a_sequence(t=3, z=5, step=0.5, virtual=None, **settings):
    return useq.MDASequence(
        axis_order="tpgcz",
        time_plan={"interval": 0, "loops": t},
        z_plan={"range": step * (z - 1), "step": step} if z > 1 else None,
        channels=[
            {"group": "Channel", "config": "Brightfield", "exposure": 5},
            {"group": "Virtual", "config": "mitochondria", **(virtual or {})},
        ],
        metadata={"livestain": {"channels": {"mitochondria": settings} if settings else {}}},
    )


def predicted(out):
    """The predictions of a run, (t, z, y, x), in the output's unit."""
    with open_store(out) as store:
        there = store.present(1)[0]
        return {
            (t, z): store.read_decoded(PlaneIndex(0, t, 1, z))
            for t, z in zip(*map(np.ndarray.tolist, there.nonzero()), strict=True)
        }


def run(core, sequence, out, bundle, **options):
    models = {"mitochondria": str(bundle)}
    return Session(core, sequence, out, models=models, device="cpu", **options).run()


@pytest.mark.parametrize("lag", ["backfill", "lockstep"])
def test_a_stack_is_predicted_once_and_every_plane_of_it_written(core, bundle_of, tmp_path, lag):
    """Five planes, which is no multiple of what the network takes."""
    bundle = bundle_of(**STACK)
    out = tmp_path / "run.ome.zarr"
    report = run(core, a_sequence(lag=lag), out, bundle)
    assert (report.planes_acquired, report.planes_stained, report.planes_missing) == (15, 15, 0)
    raw = zarr.open(out, mode="r")["0"][:, 0]
    found = predicted(out)
    assert len(found) == 15
    with Stainer(read_bundle(bundle), device="cpu") as stainer:
        for t in range(3):
            expected = stainer.stain(raw[t])[0]
            assert expected.shape == (5, 64, 72)
            for z in range(5):
                np.testing.assert_allclose(found[t, z], expected[z], atol=ROUNDING)
            # Planes differ, so that one in another's place would be seen.
            assert np.abs(expected[1] - expected[2]).max() > 0.01
    lines = [line for line in read_journal(journal_path(out)) if line["kind"] == "stained"]
    assert sorted(tuple(line["index"]) for line in lines) == [
        (0, t, 1, z) for t in range(3) for z in range(5)
    ]
    for t in range(3):
        own = [line["latency_ms"] for line in lines if line["index"][1] == t]
        assert len({stages["model"] for stages in own}) == 1, "one prediction for the stack"
        for stages in own:
            parts = sum(ms for name, ms in stages.items() if name != "total")
            assert stages["total"] == pytest.approx(parts, abs=0.01)
        assert sorted(stages["total"] for stages in own) == [stages["total"] for stages in own]


def test_of_a_stack_only_the_planes_asked_for_are_written(core, bundle_of, tmp_path):
    out = tmp_path / "run.ome.zarr"
    bundle = bundle_of(**STACK)
    report = run(core, a_sequence(t=2, virtual={"do_stack": False}), out, bundle)
    assert (report.planes_acquired, report.planes_stained, report.planes_missing) == (10, 2, 0)
    raw = zarr.open(out, mode="r")["0"][:, 0]
    with Stainer(read_bundle(bundle), device="cpu") as stainer:
        found = predicted(out)
        assert sorted(found) == [(0, 2), (1, 2)]
        np.testing.assert_allclose(found[1, 2], stainer.stain(raw[1])[0, 2], atol=ROUNDING)


def test_another_z_step_within_the_range_is_resampled_and_recorded(core, bundle_of, tmp_path):
    bundle = bundle_of(**STACK, z_step_range_um=(0.2, 1.0))
    out = tmp_path / "run.ome.zarr"
    report = run(core, a_sequence(t=1, step=0.25), out, bundle)
    assert (report.planes_stained, report.planes_missing) == (5, 0)
    assert report.models[0]["resampled_z"] == pytest.approx(0.5)
    raw = zarr.open(out, mode="r")["0"][:, 0]
    with Stainer(read_bundle(bundle), device="cpu", z_step_um=0.25) as stainer:
        expected = stainer.stain(raw[0])[0]
    for (_, z), plane in predicted(out).items():
        np.testing.assert_allclose(plane, expected[z], atol=ROUNDING)


def test_time_is_the_third_dimension_of_a_network_with_past_and_future(core, bundle_of, tmp_path):
    """XYT: three time points for a network that takes multiples of two."""
    bundle = bundle_of(network="care3d", width=4, depth=1, past=1, future=1)
    out = tmp_path / "run.ome.zarr"
    report = run(core, a_sequence(t=4, z=1), out, bundle)
    assert (report.planes_acquired, report.planes_stained, report.planes_missing) == (4, 4, 0)
    raw = zarr.open(out, mode="r")["0"][:, 0, 0]
    found = predicted(out)
    with Stainer(read_bundle(bundle), device="cpu") as stainer:
        for t, window in enumerate(((0, 0, 1), (0, 1, 2), (1, 2, 3), (2, 3, 3))):
            expected = stainer.stain(raw[list(window)])
            assert expected.shape == (1, 64, 72)
            np.testing.assert_allclose(found[t, 0], expected[0], atol=ROUNDING)
            swapped = stainer.stain(raw[list(window)[::-1]])[0]
            assert np.abs(found[t, 0] - swapped).max() > 3 * ROUNDING


class TestRefused:
    @pytest.fixture
    def plan(self, core):
        def make(sequence, bundle):
            return plan_run(core, split_sequence(sequence), models={"mitochondria": str(bundle)})

        return make

    def test_a_sequence_without_a_stack(self, plan, bundle_of):
        with pytest.raises(
            BundleError, match=r"no z-stack, but the model needs a whole stack\. Give"
        ):
            plan(a_sequence(z=1), bundle_of(**STACK))

    def test_planes_that_are_not_evenly_spaced(self, plan, bundle_of):
        uneven = a_sequence().replace(z_plan={"absolute": [0, 0.5, 2.0]})
        with pytest.raises(SequenceError, match="not evenly spaced"):
            plan(uneven, bundle_of(**STACK))

    @pytest.mark.parametrize(
        ("range_um", "takes"), [(None, "10% either way"), ((0.4, 1.2), r"0\.4 to 1\.2 um")]
    )
    def test_another_z_step(self, plan, bundle_of, range_um, takes):
        spec = {} if range_um is None else {"z_step_range_um": range_um}
        with pytest.raises(BundleError, match=rf"z-step is 0\.25 um.*at 0\.5 um and takes {takes}"):
            plan(a_sequence(step=0.25), bundle_of(**STACK, **spec))

    def test_a_stack_of_another_depth_than_a_model_of_fixed_depth_takes(self, plan, bundle_of):
        bundle = bundle_of(**STACK, stack_depth=8)
        assert plan(a_sequence(z=8), bundle).store.n_z == 8
        with pytest.raises(BundleError, match="5 z-planes, but the model needs a whole stack of 8"):
            plan(a_sequence(z=5), bundle)
