"""Virtual channels in runs of other programs: on Micro-Manager's DemoCamera, and on our simulated dish."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import tifffile
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
from pymmcore_plus.core._sequencing import SequencedEvent
from pymmcore_plus.mda import MDAEngine, PMDAEngine, SkipEvent

import livestain
from livestain.bundle import read_bundle
from livestain.errors import BundleError, MicroscopeError, SequenceError
from livestain.inference import Stainer
from livestain.live.virtual_engine import VirtualEngine
from livestain.simulate.faults import Faults


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


def test_presets_change_nothing(core, demo_bundle):
    groups, presets = core.getAvailableConfigGroups(), core.getAvailableConfigs("Channel")
    engine, state = core.mda.engine, core.getSystemState().dict()
    # A name that comes first and one that comes last, since Micro-Manager tells the first that fits.
    models = {"AAA": demo_bundle(), "mitochondria": demo_bundle()}
    assert livestain.install(core, models) == ("AAA (virtual)", MITO)
    assert set(core.getAvailableConfigs("Channel")) == {*presets, "AAA (virtual)", MITO}
    assert core.getAvailableConfigs("Virtual") == ("AAA", "mitochondria")
    for virtual in [("Channel", "AAA (virtual)"), ("Channel", MITO), ("Virtual", "mitochondria")]:
        for real in presets:
            core.setConfig("Channel", real)
            before = core.getSystemState().dict()
            core.setConfig(*virtual)
            assert core.getSystemState().dict() == before
            assert core.getCurrentConfig("Channel") == real
            assert core.getCurrentConfigFromCache("Channel") == real
    core.setProperty("Emission", "State", 9)
    assert core.getCurrentConfig("Channel") == "", "none of the presets"
    assert core.getCurrentConfig("Virtual") == ""
    livestain.uninstall(core)
    livestain.uninstall(core)
    assert core.getAvailableConfigGroups() == groups
    assert core.getAvailableConfigs("Channel") == presets
    assert core.mda.engine is engine
    core.setConfig("Channel", "DAPI")
    assert core.getSystemState().dict() == state


@pytest.mark.parametrize(
    ("order", "first"), [("tpcz", False), ("tpzc", False), ("tpgcz", False), ("tpzc", True)]
)
def test_bursts_stay_whole_and_files_are_right(core, demo_bundle, tmp_path, order, first):
    bundle = demo_bundle()
    plain = watched(core, a_sequence(order, channels=["Cy5"]))
    assert plain.images_of_bursts == plain.exposures == T * Z
    livestain.install(core, {"mitochondria": {"bundle": str(bundle), **BRIGHT}}, device="cpu")
    out = tmp_path / "run.ome.zarr"
    sequence = a_sequence(order, first=first)
    watch = watched(core, sequence, output=out)
    assert (watch.bursts, watch.exposures) == (plain.bursts, T * Z)
    assert not any(
        e.channel.config == MITO
        for event in watch.events
        for e in (event.events if isinstance(event, SequencedEvent) else (event,))
    )
    declared = [tuple(e.index.get(a, 0) for a in ("p", "g", "t", "c", "z")) for e in sequence]
    assert watch.order == declared
    raw, virtual = (1, 0) if first else (0, 1)
    array = zarr.open(out, mode="r")["0"]
    for (_, _, t, _, z), plane in watch.raw(raw).items():
        expected = stained(bundle, [plane])
        np.testing.assert_array_equal(array[t, raw, z], plane)
        np.testing.assert_array_equal(array[t, virtual, z], expected)
        assert len(np.unique(expected)) > 8, "a prediction, not an empty plane"
    assert len({plane.tobytes() for plane in watch.frames.values()}) == 2 * T * Z


@pytest.mark.parametrize(
    ("order", "triggered", "arguments"),
    [
        ("tpzc", True, {"z": 3}),
        ("tpzc", False, {"z": 3}),
        ("tpcz", False, {"past": 1}),
        ("tpcz", True, {"z": "all", "network": "unet3d"}),
    ],
)
def test_windows_in_a_tiff(core, demo_bundle, tmp_path, order, triggered, arguments):
    bundle = demo_bundle(**arguments)
    core.mda.engine.use_hardware_sequencing = triggered
    livestain.install(core, {"mitochondria": {"bundle": str(bundle), **BRIGHT}}, device="cpu")
    watch = watched(core, a_sequence(order), output=tmp_path / "run.ome.tiff")
    assert watch.exposures == T * Z
    with tifffile.TiffFile(tmp_path / "run.ome.tiff") as tiff:
        series = tiff.series[0]
        array = np.moveaxis(series.asarray(), [series.axes.index(a) for a in "TCZ"], [0, 1, 2])
    raw = {(t, z): plane for (_, _, t, _, z), plane in watch.raw().items()}
    with Stainer(read_bundle(bundle), device="cpu") as stainer:
        for t, z in raw:
            if arguments["z"] == "all" if "z" in arguments else False:
                planes = [raw[t, n] for n in range(Z)]
            elif "z" in arguments:
                planes = [raw[t, min(max(n, 0), Z - 1)] for n in (z - 1, z, z + 1)]
            else:
                planes = [raw[max(t - 1, 0), z], raw[t, z]]
            values = stainer.stain(np.stack(planes))[0]
            values = values[z] if values.ndim == 3 else values
            counts = np.clip(np.rint((values.astype(np.float64) + 20) / 0.001), 1, 65535)
            np.testing.assert_array_equal(array[t, 0, z], raw[t, z])
            np.testing.assert_array_equal(array[t, 1, z], counts.astype(np.uint16))


def test_what_comes_of_an_uncertain_frame_says_so(bundle_of):
    core = livestain.simulated_core(5, shape=SHAPE)
    try:
        core.camera.faults = Faults(dropped_frames=(1,))
        frames = core.camera._frames

        def unnumbered(*args, **how):
            for meta in frames(*args, **how):
                yield {k: v for k, v in meta.items() if k != "livestain-FrameNr"}

        core.camera._frames = unnumbered
        livestain.install(core, {"mitochondria": str(bundle_of())}, device="cpu")
        channels = [{"config": "Brightfield", "exposure": 2}, {"config": MITO}]
        plan = {"channels": channels, "time_plan": {"interval": 0.05, "loops": T}}
        watch = watched(core, a_sequence(**plan))
        doubts = {
            key[2::2]: meta["extra"]["livestain"].get("uncertain")
            for key, meta in watch.metas.items()
            if key[3] == 1
        }
        assert set(doubts) == {(0, 0), (0, 1), *((1, z) for z in range(Z))}
        assert {place for place, why in doubts.items() if why} == {(0, 0), (0, 1)}
        assert "numbers none of them" in doubts[0, 0]
    finally:
        livestain.uninstall(core)
        core.unloadAllDevices()


def test_what_a_predicted_frame_says(core, demo_bundle, tmp_path):
    bundle = read_bundle(demo_bundle())
    models = {"mitochondria": {"bundle": str(bundle.path), **BRIGHT}}
    livestain.install(core, models, device="cpu")
    out, folder = tmp_path / "run.ome.zarr", tmp_path / "images"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        from pymmcore_plus.mda.handlers import ImageSequenceWriter
    sequence = a_sequence(channel=("Virtual", "mitochondria"), z_plan=None)
    watch = watched(core, sequence, output=[out, ImageSequenceWriter(folder)])
    for key, meta in watch.metas.items():
        said = (meta.get("extra") or {}).get("livestain")
        assert (said is not None) == (key[3] == 1)
        assert meta["mda_event"].index["c"] == key[3]
        if said is not None:
            assert meta["exposure_ms"] == 0.0
            assert said == {
                "predicted": True,
                "virtual_channel": "mitochondria",
                "sources": ["Cy5"],
                "bundle": bundle.name,
                "bundle_sha256": bundle.sha256,
                "output": "mitochondria",
                "unit": "sd",
                "scale": 0.001,
                "offset": -20.0,
            }
    # Frame by frame the writers keep little, so the file's head tells it, too.
    text = (out / "zarr.json").read_text(encoding="utf-8")
    summary = json.loads(text)["attributes"]["pymmcore_plus"]["summary_metadata"]
    head = summary["extra"]["livestain"]["virtual_channels"]["mitochondria"]
    assert head == {**said, "lockstep": True}
    # A folder of images is named by the events' indices.
    names = json.loads((folder / "_frame_metadata.json").read_text(encoding="utf-8"))
    assert len(names) == 2 * T
    for name, meta in names.items():
        at = meta["mda_event"]["index"]
        plane = watch.frames[0, 0, at["t"], at["c"], 0]
        np.testing.assert_array_equal(tifffile.imread(folder / name), plane)
        assert ("livestain" in meta.get("extra", {})) == (at["c"] == 1)


def test_real_frames_say_what_they_said(core, demo_bundle):
    """pymmcore-plus keeps the properties of a group's last preset alone: that must not be ours."""
    core.mda.engine.use_hardware_sequencing = False
    plain = watched(core, a_sequence(channels=["Cy5"], z_plan=None))
    models = {"zz": {"bundle": str(demo_bundle()), **BRIGHT}}
    livestain.install(core, models, device="cpu")
    watch = watched(core, a_sequence(channel=("Channel", "zz (virtual)"), z_plan=None))
    assert plain.metas[0, 0, 0, 0, 0]["property_values"]
    for key, meta in plain.metas.items():
        mine = watch.metas[key]
        assert mine.keys() == meta.keys()
        for word in ("property_values", "exposure_ms", "camera_device", "pixel_size_um"):
            assert mine[word] == (2.0 if word == "exposure_ms" else meta[word])


def test_eight_bits_span_the_display_window(core, demo_bundle):
    core.setProperty("Camera", "PixelType", "8bit")
    bundle = demo_bundle()
    livestain.install(core, {"mitochondria": {"bundle": str(bundle), **BRIGHT}}, device="cpu")
    watch = watched(core, a_sequence(z_plan=None))
    for t in range(T):
        said = watch.metas[0, 0, t, 1, 0]["extra"]["livestain"]
        plane = watch.frames[0, 0, t, 1, 0]
        assert plane.dtype == np.uint8
        assert plane.min() >= 1
        with Stainer(read_bundle(bundle), device="cpu") as stainer:
            values = stainer.stain(watch.frames[0, 0, t, 0, 0][None])[0]
        # The bundle shows -1 to 3; a count is a 254th of that.
        assert said["scale"] == pytest.approx(4 / 254)
        decoded = said["offset"] + said["scale"] * plane.astype(float)
        np.testing.assert_allclose(decoded, np.clip(values, -1, 3), atol=0.51 * 4 / 254)


def test_without_lockstep_places_stay_empty(core, demo_bundle, tmp_path):
    models = {"mitochondria": {"bundle": str(demo_bundle()), **BRIGHT}}
    livestain.install(core, models, lockstep=False)
    out = tmp_path / "run.ome.zarr"
    watch = watched(core, a_sequence("tpzc", first=True), output=out)
    assert watch.exposures == len(watch.frames) == T * Z
    array = zarr.open(out, mode="r")["0"]
    for (_, _, t, c, z), plane in watch.frames.items():
        assert c == 1
        np.testing.assert_array_equal(array[t, 1, z], plane)
        assert not array[t, 0, z].any()


@pytest.mark.parametrize("triggered", [True, False])
def test_a_lost_frame_leaves_its_place_and_its_predictions_empty(bundle_of, tmp_path, triggered):
    core = livestain.simulated_core(5, shape=SHAPE)
    try:
        core.mda.engine.use_hardware_sequencing = triggered
        core.camera.faults = Faults(dropped_frames=(1,))
        bundle = bundle_of(z=3)
        livestain.install(core, {"mitochondria": str(bundle)}, device="cpu")
        out = tmp_path / "run.ome.zarr"
        sequence = a_sequence("tpzc", z_plan={"range": 2.0, "step": 0.5})
        sequence = sequence.replace(
            channels=[{"config": "Brightfield", "exposure": 2}, sequence.channels[1]]
        )
        watch = watched(core, sequence, output=out)
        array = zarr.open(out, mode="r")["0"]
        for t in range(T):
            for z in range(5):
                lost = (t, z) == (0, 1)
                without = t == 0 and z <= 2
                assert ((0, 0, t, 0, z) in watch.frames) is not lost
                assert ((0, 0, t, 1, z) in watch.frames) is not without
                assert array[t, 0, z].any() is np.bool_(not lost)
                assert array[t, 1, z].any() is np.bool_(not without)
                if not lost:
                    np.testing.assert_array_equal(array[t, 0, z], watch.frames[0, 0, t, 0, z])
        planes = [watch.frames[0, 0, 0, 0, z] for z in (3, 4, 4)]
        np.testing.assert_array_equal(array[0, 1, 4], stained(bundle, planes))
    finally:
        livestain.uninstall(core)
        core.unloadAllDevices()


@pytest.mark.parametrize(
    ("arguments", "changes", "options", "error", "says"),
    [
        (
            {"pixel_size_um": 0.1, "pixel_size_range_um": (0.09, 0.12)},
            {},
            {},
            BundleError,
            "1 um, but",
        ),
        (
            {"z": 5, "z_step_um": 0.5},
            {},
            {},
            BundleError,
            "3 z-planes, but the model needs a z-window of 5",
        ),
        ({"z": 3, "z_step_um": 0.8}, {}, {}, BundleError, "z-step is 0.5 um"),
        ({"future": 1}, {}, {}, SequenceError, "needs 1 later time points"),
        (
            {},
            {},
            {"source": "FITC"},
            SequenceError,
            "'FITC' of the virtual channel 'mitochondria' is not",
        ),
        (
            {},
            {},
            {"source": None, "source_kind": None},
            SequenceError,
            "for the brightfield source",
        ),
        ({}, {}, {"source_kind": "phase"}, BundleError, "source channel is phase"),
        (
            {},
            {"channel": ("Virtual", "nuclei")},
            {},
            SequenceError,
            "'nuclei', which is not installed",
        ),
        (
            {},
            {
                "channels": [
                    {"config": "Cy5", "do_stack": False},
                    {"config": "FITC"},
                    {"config": MITO, "do_stack": False, "acquire_every": 2},
                ],
                "stage_positions": [
                    {"x": 0, "sequence": {"channels": [{"config": "Cy5"}]}},
                    {"x": 1, "sequence": {"channels": [{"config": "FITC"}, {"config": MITO}]}},
                ],
            },
            {},
            SequenceError,
            "No plane of the virtual channel 'mitochondria' can be predicted",
        ),
        ({}, {"axis_order": "cptz"}, {}, SequenceError, "up to 1500 frames"),
    ],
)
def test_refused_before_anything_moves(
    core, demo_bundle, monkeypatch, arguments, changes, options, error, says
):
    models = {"mitochondria": {"bundle": str(demo_bundle(**arguments)), **BRIGHT, **options}}
    livestain.install(core, models, device="cpu", memory_mb=8)
    if "axis_order" in changes:
        changes = {**changes, "time_plan": {"interval": 0, "loops": 500}}
    moved = []
    for name in ("setZPosition", "setXYPosition", "setConfig", "setExposure", "setShutterOpen"):
        monkeypatch.setattr(core, name, lambda *args, name=name: moved.append(name))
    watch = Watch(core)
    with pytest.raises(error, match=says):
        core.mda.run(a_sequence(**changes))
    assert watch.exposures == 0
    assert not moved
    assert not watch.events


def test_events_one_by_one_are_refused(core, demo_bundle):
    livestain.install(core, {"mitochondria": {"bundle": str(demo_bundle()), **BRIGHT}})
    with pytest.raises(SequenceError, match="one by one"):
        core.mda.run(iter(a_sequence()))


def test_a_list_of_events_over_positions(core, demo_bundle):
    bundle = demo_bundle()
    livestain.install(core, {"mitochondria": {"bundle": str(bundle), **BRIGHT}}, device="cpu")
    sequence = a_sequence(
        "ptgzc", stage_positions=[(0, 0), (50, 20)], grid_plan={"rows": 1, "columns": 2}
    )
    watch = watched(core, list(sequence))
    assert watch.exposures == 2 * 2 * T * Z
    assert len(watch.frames) == 2 * watch.exposures
    for (p, g, t, _, z), plane in watch.raw().items():
        expected = stained(bundle, [plane]) if (t, z) == (0, 1) else None
        if expected is not None:
            np.testing.assert_array_equal(watch.frames[p, g, t, 1, z], expected)


def test_light_is_off_while_the_model_works(core, demo_bundle, monkeypatch):
    """Also where it would stay open across channels; and autofocus before a virtual channel is kept."""
    models = {"mitochondria": {"bundle": str(demo_bundle()), **BRIGHT}}
    livestain.install(core, models, device="cpu")
    predictor = core.mda.engine.installation.predictor
    predict, opened, lit, focused = predictor.predict, [], [], []

    def watching(slot, payloads):
        opened.append(core.getShutterOpen())
        return predict(slot, payloads)

    monkeypatch.setattr(predictor, "predict", watching)
    monkeypatch.setattr(core, "fullFocus", lambda: focused.append(core.mda.status.phase))
    snap = core.snapImage

    def snapping():
        lit.append(core.getAutoShutter() or core.getShutterOpen())
        snap()

    monkeypatch.setattr(core, "snapImage", snapping)
    core.mda.engine.use_hardware_sequencing = False
    sequence = a_sequence(
        "tpzc",
        first=True,
        keep_shutter_open_across=("c", "z"),
        autofocus_plan={"autofocus_motor_offset": 25, "axes": ("t",)},
    )
    asked = [e for e in sequence if e.action.type == "hardware_autofocus"]
    assert all(e.channel.config == MITO for e in asked)
    frames = []
    core.mda.events.frameReady.connect(lambda image, event, meta: frames.append(event.index["c"]))
    core.mda.run(sequence)
    assert frames.count(1) == frames.count(0) == T * Z
    assert opened == [False] * T * Z
    assert lit == [True] * T * Z, "and the next image has its light again"
    assert len(focused) == len(asked) == T


def test_a_cancelled_burst_gives_what_was_taken(core, demo_bundle, tmp_path):
    models = {"mitochondria": {"bundle": str(demo_bundle()), **BRIGHT}}
    livestain.install(core, models, device="cpu")
    taken = []
    pop = core.popNextImageAndMD

    def popping():
        taken.append(pop())
        if len(taken) == 4:
            core.mda.cancel()
        return taken[-1]

    core.popNextImageAndMD = popping
    out = tmp_path / "run.ome.zarr"
    watch = watched(core, a_sequence("tpzc", time_plan={"interval": 0, "loops": 50}), output=out)
    assert core.mda.status.finish_reason == "canceled"
    assert 4 <= len(taken) < 10
    assert len(watch.raw()) == len(taken) == len(watch.frames)
    array = zarr.open(out, mode="r")["0"]
    for (_, _, t, _, z), plane in watch.raw().items():
        np.testing.assert_array_equal(array[t, 0, z], plane)


def test_a_burst_that_fails_gives_what_was_taken(core, demo_bundle):
    models = {"mitochondria": {"bundle": str(demo_bundle()), **BRIGHT}}
    livestain.install(core, models, device="cpu")
    pop = core.popNextImageAndMD
    taken = []

    def popping():
        if len(taken) == 4:
            core.stopSequenceAcquisition()
            raise MemoryError("Buffer overflowed")
        taken.append(pop())
        return taken[-1]

    core.popNextImageAndMD = popping
    watch = Watch(core)
    with pytest.raises(MemoryError, match="overflowed"):
        core.mda.run(a_sequence("tpzc"))
    assert [key[2::2] for key in watch.order] == [(0, 0), (0, 1), (0, 2), (1, 0)]
    assert len(watch.raw()) == 4


def test_a_failing_prediction_costs_no_frame(core, demo_bundle, monkeypatch, tmp_path):
    models = {"mitochondria": {"bundle": str(demo_bundle()), **BRIGHT}}
    livestain.install(core, models, device="cpu")
    predictor = core.mda.engine.installation.predictor
    predict = predictor.predict

    def failing(slot, payloads):
        if slot.key.place.z == 1:
            raise MemoryError(f"no memory at {slot.key.place.t}")
        return predict(slot, payloads)

    monkeypatch.setattr(predictor, "predict", failing)
    out = tmp_path / "run.ome.zarr"
    watch = Watch(core)
    with pytest.raises(MemoryError, match="no memory at 0"):
        core.mda.run(a_sequence("tpzc"), output=out)
    array = zarr.open(out, mode="r")["0"]
    assert len(watch.raw()) == T * Z
    assert len(watch.raw(1)) == T * (Z - 1)
    for (_, _, t, c, z), plane in watch.frames.items():
        np.testing.assert_array_equal(array[t, c, z], plane)
    assert not array[:, 1, 1].any()


def test_two_cameras_at_once(core, demo_bundle, tmp_path):
    core.loadDevice("Camera 2", "DemoCamera", "DCam")
    core.loadDevice("Both", "Utilities", "Multi Camera")
    core.initializeDevice("Camera 2")
    core.initializeDevice("Both")
    for name, value in (("OnCameraCCDXSize", SHAPE[1]), ("OnCameraCCDYSize", SHAPE[0])):
        core.setProperty("Camera 2", name, str(value))
    core.setProperty("Camera 2", "PixelType", "16bit")
    core.setProperty("Both", "Physical Camera 1", "Camera")
    core.setProperty("Both", "Physical Camera 2", "Camera 2")
    core.setCameraDevice("Both")
    bundle = demo_bundle()
    models = {"mitochondria": {"bundle": str(bundle), **BRIGHT}}
    livestain.install(core, models, camera=1, device="cpu")
    frames = {}

    def keep(image, event, meta):
        index = event.index
        frames[index["t"], index["c"], index["z"], index["cam"]] = np.array(image)

    core.mda.events.frameReady.connect(keep)
    for triggered in (True, False):
        frames.clear()
        core.mda.engine.use_hardware_sequencing = triggered
        core.mda.run(a_sequence("tpzc"))
        assert {key[1:] for key in frames} == {
            (c, z, cam) for c, cam in ((0, 0), (0, 1), (1, 1)) for z in range(Z)
        }
        np.testing.assert_array_equal(frames[1, 1, 2, 1], stained(bundle, [frames[1, 0, 2, 1]]))


def test_sparse_channels_and_binning(core, demo_bundle):
    models = {"mitochondria": {"bundle": str(demo_bundle()), **BRIGHT}}
    livestain.install(core, models, pixel_size_um=1.05, device="cpu")
    channels = [{"config": "Cy5", "acquire_every": 2}, {"config": MITO}]
    plan = {"z_plan": None, "channels": channels, "time_plan": {"interval": 0, "loops": 4}}
    watch = watched(core, a_sequence(**plan))
    # A sparse source gives a sparse prediction.
    assert [key[2:4] for key in watch.order] == [(0, 0), (0, 1), (2, 0), (2, 1)]
    core.setProperty("Camera", "Binning", "2")
    with pytest.raises(BundleError, match=r"The pixel size is 2\.1 um"):
        core.mda.run(a_sequence())


class OwnEngine(MDAEngine):
    """An engine of a program."""

    seen = 0
    trouble = None

    def setup_event(self, event):
        if self.trouble is not None and event.index["z"] == 2:
            raise self.trouble
        super().setup_event(event)

    def exec_event(self, event):
        self.seen += 1
        yield from super().exec_event(event)


def test_the_programs_own_engine_stays_what_it_is(core, demo_bundle):
    models = {"mitochondria": {"bundle": str(demo_bundle()), **BRIGHT}}
    own = OwnEngine(core, use_hardware_sequencing=False, timeout_base=3.0)
    core.mda.set_engine(own)
    livestain.install(core, models, lockstep=False)
    livestain.install(
        core, {"nuclei": {**models["mitochondria"], "output": "mitochondria"}}, device="cpu"
    )
    assert core.getAvailableConfigs("Virtual") == ("nuclei",)
    engine = core.mda.engine
    assert isinstance(engine, VirtualEngine)
    assert isinstance(engine, OwnEngine)
    assert (engine.use_hardware_sequencing, engine.timeout_base) == (False, 3.0)
    watch = watched(core, a_sequence(channel=("Virtual", "nuclei"), z_plan=None))
    assert len(watch.frames) == 2 * T
    assert engine.seen == T
    engine.use_hardware_sequencing = True
    livestain.uninstall(core)
    assert core.mda.engine is own
    assert own.use_hardware_sequencing
    assert "Virtual" not in core.getAvailableConfigGroups()


@pytest.mark.parametrize("trouble", [SkipEvent(1), RuntimeError("the stage is stuck")])
def test_events_that_cannot_be_set_up(core, demo_bundle, tmp_path, trouble):
    """What stands before them goes out, and what comes after keeps its place."""
    models = {"mitochondria": {"bundle": str(demo_bundle(z=3)), **BRIGHT}}
    core.mda.set_engine(OwnEngine(core, use_hardware_sequencing=False))
    livestain.install(core, models, device="cpu")
    core.mda.engine.trouble = trouble
    out = tmp_path / "run.ome.zarr"
    sequence = a_sequence("tpzc", first=True, z_plan={"range": 1.5, "step": 0.5})
    watch = Watch(core)
    if isinstance(trouble, SkipEvent):
        core.mda.run(sequence, output=out)
        taken = [(t, z) for t in range(T) for z in (0, 1, 3)]
        predicted = [(t, 0) for t in range(T)]
    else:
        with pytest.raises(RuntimeError, match="the stage is stuck"):
            core.mda.run(sequence, output=out)
        taken, predicted = [(0, 0), (0, 1)], [(0, 0)]
    assert [(t, z) for _, _, t, _, z in watch.raw(1)] == taken
    assert [(t, z) for _, _, t, _, z in watch.raw(0)] == predicted
    array = zarr.open(out, mode="r")["0"]
    for (_, _, t, c, z), plane in watch.frames.items():
        np.testing.assert_array_equal(array[t, c, z], plane)


def test_what_is_not_ours_is_not_touched(core, demo_bundle):
    bundle = str(demo_bundle())
    core.defineConfig("Virtual", "theirs", "Camera", "Gain", "1")
    core.defineConfig("Channel", MITO, "Camera", "Gain", "1")
    with pytest.raises(MicroscopeError, match="has a preset 'mitochondria"):
        livestain.install(core, {"mitochondria": bundle})
    assert core.getAvailableConfigs("Virtual") == ("theirs",)
    assert type(core.mda.engine) is MDAEngine
    core.deleteConfig("Channel", MITO)
    livestain.install(core, {"mitochondria": bundle})
    # Their preset of the group that we did not make is a channel as any other.
    assert (
        watched(core, a_sequence(channels=[{"group": "Virtual", "config": "theirs"}])).exposures
        == T * Z
    )
    another = MDAEngine(core)
    core.mda.set_engine(another)
    livestain.uninstall(core)
    assert core.mda.engine is another
    assert core.getAvailableConfigs("Virtual") == ("theirs",)


def test_refused_installations(core, demo_bundle):
    class Foreign(PMDAEngine):
        def setup_sequence(self, sequence):
            return None

        def setup_event(self, event):
            return None

        def exec_event(self, event):
            return ()

    bundle = str(demo_bundle())
    with pytest.raises(BundleError, match="No model is called 'nothing'"):
        livestain.install(core, {"mitochondria": "nothing"})
    with pytest.raises(BundleError, match="one of these"):
        livestain.install(core, {"dna": {"bundle": bundle, "output": "dna"}})
    with pytest.raises(livestain.LivestainError, match="bundel"):
        livestain.install(core, {"mitochondria": {"bundel": bundle}})
    with pytest.raises(BundleError, match="No model on the search path fits pixels of 7 um"):
        livestain.install(core, pixel_size_um=7.0)
    core.mda.set_engine(Foreign())
    with pytest.raises(MicroscopeError, match="is a Foreign, which is no"):
        livestain.install(core, {"mitochondria": bundle})
    assert "Virtual" not in core.getAvailableConfigGroups()


def test_models_are_found_by_what_fits(core, demo_bundle, monkeypatch, tmp_path):
    folder = demo_bundle(output="golgi").parent
    monkeypatch.setenv("LIVESTAIN_MODELS", str(folder))
    assert livestain.install(core) == ("golgi (virtual)",)
    # The simulated dish has 0.1 um, and models of simulated cells are for it.
    monkeypatch.delenv("LIVESTAIN_MODELS")
    simulated = livestain.simulated_core(5, shape=SHAPE)
    try:
        assert livestain.install(simulated) == (MITO,)
        # A session of our own on such a core strips the virtual channels by itself, also those that a
        # channel table chose.
        sequence = a_sequence(z_plan=None)
        channels = [{"config": "Brightfield", "exposure": 2}, sequence.channels[1]]
        report = livestain.Session(
            simulated, sequence.replace(channels=channels), tmp_path / "own.ome.zarr", device="cpu"
        ).run()
        assert (report.planes_acquired, report.planes_stained) == (T, T)
        livestain.uninstall(simulated)
    finally:
        simulated.unloadAllDevices()
