"""Whole runs with installed virtual channels: interrupted, focused, binned, of two cameras, in any output."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import tifffile
import useq
import zarr
from installing import (
    BRIGHT,
    MITO,
    SHAPE,
    T,
    Watch,
    Z,
    a_sequence,
    bundle_for_demo,
    demo_core,
    stained,
    watched,
)
from pymmcore_plus.mda import MDAEngine, SkipEvent

import livestain
from livestain.errors import BundleError
from livestain.live.virtual_engine import VirtualEngine

STACK = {"z": "all", "network": "unet3d"}


@pytest.fixture
def core():
    core = demo_core()
    yield core
    livestain.uninstall(core)
    core.unloadAllDevices()
    del core


@pytest.fixture(scope="module")
def demo_bundle(bundle_of):
    return bundle_for_demo(bundle_of)


def models(bundle):
    return {"mitochondria": {"bundle": str(bundle), **BRIGHT}}


class Output:
    """One of pymmcore-plus' outputs, and another library that reads it."""

    def __init__(self, kind, folder):
        self.kind, self.path = kind, folder / f"run.{kind}"
        self.given = self.path
        if kind == "images":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)
                from pymmcore_plus.mda.handlers import ImageSequenceWriter
            self.given = ImageSequenceWriter(self.path)

    def check(self, watch, sequence):
        """All frames that came are at their places, and nothing else is anywhere."""
        planes = {"ome.zarr": self.zarr, "ome.tiff": self.tiff, "images": self.images}[self.kind]
        places = [tuple(event.index[a] for a in "tcz") for event in sequence]
        stored = planes(places)
        for t, c, z in places:
            expected = watch.frames.get((0, 0, t, c, z), np.zeros(SHAPE, np.uint16))
            np.testing.assert_array_equal(stored.get((t, c, z), np.zeros(SHAPE)), expected)

    def zarr(self, places):
        array = zarr.open(self.path, mode="r")["0"]
        return {place: array[place] for place in places}

    def tiff(self, places):
        # By page: of a run that was cancelled the file's head counts whole time points alone.
        with tifffile.TiffFile(self.path, is_ome=False) as tiff:
            return {place: page.asarray() for place, page in zip(places, tiff.pages, strict=False)}

    def images(self, places):
        text = (self.path / "_frame_metadata.json").read_text(encoding="utf-8")
        at = {name: meta["mda_event"]["index"] for name, meta in json.loads(text).items()}
        return {
            (i["t"], i["c"], i["z"]): tifffile.imread(self.path / name) for name, i in at.items()
        }


def when_paused(core, act):
    """Pause in the eighth image (in the second stack), and do something as soon as the runner has paused."""
    snap, waited, snaps = core.snapImage, core.mda._wait_until_event, []

    def snapping():
        snap()
        snaps.append(1)
        if len(snaps) == 8:
            core.mda.set_paused(True)

    def waiting(event):
        if core.mda.is_paused():
            act()
        return waited(event)

    core.snapImage, core.mda._wait_until_event = snapping, waiting
    return snaps


@pytest.mark.parametrize(
    ("kind", "lockstep", "first", "cancel"),
    [
        ("ome.zarr", True, False, True),
        ("ome.tiff", True, False, True),
        ("images", True, False, True),
        ("ome.tiff", True, False, False),
        ("ome.zarr", False, True, True),
    ],
)
def test_paused_within_a_stack(core, demo_bundle, tmp_path, kind, lockstep, first, cancel):
    """And then cancelled, or gone on with: no frame is lost, and each is in its place."""
    livestain.install(core, models(demo_bundle(**STACK)), device="cpu", lockstep=lockstep)
    core.mda.engine.use_hardware_sequencing = False
    snaps = when_paused(core, core.mda.cancel if cancel else lambda: core.mda.set_paused(False))
    # Five planes, the first of which goes out at once while the others wait for the stack's end.
    sequence = a_sequence("tpzc", first=first, z_plan={"range": 2.0, "step": 0.5})
    output = Output(kind, tmp_path)
    watch = watched(core, sequence, output=output.given)
    assert core.mda.status.finish_reason == ("canceled" if cancel else "completed")
    assert len(snaps) == len(watch.raw(int(first))) == (8 if cancel else 10)
    assert len(watch.raw(int(not first))) == (0 if not lockstep else 5 if cancel else 10)
    output.check(watch, sequence)


@pytest.mark.parametrize("kind", ["ome.tiff", "images"])
def test_a_burst_cancelled_in_the_middle(core, demo_bundle, tmp_path, kind):
    livestain.install(core, models(demo_bundle(z=3)), device="cpu")
    pop, taken = core.popNextImageAndMD, []

    def popping():
        taken.append(pop())
        if len(taken) == 5:
            core.mda.cancel()
        return taken[-1]

    core.popNextImageAndMD = popping
    sequence = a_sequence("tpzc", time_plan={"interval": 0, "loops": 5})
    output = Output(kind, tmp_path)
    watch = watched(core, sequence, output=output.given)
    del core.popNextImageAndMD
    assert len(watch.raw()) == len(taken) == len(watch.frames) < 5 * Z
    output.check(watch, sequence)


class Troubled(MDAEngine):
    """An engine of a program, with trouble at its last image, or in the autofocus before it."""

    trouble = None

    def setup_event(self, event):
        if self.trouble == "skip" and self.is_last(event):
            raise SkipEvent(1)
        super().setup_event(event)

    def exec_event(self, event):
        if self.trouble == "focus" and self.is_last(event):
            raise RuntimeError("the focus is lost")
        yield from super().exec_event(event)

    def is_last(self, event):
        return (event.index["t"], event.index["z"]) == (T - 1, Z - 1)


@pytest.mark.parametrize("trouble", ["skip", "focus"])
def test_what_waits_goes_out_where_no_image_follows(core, demo_bundle, tmp_path, trouble):
    core.mda.set_engine(Troubled(core, use_hardware_sequencing=False))
    livestain.install(core, models(demo_bundle(**STACK)), device="cpu")
    core.mda.engine.trouble = trouble
    plan = {"autofocus_motor_offset": 25, "axes": ("z",)} if trouble == "focus" else None
    sequence, output = a_sequence("tpzc", autofocus_plan=plan), Output("ome.zarr", tmp_path)
    watch = Watch(core)
    if trouble == "skip":
        core.mda.run(sequence, output=output.given)
    else:
        with pytest.raises(RuntimeError, match="the focus is lost"):
            core.mda.run(sequence, output=output.given)
    assert watch.exposures == len(watch.raw()) == T * Z - 1
    assert len(watch.raw(1)) == (T - 1) * Z
    output.check(watch, sequence)


@pytest.mark.parametrize("axes", [("p",), ("t", "c"), ("z",)])
def test_autofocus_is_neither_counted_nor_forgotten(core, demo_bundle, tmp_path, axes):
    """By the demo autofocus, as often as without virtual channels; a burst that it splits stays in place."""
    core.setAutoFocusDevice("Autofocus")
    full_focus, focused = core.fullFocus, []

    def focusing():
        focused.append(core.getZPosition())
        full_focus()

    core.fullFocus = focusing
    plan = {
        "autofocus_plan": {"autofocus_motor_offset": 25, "axes": axes},
        "stage_positions": [(0, 0, 0)],
    }
    plain = watched(core, a_sequence("tpzc", channels=["Cy5"], **plan))
    expected, focused[:] = list(focused), []
    assert len(expected) == {"p": 1, "t": T, "z": T * Z}[axes[0]]
    bundle = demo_bundle(z=3)
    livestain.install(core, models(bundle), device="cpu")
    sequence = a_sequence("tpzc", first=True, **plan)
    output = Output("ome.zarr", tmp_path)
    watch = watched(core, sequence, output=output.given)
    assert focused == expected
    assert (watch.exposures, watch.bursts) == (plain.exposures, plain.bursts)
    assert len(watch.frames) == 2 * T * Z
    output.check(watch, sequence)
    for t in range(T):
        window = [watch.frames[0, 0, t, 1, z] for z in (0, 1, 2)]
        np.testing.assert_array_equal(watch.frames[0, 0, t, 0, 1], stained(bundle, window))


def test_the_camera_may_change_between_runs(core, demo_bundle, tmp_path):
    bundle = demo_bundle(pixel_size_um=1.5, pixel_size_range_um=(0.9, 2.1))
    livestain.install(core, models(bundle), device="cpu")
    predictor = core.mda.engine.installation.predictor

    def run(n, shape, pixel, **plan):
        out = tmp_path / f"run-{n}.ome.zarr"
        watch = watched(core, a_sequence("tpzc", time_plan=None, **plan), output=out)
        assert core.getPixelSizeUm() == pixel
        array = zarr.open(out, mode="r")["0"]
        assert array.shape == (2, Z, *shape)
        for (_, _, _, c, z), plane in watch.frames.items():
            assert plane.shape == shape
            np.testing.assert_array_equal(array[c, z], plane)
            if c == 0:
                expected = stained(bundle, [plane], pixel_size_um=pixel)
                np.testing.assert_array_equal(watch.frames[0, 0, 0, 1, z], expected)
        assert len(watch.frames) == 2 * Z
        assert len(predictor._stainers) == 1, "models of other sizes are given back"

    run(0, SHAPE, 1.0)
    core.setROI(8, 4, 41, 33)
    run(1, (33, 41), 1.0)
    run(2, (33, 41), 1.0, z_plan={"range": 0.8, "step": 0.4})
    core.clearROI()
    core.setProperty("Camera", "Binning", "2")
    run(3, (24, 32), 2.0)
    # A sequence's own setup comes before the checks: it says what the camera will give.
    run(4, SHAPE, 1.0, setup=useq.MDAEvent(properties=[("Camera", "Binning", "1")]))
    with pytest.raises(BundleError, match="The pixel size is 4 um"):
        core.mda.run(
            a_sequence().replace(setup=useq.MDAEvent(properties=[("Camera", "Binning", "4")]))
        )


def test_two_cameras_in_a_file(core, demo_bundle, tmp_path):
    for device, adapter, kind in (
        ("Camera 2", "DemoCamera", "DCam"),
        ("Both", "Utilities", "Multi Camera"),
    ):
        core.loadDevice(device, adapter, kind)
        core.initializeDevice(device)
    for name, value in (("OnCameraCCDXSize", SHAPE[1]), ("OnCameraCCDYSize", SHAPE[0])):
        core.setProperty("Camera 2", name, str(value))
    core.setProperty("Camera 2", "PixelType", "16bit")
    core.setProperty("Both", "Physical Camera 1", "Camera")
    core.setProperty("Both", "Physical Camera 2", "Camera 2")
    core.setCameraDevice("Both")
    bundle = demo_bundle()
    livestain.install(core, models(bundle), camera=1, device="cpu")
    out = tmp_path / "run.ome.zarr"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Multi-camera acquisition", UserWarning)
        core.mda.run(a_sequence("tpc", first=True, z_plan=None), output=out)
    array = zarr.open(out, mode="r")["0"][:]
    assert array.shape == (T, 2, 2, *SHAPE), "time, channel, camera"
    assert array[:, 1].any(axis=(-1, -2)).all()
    for t in range(T):
        np.testing.assert_array_equal(array[t, 0, 1], stained(bundle, [array[t, 1, 1]]))
    assert not array[:, 0, 0].any(), "the other camera is not looked at"


@pytest.mark.parametrize("lockstep", [True, False])
def test_a_sparse_source_in_a_flat_file(core, demo_bundle, tmp_path, lockstep):
    """pymmcore-plus writes such sequences as one row of frames: a frame's number is its event's."""
    livestain.install(core, models(demo_bundle()), device="cpu", lockstep=lockstep)
    channels = [
        {"group": "Channel", "config": MITO},
        {"config": "Cy5", "acquire_every": 2, "exposure": 2},
    ]
    sequence = a_sequence(
        "tpc", z_plan=None, channels=channels, time_plan={"interval": 0, "loops": 4}
    )
    out = tmp_path / "run.ome.zarr"
    watch = watched(core, sequence, output=out)
    array = zarr.open(out, mode="r")["0"]
    assert len(watch.frames) == (4 if lockstep else 2)
    for number, event in enumerate(sequence):
        key = 0, 0, event.index["t"], event.index["c"], 0
        if number < array.shape[0]:
            expected = watch.frames.get(key, np.zeros(SHAPE, np.uint16))
            np.testing.assert_array_equal(array[number], expected)
        else:
            assert key not in watch.frames


def test_installed_again_and_taken_away_after_errors(core, demo_bundle, monkeypatch):
    engine, groups = core.mda.engine, core.getAvailableConfigGroups()
    presets = core.getAvailableConfigs("Channel")
    livestain.install(core, models(demo_bundle()), device="cpu")
    with pytest.raises(BundleError, match="No model is called 'nothing'"):
        livestain.install(core, {"nuclei": "nothing"})
    assert core.getAvailableConfigs("Virtual") == ("mitochondria",), "what was installed stays"
    predictor = core.mda.engine.installation.predictor

    def failing(slot, payloads):
        raise MemoryError("no memory")

    monkeypatch.setattr(predictor, "predict", failing)
    with pytest.raises(MemoryError, match="no memory"):
        core.mda.run(a_sequence())
    # Once more, in place of the first; its run is as if nothing had been.
    livestain.install(core, models(demo_bundle()), device="cpu")
    assert isinstance(core.mda.engine, VirtualEngine)
    assert len(watched(core, a_sequence()).frames) == 2 * T * Z
    for _ in range(2):
        livestain.uninstall(core)
        assert core.mda.engine is engine
        assert core.getAvailableConfigGroups() == groups
        assert core.getAvailableConfigs("Channel") == presets
    assert watched(core, a_sequence(channels=["Cy5"])).exposures == T * Z
