"""What the simulated camera follows, in snaps and in triggered bursts alike, and what goes wrong."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest
import useq
from pymmcore_plus.core import SequencedEvent

from livestain.errors import LivestainError, MicroscopeError
from livestain.live.microscope import simulated_core
from livestain.live.session import Session
from livestain.metrics import pearson
from livestain.planes import PlaneIndex
from livestain.simulate import Dish, find_profile
from livestain.simulate.faults import Bubble, Faults, LampDrop
from livestain.simulate.light_dose import unbleached_from
from livestain.store import journal_path, open_store, read_journal

SHAPE = (48, 64)
T, Z = 2, 3
COUNTS = {"ElapsedTime-ms", "ImageNumber", "livestain-FrameNr"}
BRIGHTFIELD = {"group": "Channel", "config": "Brightfield", "exposure": 8}
MITOCHONDRIA = {"group": "Channel", "config": "Mitochondria", "exposure": 60}
DNA = {"group": "Channel", "config": "DNA", "exposure": 40}


@pytest.fixture(scope="module")
def dish():
    """One dish for all cores here: what is known of its cells is found once."""
    return Dish(5, shape=SHAPE)


@pytest.fixture
def new_core(dish):
    cores = []

    def new(triggered=True, **settings):
        cores.append(simulated_core(dish=dish, **settings))
        cores[-1].mda.engine.use_hardware_sequencing = triggered
        return cores[-1]

    yield new
    while cores:
        cores.pop().unloadAllDevices()


def a_sequence(*channels, t=T, z=Z, **more):
    return useq.MDASequence(
        axis_order="tpcz",
        time_plan={"interval": 0, "loops": t},
        channels=list(channels or (BRIGHTFIELD, MITOCHONDRIA, DNA)),
        z_plan={"range": 0.5 * (z - 1), "step": 0.5} if z > 1 else None,
        **more,
    )


def run(core, sequence):
    """Run a sequence; return (image, event, camera's metadata) of every frame."""
    frames, bursts = [], []

    def keep(image, event, meta):
        frames.append((image.copy(), event, meta["camera_metadata"]))

    original = core.mda.engine.exec_event

    def watch(event):
        bursts.append(isinstance(event, SequencedEvent))
        return original(event)

    core.mda.engine.exec_event = watch
    core.mda.events.frameReady.connect(keep)
    try:
        core.mda.run(sequence)
    finally:
        core.mda.events.frameReady.disconnect(keep)
        del core.mda.engine.exec_event
    assert all(bursts) == any(bursts) == core.mda.engine.use_hardware_sequencing
    return frames


def again(core, camera, exposure_ms, faults=None):
    """Compute a frame from its metadata alone, and the settings of the camera."""
    assert camera["Frame"] == camera["Dish-frame"]
    dish = core.dish
    place = [float(camera[f"Dish-{axis}"]) for axis in ("time_s", "z_um", "x_um", "y_um")]
    how = {
        "frame": int(camera["Frame"]),
        "exposure_ms": exposure_ms,
        "binning": core.camera.binning,
    }
    if camera["Dish-channel"] == "dark":
        return core.camera.crop(dish.dark(**how))
    lamp = float(camera["Dish-lamp"])
    if camera["Dish-channel"] == "brightfield":
        if "Dish-bubble" in camera:
            lamp = faults.shadow(how["frame"], dish.shape) * np.float32(lamp)
        image = dish.brightfield(place[0], place[1], tuple(place[2:]), lamp=lamp, **how)
    else:
        share = unbleached_from(camera["Dish-unbleached"], dish.shape)
        image = dish.fluorescence(
            *(place[0], place[1], tuple(place[2:])),
            label=camera["Dish-label"],
            lamp=lamp,
            unbleached=share,
            **how,
        )
    return core.camera.crop(image)


EVERY_FAULT = Faults(
    focus_drift_um_per_min=3.0,
    stage_jitter_um=0.2,
    flicker=0.1,
    lamp_drop=LampDrop(frame=9, remaining=0.5),
    bubble=Bubble(frame=2, frames=9),
    slow_readout_ms=1.0,
)


@pytest.mark.parametrize(
    ("properties", "more"),
    [
        ({}, {}),
        ({"Dish.Binning": 2}, {}),
        ({"Dish.BitDepth": 8}, {}),
        ({"Dish.BitDepth": 12, "Dish.Gain": 0.2, "Dish.Offset": 50, "Dish.ReadNoise": 3.0}, {}),
        ({"Dish.Binning": 2, "roi": (4, 8, 16, 12)}, {}),
        ({"Objective.Label": "Simulated 100x"}, {}),
        ({"Objective.Label": "Objective-2"}, {}),
        ({"Core.AutoShutter": 0}, {}),
        ({}, {"stage_positions": [(1.0, 2.0, 0.0), (4.0, 2.0, 0.0)]}),
        ({"faults": EVERY_FAULT}, {}),
    ],
    ids=lambda value: " ".join(map(str, value)) or "-",
)
def test_snaps_and_bursts_give_the_same_pixels_and_metadata(new_core, properties, more):
    """Both can be computed again from the metadata, and the settings that were asked for alone."""
    given = []
    faults = properties.get("faults")
    for triggered in (True, False):
        core = new_core(triggered, faults=faults)
        for name, value in properties.items():
            if "." in name:
                core.setProperty(*name.split("."), value)
        if "Core.AutoShutter" in properties:
            for shutter in ("White Light Shutter", "LED Shutter"):
                core.setShutterOpen(shutter, False)
        if "roi" in properties:
            core.setROI(*properties["roi"])
        given.append(run(core, a_sequence(**more)))
        for image, event, camera in given[-1]:
            np.testing.assert_array_equal(image, again(core, camera, event.exposure, faults))
    assert len(given[0]) == len(given[1]) == T * 3 * Z * len(more.get("stage_positions", "1"))
    for (burst, _, told), (snap, _, said) in zip(*given, strict=True):
        np.testing.assert_array_equal(burst, snap)
        assert {k: told[k] for k in said if k not in COUNTS} == {
            k: v for k, v in said.items() if k not in COUNTS
        }
    binning = properties.get("Dish.Binning", 1)
    height, width = (n // binning for n in SHAPE)
    assert burst.shape == (properties.get("roi", (0, 0, width, height))[:1:-1])
    assert burst.dtype == (np.uint8 if properties.get("Dish.BitDepth") == 8 else np.uint16)
    dark = "Core.AutoShutter" in properties or properties.get("Objective.Label") == "Objective-2"
    kinds = {"dark"} if dark else {"brightfield", "fluorescence"}
    assert {camera["Dish-channel"] for _, _, camera in given[0]} == kinds


def test_the_shutter_is_open_for_exposures_alone(new_core, monkeypatch):
    """As Micro-Manager does it for a camera of its own: a snap, a burst, a live view."""
    core = new_core()
    seen, shown = [], threading.Event()
    show = core.camera.show

    def watched(scene):
        seen.append((core.getShutterOpen("White Light Shutter"), scene.lit))
        shown.set()
        return show(scene)

    monkeypatch.setattr(core.camera, "show", watched)
    core.setShutterOpen(False)
    core.snapImage()
    assert not core.getShutterOpen()
    run(core, a_sequence(BRIGHTFIELD))
    assert not core.getShutterOpen()
    shown.clear()
    core.startContinuousSequenceAcquisition(0)
    assert shown.wait(10)
    core.stopSequenceAcquisition()
    assert not core.getShutterOpen()
    assert set(seen) == {(True, True)}
    seen.clear()
    core.setAutoShutter(False)
    core.snapImage()
    core.setShutterOpen(True)
    core.snapImage()
    assert core.getShutterOpen(), "whoever opens it by hand closes it"
    assert seen == [(False, False), (True, True)]
    core.setShutterOpen(False)
    core.setShutterDevice("")
    core.snapImage()
    assert seen[-1] == (False, True), "without a shutter there is always light"


def test_a_burst_that_loses_its_last_frame_closes_the_shutter(new_core):
    core = new_core(faults=Faults(dropped_frames=(Z - 1,)))
    core.setShutterOpen(False)
    core.startSequenceAcquisition(Z, 0, True)
    while core.isSequenceRunning():
        pass
    assert core.getRemainingImageCount() == Z - 1
    assert not core.getShutterOpen()


def test_pixel_size_follows_objective_and_binning(new_core, dish):
    core = new_core()
    assert set(core.getAvailableConfigs("Objective")) == {"20X", "60X", "100X"}
    own = dish.pixel_size_um
    for preset, factor in (("20X", 3.0), ("100X", 0.6), ("60X", 1.0)):
        core.setConfig("Objective", preset)
        for binning in (1, 2, 4):
            core.setProperty("Dish", "Binning", binning)
            assert core.getPixelSizeUm() == pytest.approx(own * factor * binning)
            assert (core.getImageHeight(), core.getImageWidth()) == (48 // binning, 64 // binning)
    assert core.dish.truth().tolist() == dish.truth().tolist()
    core.setProperty("Objective", "State", 0)
    assert core.getPixelSizeUm() == 0.0


def test_another_objective_shows_the_same_cells(new_core):
    core = new_core()
    core.setConfig("Objective", "20X")
    wide = core.dish.truth()
    assert core.dish.pixel_size_um == pytest.approx(0.3)
    core.setConfig("Objective", "60X")
    near = core.dish.truth()
    # Profiles along y of what both see: the inner third, in steps of 0.3 um.
    profile = near.reshape(16, 3, 64).sum(axis=(1, 2))
    assert pearson(wide[16:32, 21:43].sum(axis=1), profile) > 0.8


def test_a_preset_may_hold_properties_of_the_camera(new_core):
    core = new_core()
    core.defineConfig("Channel", "Brightfield", "Dish", "Binning", "1")
    core.defineConfig("Channel", "Mitochondria", "Dish", "Binning", "2")
    core.setConfig("Channel", "Mitochondria")
    core.snapImage()
    assert core.getImage().shape == (24, 32)
    assert core.camera.last_metadata["Dish-channel"] == "fluorescence"
    core.setConfig("Channel", "Brightfield")
    core.snapImage()
    assert core.getImage().shape == SHAPE
    assert core.camera.last_metadata["Dish-channel"] == "brightfield"


def test_properties_say_what_they_take(new_core):
    core = new_core()
    assert core.getAllowedPropertyValues("Dish", "Binning") == ("1", "2", "4")
    core.setProperty("Dish", "BitDepth", "12")
    assert core.getImageBitDepth() == 12
    assert core.getProperty("Dish", "Gain") == pytest.approx(0.9 / 16)
    with pytest.raises(ValueError, match="not allowed for property 'Binning'"):
        core.setProperty("Dish", "Binning", 3)
    with pytest.raises(ValueError, match="allowed range"):
        core.setProperty("Dish", "Gain", 0)
    core.setProperty("Dish", "Fault-dropped_frames", "1,2")
    assert core.camera.faults == Faults(dropped_frames=(1, 2))
    assert core.getProperty("Dish", "Fault-dropped_frames") == "1,2"
    core.setProperty("Dish", "Fault-dropped_frames", "off")
    core.setProperty("Dish", "Fault-slow_readout_ms", 2)
    assert core.getProperty("Dish", "ReadoutTime") == 2.0
    with pytest.raises(LivestainError, match="expected micrometres per minute"):
        core.setProperty("Dish", "Fault-focus_drift_um_per_min", "fast")
    core.startContinuousSequenceAcquisition(0)
    try:
        with pytest.raises(MicroscopeError, match="Binning cannot be changed while"):
            core.setProperty("Dish", "Binning", 2)
    finally:
        core.stopSequenceAcquisition()


def test_the_second_label_is_that_of_nuclei(new_core, dish):
    core = new_core(False)
    core.setXYPosition(9.5, -10.5)
    frames = run(core, a_sequence(MITOCHONDRIA, DNA, t=1, z=1))
    (mitochondria, _, _), (nuclei, _, camera) = frames
    assert camera["Dish-label"] == "dna"
    truth = dish.truth(xy_um=(float(camera["Dish-x_um"]), float(camera["Dish-y_um"])), label="dna")
    assert pearson(nuclei, truth) > 0.8
    assert pearson(mitochondria, truth) < 0.5


def test_truth_is_laid_out_as_the_frames_are(new_core, dish):
    core = new_core()
    core.setProperty("Dish", "Binning", 2)
    core.setROI(4, 8, 16, 12)
    run(core, a_sequence(MITOCHONDRIA, t=1))
    # What is set afterwards is not how the planes were.
    core.setProperty("Dish", "Binning", 1)
    core.setConfig("Objective", "20X")
    truth = core.truth("mitochondria", PlaneIndex(0, 0, 0, 1))
    whole = dish.truth(0.0, core.camera.places[0, 0, 1].z_um)
    np.testing.assert_allclose(truth, whole.reshape(24, 2, 32, 2).sum((1, 3))[8:20, 4:20])
    assert core.truth("DNA", PlaneIndex(0, 0, 0, 1)).shape == (12, 16)


# ---------------------------------------------------------------------- light


def test_the_label_bleaches_as_light_falls_on_it(new_core, dish):
    core = new_core(False)
    light = dish.profile.light
    frames = run(core, a_sequence(BRIGHTFIELD, MITOCHONDRIA, t=4, z=1))
    shares = [float(c["Dish-unbleached"]) for _, _, c in frames if "Dish-unbleached" in c]
    once = light.excitation_w_cm2 * 0.06 / light.bleaching_dose_j_cm2
    np.testing.assert_allclose(shares, np.exp(-once * np.arange(4)), rtol=1e-6)
    report = core.light_report(predicted=8, fields=2)
    assert report.exposures == {"transmitted": 4, "mitochondria": 4}
    assert report.excitation_j_cm2 == pytest.approx(light.excitation_w_cm2 * 0.24)
    assert report.spared_j_cm2 == pytest.approx(light.excitation_w_cm2 * 0.24)
    assert report.bleached["mitochondria"] == pytest.approx(1 - math.exp(-4 * once))


def test_only_a_closed_shutter_spares_the_cells(new_core):
    core = new_core(faults=Faults(dropped_frames=1.0))
    core.setConfig("Channel", "Mitochondria")
    for _ in range(3):
        with pytest.raises(MicroscopeError, match="lost the frame"):
            core.snapImage()
    assert core.light_report().exposures == {"mitochondria": 3}, "lost, and lit all the same"
    core.camera.faults = Faults()
    core.setAutoShutter(False)
    core.setShutterOpen(False)
    core.snapImage()
    assert core.light_report().exposures == {"mitochondria": 3}


# --------------------------------------------------------------------- faults


def lines(out, kind):
    return [line for line in read_journal(journal_path(out)) if line["kind"] == kind]


@pytest.mark.parametrize("triggered", [True, False])
def test_dropped_frames_leave_told_holes(new_core, tmp_path, triggered):
    core = new_core(triggered, faults=Faults(dropped_frames=0.3, seed=2))
    out = tmp_path / "run.ome.zarr"
    report = Session(core, a_sequence(BRIGHTFIELD, t=4), out).run()
    lost = [n for n in range(4 * Z) if core.camera.faults.drops(n)]
    assert 0 < len(lost) < 4 * Z
    assert report.planes_missing == len(lost) == 4 * Z - report.planes_acquired
    assert {tuple(line["index"]) for line in lines(out, "missing")} == {
        (0, n // Z, 0, n % Z) for n in lost
    }


def test_failed_snaps_are_missing_and_bursts_have_none(new_core, tmp_path):
    faults = Faults(failed_snaps=(1, 4))
    out = tmp_path / "snaps.ome.zarr"
    report = Session(new_core(False, faults=faults), a_sequence(BRIGHTFIELD), out).run()
    assert (report.planes_acquired, report.planes_missing) == (T * Z - 2, 2)
    missing = {tuple(line["index"]): line["why"] for line in lines(out, "missing")}
    assert missing == dict.fromkeys([(0, 0, 0, 1), (0, 1, 0, 1)], "the camera failed to take it")
    out = tmp_path / "burst.ome.zarr"
    report = Session(new_core(True, faults=faults), a_sequence(BRIGHTFIELD), out).run()
    assert report.planes_missing == 0


def test_a_slow_readout_delays_frames_and_loses_none(new_core, tmp_path):
    core = new_core(faults=Faults(slow_readout_ms=30.0))
    times = []
    core.mda.events.frameReady.connect(
        lambda i, e, meta: times.append(float(meta["camera_metadata"]["ElapsedTime-ms"]))
    )
    report = Session(core, a_sequence(BRIGHTFIELD, t=1), tmp_path / "run.ome.zarr").run()
    assert (report.planes_acquired, report.planes_missing) == (Z, 0)
    assert min(np.diff(times)) > 25.0


@pytest.mark.parametrize("triggered", [True, False])
def test_the_journal_tells_what_truly_happened(new_core, tmp_path, triggered):
    """Drift, jitter, flicker, a failing lamp and a bubble lose no plane; each frame says what it shows."""
    faults = Faults(
        focus_drift_um_per_min=12.0,
        stage_jitter_um=0.5,
        flicker=0.1,
        lamp_drop=LampDrop(frame=Z, remaining=0.4),
        bubble=Bubble(frame=1, frames=2),
    )
    core = new_core(triggered, faults=faults)
    out = tmp_path / "run.ome.zarr"
    sequence = a_sequence(BRIGHTFIELD, stage_positions=[(0.0, 0.0, 0.0)])
    report = Session(core, sequence, out).run()
    assert (report.planes_acquired, report.planes_missing, report.notes) == (T * Z, 0, [])
    shown = {tuple(x["index"]): x["shown"] for x in lines(out, "plane")}
    assert len(shown) == T * Z
    with open_store(out) as store:
        means = {i: store.read(PlaneIndex(*i)).mean() - 100 for i in shown}
    for (p, t, c, z), said in shown.items():
        # 12 um a minute over 5 s a time point.
        assert said["z_um"] == pytest.approx(0.5 * (z - 1) + t)
        assert (said["x_um"], said["y_um"]) == pytest.approx(faults.stage_um(0, t, 2), abs=0.02)
        n = Z * t + z
        assert said["lamp"] == pytest.approx(faults.brightness(n))
        assert ("bubble" in said) == (n in (1, 2))
        if n not in (1, 2):
            # 500 electrons a millisecond, of which the cells take little.
            assert means[p, t, c, z] == pytest.approx(0.9 * 500 * 8 * said["lamp"], rel=0.15)
    assert (
        means[0, 0, 0, 1] / shown[0, 0, 0, 1]["lamp"]
        < 0.97 * means[0, 0, 0, 0] / shown[0, 0, 0, 0]["lamp"]
    )


def test_a_wrong_objective_makes_the_pixel_size_false(new_core, tmp_path):
    """Nothing can notice but the eye: the run is whole, its pixel size is what Micro-Manager believes."""
    core = new_core(faults=Faults(wrong_objective="20x"))
    out = tmp_path / "run.ome.zarr"
    report = Session(core, a_sequence(BRIGHTFIELD, t=1), out).run()
    assert report.planes_missing == 0
    with open_store(out) as store:
        assert store.plan.pixel_size_um == pytest.approx(0.1)
    for line in lines(out, "plane"):
        assert line["shown"]["pixel_size_um"] == pytest.approx(0.3)
        assert line["shown"]["objective"] == "Simulated 20x"
    assert core.dish.pixel_size_um == pytest.approx(0.3)
    with pytest.raises(
        MicroscopeError, match="names no objective of the simulated turret; expected"
    ):
        new_core(faults=Faults(wrong_objective="7x"))


def test_a_profile_without_magnification_has_the_usual_turret():
    profile = find_profile("hela-60x").model_copy(update={"name": "my-0x"})
    core = simulated_core(profile=profile, shape=(32, 32))
    sizes = [core.getPixelSizeUmByID(name) for name in core.getAvailablePixelSizeConfigs()]
    core.unloadAllDevices()
    assert sorted(sizes) == pytest.approx([0.06, 0.1, 0.3])
