"""Runs on a plain core with Micro-Manager's own C++ DemoCamera: nothing of ours in the microscope."""

from __future__ import annotations

import numpy as np
import pytest
import useq
import zarr
from pymmcore_plus import CMMCorePlus

from livestain.bundle import read_bundle
from livestain.inference import Stainer
from livestain.live.session import Session
from livestain.planes import PlaneIndex
from livestain.store import open_store


@pytest.fixture
def core():
    core = CMMCorePlus()
    core.loadSystemConfiguration()
    core.setProperty("Camera", "OnCameraCCDXSize", "160")
    core.setProperty("Camera", "OnCameraCCDYSize", "128")
    core.setProperty("Z", "UseSequences", "Yes")
    yield core
    core.unloadAllDevices()
    del core


def a_sequence(loops=3):
    return useq.MDASequence(
        axis_order="tpgcz",
        time_plan={"interval": 0, "loops": loops},
        z_plan={"range": 1.0, "step": 0.5},
        channels=[
            {"group": "Channel", "config": "Cy5", "exposure": 4},
            {"group": "Channel", "config": "FITC", "exposure": 4, "do_stack": False},
            {"group": "Virtual", "config": "mitochondria"},
        ],
        metadata={
            "livestain": {
                "channels": {"mitochondria": {"source": "Cy5", "source_kind": "brightfield"}}
            }
        },
    )


@pytest.mark.parametrize(
    ("triggered", "pixel_type"), [(True, "16bit"), (False, "16bit"), (True, "8bit")]
)
def test_raw_planes_are_what_the_camera_gave(core, bundle_of, tmp_path, triggered, pixel_type):
    core.setProperty("Camera", "PixelType", pixel_type)
    core.mda.engine.use_hardware_sequencing = triggered
    # The demo objective says 1 um a pixel.
    bundle = bundle_of(pixel_size_um=1.0, pixel_size_range_um=(0.9, 1.1))
    out = tmp_path / "run.ome.zarr"
    frames, bursts = {}, set()

    def keep(image, event, meta):
        index = event.index
        frames[index["t"], index["c"], index["z"]] = np.array(image)
        bursts.add(bool(meta.get("hardware_triggered")))

    core.mda.events.frameReady.connect(keep)
    models = {"mitochondria": str(bundle)}
    engine, shutter = core.mda.engine, core.getAutoShutter()
    report = Session(core, a_sequence(), out, models=models, device="cpu").run()
    core.mda.events.frameReady.disconnect(keep)
    assert (report.planes_acquired, report.planes_stained, report.planes_missing) == (12, 9, 0)
    # Stacks are bursts, where they may be; the single planes of the other channel never are.
    assert bursts == ({True, False} if triggered else {False})
    assert core.mda.engine is engine, "the microscope stays as it is"
    assert core.getAutoShutter() == shutter

    array = zarr.open(out, mode="r")["0"]
    assert len(frames) == 12
    for (t, c, z), frame in frames.items():
        assert frame.dtype == (np.uint16 if pixel_type == "16bit" else np.uint8)
        np.testing.assert_array_equal(array[t, c, z], frame)
    distinct = {frame.tobytes() for frame in frames.values()}
    assert len(distinct) > 6, "the demo camera's picture moves, so that a mix-up would show"
    with open_store(out) as store, Stainer(read_bundle(bundle), device="cpu") as stainer:
        place = PlaneIndex(0, 1, 2, 2)
        expected = stainer.stain(frames[1, 0, 2].astype(np.uint16)[None])[0]
        np.testing.assert_allclose(store.read_decoded(place), expected, atol=0.0011)
