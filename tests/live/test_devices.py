"""The simulated and the replaying microscope, run by the real runner on the demo hardware."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest
import useq
from pymmcore_plus.core import SequencedEvent
from pymmcore_plus.mda import MDAEngine

from livestain.errors import MicroscopeError
from livestain.live.microscope import simulated_core
from livestain.planes import PlaneIndex
from livestain.simulate.light_dose import unbleached_from


def run(core, sequence, *, triggered):
    """Run a sequence; return (image, event, meta) of every frame and the runner's events."""
    core.mda.engine.use_hardware_sequencing = triggered
    frames, events = [], []

    def keep(image, event, meta):
        frames.append((image.copy(), event, meta))

    original = core.mda.engine.exec_event

    def watch(event):
        events.append(event)
        return original(event)

    core.mda.engine.exec_event = watch
    core.mda.events.frameReady.connect(keep)
    try:
        core.mda.run(sequence)
    finally:
        core.mda.events.frameReady.disconnect(keep)
        del core.mda.engine.exec_event
    return frames, events


def stack(**more):
    return useq.MDASequence(
        axis_order="tpcz",
        time_plan={"interval": 0, "loops": 2},
        stage_positions=[(12.0, -7.0, 0.2)],
        channels=[
            {"group": "Channel", "config": "Brightfield", "exposure": 8},
            {"group": "Channel", "config": "Mitochondria", "exposure": 60},
        ],
        z_plan={"range": 1.0, "step": 0.5},
        **more,
    )


@pytest.fixture
def core():
    core = simulated_core(5, shape=(48, 64), seconds_per_timepoint=30.0)
    yield core
    core.unloadAllDevices()
    del core


def again(core, event, meta):
    """Compute a frame from the sequence's plan and the camera's frame number alone."""
    camera = meta["camera_metadata"]
    x, y = float(camera["Dish-x_um"]), float(camera["Dish-y_um"])
    show, more = core.dish.brightfield, {}
    if event.index["c"]:
        show = core.dish.fluorescence
        more = {"unbleached": unbleached_from(camera["Dish-unbleached"], core.dish.shape)}
    return show(
        30.0 * event.index["t"],
        event.z_pos,
        (x, y),
        exposure_ms=event.exposure,
        frame=int(camera["Frame"]),
        **more,
    )


@pytest.mark.parametrize("triggered", [True, False])
def test_every_frame_is_the_dish_where_the_plan_says(core, triggered):
    frames, events = run(core, stack(), triggered=triggered)
    assert len(frames) == 12
    bursts = [len(e.events) for e in events if isinstance(e, SequencedEvent)]
    assert bursts == ([3] * 4 if triggered else [])
    for image, event, meta in frames:
        np.testing.assert_array_equal(image, again(core, event, meta))
        camera = meta["camera_metadata"]
        assert camera["Camera"] == "Dish"
        assert camera["ImageNumber"] == str(event.index["z"] if triggered else 0)
        assert float(camera["ElapsedTime-ms"]) >= 0
        assert float(camera["Dish-time_s"]) == 30.0 * event.index["t"]
        assert float(camera["Dish-z_um"]) == event.z_pos
        # The demo stage moves in steps of its own.
        assert float(camera["Dish-x_um"]) == pytest.approx(12.0, abs=0.02)
        assert float(camera["Dish-y_um"]) == pytest.approx(-7.0, abs=0.02)
        assert float(camera["Exposure-ms"]) == meta["exposure_ms"] == event.exposure


def test_truth_is_known_of_every_plane_of_the_run(core):
    run(core, stack(), triggered=True)
    place = core.camera.places[0, 1, 2]
    assert place[:2] == (30.0, pytest.approx(0.7))
    truth = core.truth("mitochondria", PlaneIndex(0, 1, 7, 2))
    np.testing.assert_array_equal(truth, core.dish.truth(*place[:3]))
    assert core.truth("mitochondria", PlaneIndex(0, 2, 0, 0)) is None
    assert core.truth("nuclei", PlaneIndex(0, 1, 0, 2)) is None


def test_two_microscopes_of_one_seed_give_one_run():
    given = []
    for _ in range(2):
        core = simulated_core(8, shape=(40, 40))
        given.append([image for image, _, _ in run(core, stack(), triggered=True)[0]])
        del core
    np.testing.assert_array_equal(given[0], given[1])


def test_presets_are_real_states_of_real_devices(core):
    assert core.getCurrentConfig("Channel") == "Brightfield"
    core.setConfig("Channel", "Mitochondria")
    assert core.getCurrentConfig("Channel") == "Mitochondria"
    assert core.getProperty("LED", "Label") == "470nm"
    assert core.getShutterDevice() == "LED Shutter"
    core.setConfig("Channel", "Brightfield")
    assert core.getProperty("LED", "Label") == "Closed"
    assert core.getShutterDevice() == "White Light Shutter"
    assert {"FITC", "DAPI", "Cy5", "Rhodamine"} < set(core.getAvailableConfigs("Channel"))


def test_light_of_another_colour_shows_nothing(core):
    core.setConfig("Channel", "Cy5")
    core.snapImage()
    assert core.getImage().mean() == pytest.approx(100, abs=1)


def test_pixel_size_is_that_of_the_one_objective(core):
    assert core.getPixelSizeUm() == pytest.approx(0.1)
    core.setProperty("Objective", "State", "0")
    assert core.getPixelSizeUm() == 0.0


def test_snaps_outside_a_run_follow_the_stages(core):
    def snap(x, z):
        core.setXYPosition(x, 0.0)
        core.setPosition(z)
        core.waitForSystem()
        core.snapImage()
        return core.getImage(), core.camera.last_metadata

    image, camera = snap(0.0, 0.0)
    assert image.shape == (48, 64)
    assert image.dtype == np.uint16
    assert camera["Dish-channel"] == "brightfield"
    far, elsewhere = snap(5.0, 0.5)
    assert float(elsewhere["Dish-x_um"]) == pytest.approx(5.0, abs=0.02)
    assert float(elsewhere["Dish-z_um"]) == 0.5
    assert not np.array_equal(far, image)


def test_outside_a_run_the_dish_ages_with_the_clock(monkeypatch):
    core = simulated_core(1, shape=(32, 32), time_scale=10.0)
    now = [core.camera._born + 3.0]
    monkeypatch.setattr("livestain.live.dish_camera.time.perf_counter", lambda: now[0])
    core.snapImage()
    assert float(core.camera.last_metadata["Dish-time_s"]) == pytest.approx(30.0)
    del core


def test_region_of_interest_crops_frame_and_truth(core):
    core.setROI(8, 4, 32, 16)
    frames, _ = run(core, stack(), triggered=True)
    for image, event, meta in frames:
        np.testing.assert_array_equal(image, again(core, event, meta)[4:20, 8:40])
    truth = core.truth("Mitochondria", PlaneIndex(0, 0, 0, 0))
    assert truth.shape == (16, 32)
    with pytest.raises(MicroscopeError, match="64 x 48 pixels; choose a smaller"):
        core.setROI(60, 0, 32, 32)
    core.clearROI()
    assert core.getImageWidth() == 64


def test_live_view_follows_the_focus(core, monkeypatch):
    started, moved = threading.Event(), threading.Event()
    show = core.camera.show

    def watched(scene):
        (moved if scene.z_um == 1.0 else started).set()
        return show(scene)

    monkeypatch.setattr(core.camera, "show", watched)
    core.startContinuousSequenceAcquisition(0)
    assert started.wait(10)
    core.setPosition(1.0)
    assert moved.wait(10)
    core.stopSequenceAcquisition("Dish")
    assert not core.isSequenceRunning()
    _, first = core.popNextImageAndMD()
    assert float(first["Dish-z_um"]) == 0.0


def test_works_with_the_plain_engine_of_pymmcore_plus(core):
    core.mda.set_engine(MDAEngine(core))
    frames, _ = run(core, stack(), triggered=True)
    assert len(frames) == 12
    for _, event, meta in frames:
        assert float(meta["camera_metadata"]["Dish-z_um"]) == event.z_pos
        assert float(meta["camera_metadata"]["Dish-time_s"]) < 30.0


def test_live_engine_leaves_other_cameras_alone(core):
    core.setCameraDevice("Camera")
    frames, _ = run(core, stack(), triggered=False)
    assert len(frames) == 12
    assert all("camera_metadata" not in meta for _, _, meta in frames)


def test_script_that_keeps_its_core_ends_without_an_abort():
    script = (
        "from livestain.live.microscope import simulated_core\n"
        "core = simulated_core(0, shape=(32, 32))\n"
        "core.setXYPosition(100.0, 0.0)\n"
        "core.snapImage()\n"
    )
    # It was one exit in three.
    ended = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, check=False).returncode
        for _ in range(4)
    ]
    assert ended == [0] * 4
