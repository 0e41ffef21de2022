"""Virtual channels that are predicted from several raw channels at once."""

from __future__ import annotations

import numpy as np
import pytest
import useq
import zarr

from livestain.bundle import read_bundle
from livestain.errors import SequenceError, SettingsError
from livestain.inference import Stainer
from livestain.live.microscope import simulated_core
from livestain.live.plan import plan_run
from livestain.live.session import Session
from livestain.live.virtual import split_sequence
from livestain.planes import PlaneIndex
from livestain.store import open_store, store_status

BOTH = {"source": ["Brightfield", "Mitochondria"], "source_kind": ["brightfield", "fluorescence"]}
ROUNDING = 0.0011


@pytest.fixture
def core():
    core = simulated_core(5, shape=(48, 56))
    yield core
    core.unloadAllDevices()
    del core


def a_sequence(settings, z=3, channels=("Brightfield", "Mitochondria"), **second):
    return useq.MDASequence(
        axis_order="tpgcz",
        time_plan={"interval": 0, "loops": 2},
        z_plan={"range": 0.5 * (z - 1), "step": 0.5} if z > 1 else None,
        channels=[
            *(
                {"config": name, "exposure": 5, **(second if n else {})}
                for n, name in enumerate(channels)
            ),
            {"group": "Virtual", "config": "mitochondria"},
        ],
        metadata={"livestain": {"channels": {"mitochondria": settings}}},
    )


@pytest.mark.parametrize("lag", ["backfill", "lockstep"])
@pytest.mark.parametrize("z", [1, 3, "all"])
def test_planes_of_all_sources_go_into_one_prediction(core, bundle_of, tmp_path, z, lag):
    net = {"network": "care3d", "width": 8, "depth": 1} if z == "all" else {}
    bundle = bundle_of(z=z, more_kinds=("fluorescence",), **net)
    out = tmp_path / "run.ome.zarr"
    models = {"mitochondria": str(bundle)}
    sequence = a_sequence({**BOTH, "lag": lag})
    report = Session(core, sequence, out, models=models, device="cpu", worker="thread").run()
    assert (report.planes_acquired, report.planes_stained, report.planes_missing) == (12, 6, 0)
    raw = zarr.open(out, mode="r")["0"][:]
    depths = {
        1: lambda k: [k],
        3: lambda k: [max(k - 1, 0), k, min(k + 1, 2)],
        "all": lambda k: [0, 1, 2],
    }
    with open_store(out) as store, Stainer(read_bundle(bundle), device="cpu") as stainer:
        assert store.plan.channels[2].virtual.sources == ("Brightfield", "Mitochondria")
        for t in range(2):
            for k in range(3):
                planes = np.concatenate([raw[t, c, depths[z](k)] for c in (0, 1)])
                expected = stainer.stain(planes)[0]
                found = store.read_decoded(PlaneIndex(0, t, 2, k))
                np.testing.assert_allclose(
                    found, expected[k] if z == "all" else expected, atol=ROUNDING
                )
                other = stainer.stain(np.concatenate([raw[t, c, depths[z](k)] for c in (1, 0)]))[0]
                assert not np.allclose(expected, other, atol=0.01), "the order of sources matters"


def test_a_hole_in_either_source_is_a_hole_in_the_prediction(core, bundle_of, tmp_path):
    """Planned where both are; impossible where one was lost."""
    core.camera.drops = lambda scene: (
        scene.number == 4
    )  # of time point 0: z 1 of the second channel
    bundle = bundle_of(z=1, more_kinds=("fluorescence",))
    out = tmp_path / "run.ome.zarr"
    models = {"mitochondria": str(bundle)}
    sequence = a_sequence(BOTH, acquire_every=2)
    report = Session(core, sequence, out, models=models, device="cpu", worker="thread").run()
    assert (report.planes_acquired, report.planes_stained, report.planes_missing) == (8, 2, 2)
    with open_store(out) as store:
        assert store.present(2)[0].tolist() == [[True, False, True], [False] * 3]
        assert store.plan.planned(2)[0].tolist() == [[True] * 3, [False] * 3]
    assert store_status(out).virtual.reasons == {
        "a source plane never came: Mitochondria t 0 z 1": 1
    }


class TestChoosing:
    @pytest.fixture
    def sources(self, core, bundle_of):
        def choose(settings, kinds=("phase",), channels=("Brightfield", "Phase")):
            core.loadSystemConfiguration()
            for name in {*channels, "Phase"} - set(core.getAvailableConfigs("Channel")):
                core.defineConfig("Channel", name, "LED", "Label", "Closed")
            split = split_sequence(a_sequence(settings, z=1, channels=channels))
            models = {"mitochondria": str(bundle_of(z=1, more_kinds=kinds))}
            plan = plan_run(core, split, models=models, pixel_size_um=0.1)
            return plan.store.channels[-1].virtual.sources

        return choose

    def test_by_their_names(self, sources):
        assert sources({}) == ("Brightfield", "Phase")
        assert sources({}, channels=("Phase", "BF")) == ("BF", "Phase")
        assert sources({"source": "Brightfield"}) == ("Brightfield", "Phase")

    def test_by_the_settings(self, sources):
        named = {"source": ["Cy5", "Phase"], "source_kind": ["brightfield", "phase"]}
        assert sources(named, channels=("Cy5", "Phase")) == ("Cy5", "Phase")

    @pytest.mark.parametrize(
        ("settings", "channels", "message"),
        [
            ({}, ("Brightfield", "Cy5"), "None of the sequence's channels .* phase source"),
            ({"source": ["Brightfield", "DAPI"]}, ("Brightfield", "DAPI"), "is fluorescence"),
            (
                {"source": ["Brightfield", "Brightfield"]},
                ("Brightfield", "Phase"),
                "source number 2",
            ),
            ({"source": ["Brightfield", "Nothing"]}, ("Brightfield", "Phase"), "is not a channel"),
            (
                {"source": ["Brightfield", "Phase", "DAPI"]},
                ("Brightfield", "Phase"),
                r"looks at 2 channels \(brightfield, phase\).*Name as many",
            ),
        ],
    )
    def test_what_cannot_be(self, sources, settings, channels, message):
        with pytest.raises(SequenceError, match=message):
            sources(settings, channels=channels)

    def test_settings_of_another_kind(self):
        with pytest.raises(SettingsError, match="source_kind"):
            split_sequence(a_sequence({"source_kind": ["brightfield", "x-ray"]}))
