"""What a sequence asks for, planned and refused before anything moves or is written."""

from __future__ import annotations

import numpy as np
import pytest
import useq
from pymmcore_plus import CMMCorePlus

from livestain.errors import (
    BundleError,
    LivestainError,
    MicroscopeError,
    SequenceError,
    SettingsError,
    StoreError,
)
from livestain.live.checks import check_room
from livestain.live.microscope import replay_core, simulated_core
from livestain.live.plan import plan_run
from livestain.live.session import Session
from livestain.live.virtual import load_sequence, split_sequence
from livestain.stain.asked import kind_of_channel

BRIGHTFIELD = {"group": "Channel", "config": "Brightfield"}
FLUORESCENCE = {"group": "Channel", "config": "Mitochondria"}
VIRTUAL = {"group": "Virtual", "config": "mitochondria"}


def sequence(*channels, t=4, z=3, step=0.5, settings=None, livestain=None, **more):
    """A sequence; `settings` are those of the virtual channel mitochondria."""
    metadata = dict(livestain or {})
    if settings is not None:
        metadata["channels"] = {"mitochondria": settings}
    values = {
        "axis_order": "tpgcz",
        "time_plan": {"interval": 0, "loops": t},
        "channels": channels or (BRIGHTFIELD, VIRTUAL),
        "metadata": {"livestain": metadata} if metadata else {},
    }
    if z > 1:
        values["z_plan"] = {"range": step * (z - 1), "step": step}
    return useq.MDASequence(**{**values, **more})


@pytest.fixture(scope="module")
def core():
    core = simulated_core(3, shape=(40, 48))
    core.defineConfig("Channel", "BF low", "Emission", "Label", "State-9")
    core.defineConfig("Channel", "Camera 3", "Emission", "Label", "State-9")
    core.setPixelSizeUm("Simulated 60x", 0.1)
    yield core
    core.unloadAllDevices()
    del core


@pytest.fixture
def plan(core, tiny_bundle):
    """Plan a sequence on the simulated microscope, with the tiny model unless told otherwise."""

    def make(wanted, **options):
        options.setdefault("models", {"mitochondria": str(tiny_bundle)})
        return plan_run(core, split_sequence(wanted), **options)

    return make


def planned(plan, name):
    return {(i.t, i.z) for i in plan.store.planned_indices(plan.store.c_of(name))}


def asked(wanted, name):
    """The planes of a channel as useq itself runs through them."""
    return {
        (e.index["t"], e.index.get("z", 0))
        for e in wanted
        if e.channel and e.channel.config == name
    }


class TestPlanned:
    @pytest.mark.parametrize(
        "virtual",
        [{}, {"acquire_every": 2}, {"do_stack": False}, {"acquire_every": 3, "do_stack": False}],
        ids=str,
    )
    @pytest.mark.parametrize(
        "source", [{}, {"acquire_every": 2}, {"do_stack": False}], ids=lambda s: f"source {s}"
    )
    def test_a_prediction_is_planned_where_it_is_asked_for_and_its_source_is_taken(
        self, plan, source, virtual
    ):
        wanted = sequence({**BRIGHTFIELD, **source}, FLUORESCENCE, {**VIRTUAL, **virtual}, t=5)
        made = plan(wanted)
        bright = asked(wanted, "Brightfield")
        assert planned(made, "Brightfield") == bright
        assert planned(made, "mitochondria") == bright & asked(wanted, "mitochondria")
        assert (made.store.n_t, made.store.n_z) == (5, 3)

    def test_the_runner_never_sees_a_virtual_channel(self, plan):
        wanted = sequence(BRIGHTFIELD, VIRTUAL, FLUORESCENCE)
        raw = plan(wanted).sequence
        assert [c.config for c in raw.channels] == ["Brightfield", "Mitochondria"]
        groups = {e.channel.group for e in raw}
        assert groups == {"Channel"}
        assert len(list(raw)) == 2 * 4 * 3

    def test_raw_channels_come_first_in_the_sequences_order(self, plan):
        made = plan(sequence(VIRTUAL, FLUORESCENCE, BRIGHTFIELD))
        assert [c.name for c in made.store.channels] == [
            "Mitochondria",
            "Brightfield",
            "mitochondria",
        ]
        virtual = made.store.channels[2].virtual
        assert (virtual.source, virtual.unit, virtual.output) == (
            "Brightfield",
            "sd",
            "mitochondria",
        )
        assert made.store.channels[2].color == "FF00FF"

    def test_a_window_over_depths_needs_the_whole_stack_of_its_time_point(self, plan, bundle_of):
        deep = {"mitochondria": str(bundle_of(z=3))}
        sparse = sequence({**BRIGHTFIELD, "acquire_every": 2}, VIRTUAL)
        assert planned(plan(sparse, models=deep), "mitochondria") == {
            (t, z) for t in (0, 2) for z in range(3)
        }
        flat = {**BRIGHTFIELD, "do_stack": False}
        for channels in ((flat, VIRTUAL), (flat, FLUORESCENCE, VIRTUAL)):
            with pytest.raises(BundleError, match=r"no z-stack.*z-window of 3"):
                plan(sequence(*channels), models=deep)

    def test_a_prediction_that_no_source_plane_meets_is_refused(self, plan):
        late = {**VIRTUAL, "do_stack": False}
        made = plan(sequence({**BRIGHTFIELD, "do_stack": False}, FLUORESCENCE, late))
        assert planned(made, "mitochondria") == {(t, 1) for t in range(4)}

    @pytest.mark.parametrize(
        ("channels", "settings", "source"),
        [
            ((BRIGHTFIELD, FLUORESCENCE, VIRTUAL), None, "Brightfield"),
            ((FLUORESCENCE, BRIGHTFIELD, VIRTUAL), {}, "Brightfield"),
            (
                ({"group": "Channel", "config": "BF low"}, BRIGHTFIELD, VIRTUAL),
                {"source": "BF low"},
                "BF low",
            ),
            (
                ({"group": "Channel", "config": "Camera 3"}, VIRTUAL),
                {"source": "Camera 3", "source_kind": "brightfield"},
                "Camera 3",
            ),
        ],
    )
    def test_the_source_is_the_named_one_or_the_one_whose_name_says_so(
        self, plan, channels, settings, source
    ):
        made = plan(sequence(*channels, settings=settings))
        assert made.store.channels[-1].virtual.source == source

    def test_the_model_is_found_by_what_it_predicts(self, plan, bundle_of, monkeypatch):
        folder = bundle_of(output="lysosomes")
        monkeypatch.setenv("LIVESTAIN_MODELS", str(folder.parent))
        wanted = sequence(BRIGHTFIELD, {"group": "Virtual", "config": "lysosomes"})
        (bundle, output) = plan(wanted, models=None).bundles[1]
        assert (bundle.path, output) == (folder, "lysosomes")
        # Under another name of the channel, by the model's name and its only output.
        wanted = sequence(settings={"bundle": folder.name, "output": "lysosomes"})
        assert plan(wanted, models=None).bundles[1][1] == "lysosomes"

    def test_the_command_lines_model_wins_over_the_sequences(self, plan, tiny_bundle):
        made = plan(sequence(settings={"bundle": "no-such-model"}))
        assert made.bundles[1][0].path == tiny_bundle

    def test_the_pixel_size_is_the_given_one_else_the_sequences_else_the_cores(self, plan):
        assert plan(sequence()).store.pixel_size_um == pytest.approx(0.1)
        own = sequence(livestain={"pixel_size_um": 0.11})
        assert plan(own).store.pixel_size_um == 0.11
        assert plan(own, pixel_size_um=0.095).store.pixel_size_um == 0.095

    def test_a_sequence_without_virtual_channels_needs_no_model(self, plan):
        made = plan(sequence(BRIGHTFIELD), models=None)
        assert made.bundles == {}
        assert [c.name for c in made.store.channels] == ["Brightfield"]

    def test_a_sequence_without_channels_takes_what_the_camera_shows(self, plan):
        wanted = useq.MDASequence(time_plan={"interval": 0, "loops": 3})
        made = plan(wanted, models=None)
        assert [c.name for c in made.store.channels] == ["camera"]
        assert planned(made, "camera") == {(0, 0), (1, 0), (2, 0)}

    def test_lockstep_waits_after_the_last_plane_a_prediction_needs(self, plan, bundle_of):
        settings = {"lag": "lockstep"}
        made = plan(sequence(settings=settings))
        assert {i[1:]: [(x.t, x.z) for x in xs] for i, xs in made.lockstep.items()} == {
            (t, 0, z): [(t, z)] for t in range(4) for z in range(3)
        }
        made = plan(sequence(settings=settings), models={"mitochondria": str(bundle_of(z=3))})
        assert sorted((x.t, x.z) for x in made.lockstep[0, 2, 0, 2]) == [(2, 1), (2, 2)]
        assert sorted((x.t, x.z) for x in made.lockstep[0, 2, 0, 1]) == [(2, 0)]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Brightfield", "brightfield"),
        ("BF 20 ms", "brightfield"),
        ("ph2", None),
        ("Phase", "phase"),
        ("DIC-Nomarski", "dic"),
        ("FITC", "fluorescence"),
        ("Cy5", "fluorescence"),
        ("Abfall", None),
        ("Mitochondria", None),
    ],
)
def test_a_presets_name_says_its_kind(name, kind):
    assert kind_of_channel(name) == kind


REFUSED = {
    "no source channel": (
        lambda: sequence(VIRTUAL),
        SequenceError,
        ["'mitochondria'", "no channel that it could be predicted from", "Brightfield"],
    ),
    "source that is not in the sequence": (
        lambda: sequence(settings={"source": "DIC"}),
        SequenceError,
        ["'DIC'", "not a channel of the sequence", "Brightfield"],
    ),
    "no channel of the source's kind": (
        lambda: sequence(FLUORESCENCE, VIRTUAL),
        SequenceError,
        ["None of the sequence's channels (Mitochondria)", "brightfield", "source under"],
    ),
    "two channels of the source's kind": (
        lambda: sequence(BRIGHTFIELD, {"group": "Channel", "config": "BF low"}, VIRTUAL),
        SequenceError,
        ["Several of its channels (Brightfield, BF low)", "source under"],
    ),
    "source whose kind nobody says": (
        lambda: sequence(FLUORESCENCE, VIRTUAL, settings={"source": "Mitochondria"}),
        SequenceError,
        ["'Mitochondria' does not say what it shows", "source_kind"],
    ),
    "z_offset of a prediction": (
        lambda: sequence(BRIGHTFIELD, {**VIRTUAL, "z_offset": 0.5}),
        SequenceError,
        ["'mitochondria'", "z_offset 0.5", "must be 0"],
    ),
    "a grid that is not visited with its position": (
        lambda: sequence(
            axis_order="gptcz",
            stage_positions=[(0, 0), (9, 0)],
            grid_plan={"rows": 1, "columns": 2},
        ),
        SequenceError,
        ["axis order gptcz", "Put g right after p"],
    ),
    "channels of a position's own": (
        lambda: sequence(stage_positions=[{"x": 0, "sequence": {"channels": [FLUORESCENCE]}}]),
        SequenceError,
        ["channels of its own (Mitochondria)"],
    ),
    "a time plan within the time plan": (
        lambda: sequence(
            stage_positions=[{"x": 0, "sequence": {"time_plan": {"interval": 0, "loops": 2}}}]
        ),
        SequenceError,
        ["two images of channel 'Brightfield' at p 0, t 0, z 0"],
    ),
    "one virtual channel twice": (
        lambda: sequence(BRIGHTFIELD, VIRTUAL, VIRTUAL),
        SequenceError,
        ["'mitochondria' stands twice"],
    ),
    "a prediction called like a measurement": (
        lambda: sequence(BRIGHTFIELD, {"group": "Virtual", "config": "Brightfield"}),
        SequenceError,
        ["Two channels", "'Brightfield'"],
    ),
    "unknown preset": (
        lambda: sequence({"group": "Channel", "config": "Nothing"}, VIRTUAL),
        SequenceError,
        ["'Channel'", "no preset 'Nothing'", "Brightfield"],
    ),
    "unknown group": (
        lambda: sequence({"group": "Lamps", "config": "Brightfield"}, VIRTUAL),
        SequenceError,
        ["config group 'Lamps'", "it has:", "Channel"],
    ),
    "settings of a channel that is not there": (
        lambda: sequence(livestain={"channels": {"nuclei": {}}}),
        SequenceError,
        ["'nuclei'", "it has: mitochondria"],
    ),
    "unknown setting": (
        lambda: sequence(settings={"lagg": "backfill"}),
        SettingsError,
        ["metadata.livestain of the sequence", "lagg"],
    ),
    "unknown lag": (
        lambda: sequence(settings={"lag": "sometimes"}),
        SettingsError,
        ["lag", "live-only", "'sometimes'"],
    ),
    "settings that are no mapping": (
        lambda: sequence(metadata={"livestain": [1]}),
        SettingsError,
        ["metadata.livestain"],
    ),
    "pixel size below zero": (
        lambda: sequence(livestain={"pixel_size_um": -1}),
        SettingsError,
        ["pixel_size_um", "greater than 0"],
    ),
    "another pixel size": (
        lambda: sequence(livestain={"pixel_size_um": 0.5}),
        BundleError,
        ["pixel size is 0.5 um", "trained at 0.1 um", "0.09 to 0.12"],
    ),
    "another kind": (
        lambda: sequence(settings={"source_kind": "phase", "source": "Brightfield"}),
        BundleError,
        ["is phase", "trained on brightfield"],
    ),
    "output the model does not have": (
        lambda: sequence(settings={"output": "nuclei"}),
        BundleError,
        ["tiny predicts mitochondria", "output"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_sentence_and_nothing_written(core, tiny_bundle, tmp_path, case):
    make, error, words = REFUSED[case]
    models = {"mitochondria": str(tiny_bundle)} if "Brightfield" not in case else None
    if case == "a prediction called like a measurement":
        models = {"Brightfield": str(tiny_bundle)}
    session = Session(core, make(), tmp_path / "run.ome.zarr", models=models)
    with pytest.raises(error) as caught:
        session.start()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    assert list(tmp_path.iterdir()) == []


def test_models_are_refused_that_are_unknown_ambiguous_or_of_no_channel(
    plan, bundle_of, monkeypatch, tmp_path
):
    with pytest.raises(
        BundleError, match=r"No model is called 'nowhere'.*Known:.*LIVESTAIN_MODELS"
    ):
        plan(sequence(), models={"mitochondria": "nowhere"})
    with pytest.raises(SequenceError, match="'nuclei', which the sequence does not have"):
        plan(sequence(), models={"nuclei": "nowhere"})
    one, other = bundle_of(output="vacuoles"), bundle_of(output="vacuoles", width=6)
    monkeypatch.setenv("LIVESTAIN_MODELS", str(one.parent))
    wanted = sequence(BRIGHTFIELD, {"group": "Virtual", "config": "vacuoles"})
    with pytest.raises(BundleError, match=r"Several models predict 'vacuoles'.*--model vacuoles="):
        plan(wanted, models=None)
    with pytest.raises(BundleError) as caught:
        plan(wanted, models=None)
    assert one.name in str(caught.value)
    assert other.name in str(caught.value)
    wanted = sequence(BRIGHTFIELD, {"group": "Virtual", "config": "nucleoli"})
    with pytest.raises(BundleError, match=r"No model predicts 'nucleoli' from brightfield at 0\.1"):
        plan(wanted, models=None)


def test_a_window_over_depths_is_refused_without_them(plan, bundle_of):
    deep = {"mitochondria": str(bundle_of(z=3))}
    with pytest.raises(BundleError, match=r"no z-stack.*z-window of 3 planes.*0\.5 um"):
        plan(sequence(z=1), models=deep)
    with pytest.raises(BundleError, match=r"z-step is 1 um.*trained at 0\.5 um"):
        plan(sequence(step=1.0), models=deep)
    with pytest.raises(BundleError, match=r"stack has 2 z-planes"):
        plan(sequence(z=2), models=deep)
    with pytest.raises(SequenceError, match=r"not evenly spaced"):
        plan(sequence(z_plan={"absolute": [0.0, 0.5, 3.0]}), models=deep)
    own = sequence(
        z=1, stage_positions=[{"x": 0, "sequence": {"z_plan": {"range": 1.0, "step": 0.5}}}]
    )
    made = plan(own, models=deep)
    assert (made.store.n_z, made.store.z_step_um) == (3, pytest.approx(0.5))


def test_lockstep_cannot_wait_for_the_future(plan, bundle_of):
    seer = {"mitochondria": str(bundle_of(future=1))}
    assert planned(plan(sequence(), models=seer), "mitochondria") == {
        (t, z) for t in range(4) for z in range(3)
    }
    with pytest.raises(SequenceError, match=r"needs 1 later time points.*use lag: backfill"):
        plan(sequence(settings={"lag": "lockstep"}), models=seer)


def test_an_uncalibrated_microscope_is_refused(core, plan):
    core.setPixelSizeUm("Simulated 60x", 0.0)
    try:
        with pytest.raises(MicroscopeError, match=r"not calibrated.*--pixel-size"):
            plan(sequence())
        assert plan(sequence(), pixel_size_um=0.1).store.pixel_size_um == 0.1
    finally:
        core.setPixelSizeUm("Simulated 60x", 0.1)


@pytest.mark.parametrize(
    ("pixel_type", "words"),
    [("32bitRGB", "colour images (4 components)"), ("32bit", "32-bit images")],
)
def test_a_camera_of_colour_or_32_bits_is_refused(pixel_type, words, tmp_path):
    demo = CMMCorePlus()
    demo.loadSystemConfiguration()
    demo.setProperty("Camera", "PixelType", pixel_type)
    wanted = useq.MDASequence(channels=["Cy5"], time_plan={"interval": 0, "loops": 2})
    with pytest.raises(MicroscopeError) as caught:
        Session(demo, wanted, tmp_path / "run.ome.zarr").start()
    assert words in str(caught.value)
    assert "8bit or 16bit" in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    demo.unloadAllDevices()
    del demo


@pytest.mark.parametrize("cameras", [0, 2])
def test_several_cameras_at_once_are_refused(tmp_path, cameras):
    demo = CMMCorePlus()
    demo.loadSystemConfiguration()
    demo.loadDevice("Camera 2", "DemoCamera", "DCam")
    demo.loadDevice("Both", "Utilities", "Multi Camera")
    for device in ("Camera 2", "Both"):
        demo.initializeDevice(device)
    for n, label in enumerate(("Camera", "Camera 2")[:cameras], 1):
        demo.setProperty("Both", f"Physical Camera {n}", label)
    demo.setCameraDevice("Both")
    wanted = useq.MDASequence(channels=["Cy5"], time_plan={"interval": 0, "loops": 2})
    with pytest.raises(MicroscopeError, match=f"'Both' gives {cameras} images.*single camera"):
        Session(demo, wanted, tmp_path / "run.ome.zarr").start()
    assert list(tmp_path.iterdir()) == []
    demo.unloadAllDevices()
    del demo


def test_a_microscope_without_a_camera_is_refused(tmp_path):
    bare = CMMCorePlus()
    with pytest.raises(MicroscopeError, match="no camera"):
        Session(bare, sequence(BRIGHTFIELD), tmp_path / "run.ome.zarr").start()
    del bare


def test_a_replay_is_not_asked_for_more_than_was_recorded(tmp_path, png_movie):
    core = replay_core(png_movie(t=3), pixel_size_um=0.1)
    out = tmp_path / "run.ome.zarr"
    for wanted in (sequence(BRIGHTFIELD, t=4, z=1), sequence(BRIGHTFIELD, t=2, z=2)):
        with pytest.raises(SequenceError, match=r"has 3 and 1.*Shorten the sequence"):
            Session(core, wanted, out).start()
    assert not out.exists()
    core.unloadAllDevices()
    del core


def test_a_replay_never_shows_a_channel_under_another_name(tmp_path, png_movie):
    core = replay_core(png_movie(t=4), pixel_size_um=0.1)
    out = tmp_path / "run.ome.zarr"
    # DAPI is a preset of the demo hardware under the camera; "camera" is a sequence without channels.
    for wanted in (
        sequence({"config": "DAPI"}, z=1),
        sequence(BRIGHTFIELD, {"config": "DAPI"}, z=1),
        useq.MDASequence(time_plan={"interval": 0, "loops": 2}),
    ):
        with pytest.raises(
            SequenceError, match=r"no channel '(DAPI|camera)'; it has: Bright.*, Mi"
        ):
            Session(core, wanted, out).start()
    assert not out.exists()
    core.unloadAllDevices()
    del core


def test_a_disk_without_room_is_refused(plan, tmp_path):
    made = plan(sequence())
    check_room(tmp_path / "new" / "run.ome.zarr", made.store)
    vast = made.store.model_copy(update={"height": 10**9, "width": 10**9})
    with pytest.raises(StoreError, match=r"MB free.*choose another --out"):
        check_room(tmp_path / "new" / "run.ome.zarr", vast)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1, 2]", ["holds no sequence", "channels"]),
        ("just words", ["holds no sequence"]),
        ("", ["holds no sequence"]),
        ("chanels: [Brightfield]", ["unknown key chanels", "channels"]),
        ("channels: [{config: [1]}]", ["channels"]),
        ("channels: [Brightfield\n", ["not valid YAML"]),
        ("time_plan: {interval: soon, loops: 3}", ["time_plan"]),
        ("chanels: [DAPI]", ["did you mean 'channels'"]),
        (
            "channels: [DAPI, {config: BF, do_stak: false}]",
            ["channels[1]", "unknown key do_stak", "did you mean 'do_stack'", "acquire_every"],
        ),
        ("time_plan: {interval: 1, loops: 5, foo: 2}", ["time_plan", "foo", "interval, loops"]),
        (
            "time_plan: {duration: 4, loops: 5, prioritise_duration: true}",
            ["'prioritize_duration'"],
        ),
        ("time_plan: {phases: [{interval: 1, loops: 2}], phase: 1}", ["mean 'phases'"]),
        (
            "time_plan: {phases: [{interval: 1, loops: 2}, {interval: 1, loops: 2, loop: 1}]}",
            ["time_plan.phases[1]", "unknown key loop ", "'loops'"],
        ),
        ("time_plan: [{interval: 1, loops: 2, loop: 1}]", ["time_plan.phases[0]", "'loops'"]),
        ("z_plan: {range: 4, step: 1, go_upp: false}", ["z_plan", "'go_up'"]),
        ("z_plan: {relative: [0, 1], step: 1}", ["z_plan", "unknown key step", "relative"]),
        (
            "stage_positions: [{x: 1, sequence: {z_plan: {range: 4, step: 1, go_upp: false}}}]",
            ["stage_positions[0].sequence", "z_plan", "'go_up'"],
        ),
        ("stage_positions: [{sequence: {zplan: {range: 4, step: 1}}}]", ["mean 'z_plan'"]),
    ],
)
def test_a_file_that_is_no_sequence_is_refused(tmp_path, text, words):
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(LivestainError) as caught:
        load_sequence(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    for word in words:
        assert word in message


def test_a_sequence_is_read_as_useq_reads_it(tmp_path):
    wanted = sequence(BRIGHTFIELD, FLUORESCENCE, VIRTUAL, settings={"lag": "live-only"})
    path = tmp_path / "s.yaml"
    path.write_text(wanted.yaml())
    read = load_sequence(path)
    assert [e.index for e in read] == [e.index for e in wanted]
    assert split_sequence(read).virtual[0].settings.lag == "live-only"
    (tmp_path / "s.json").write_text(wanted.model_dump_json(exclude_unset=True))
    assert load_sequence(tmp_path / "s.json").channels == read.channels


def test_positions_are_read_as_short_lists(tmp_path):
    (tmp_path / "s.yaml").write_text("stage_positions: [[1, 2], [3, 4, 5], {x: 6, y: 7}]")
    first, second, third = load_sequence(tmp_path / "s.yaml").stage_positions
    assert (first.x, first.y, first.z) == (1, 2, None)
    assert (second.x, second.y, second.z) == (3, 4, 5)
    assert (third.x, third.y) == (6, 7)


@pytest.mark.parametrize(
    "time_plan",
    [{"duration": 4, "loops": 5}, [{"interval": 1, "loops": 2}, {"interval": 2, "duration": 4}]],
)
@pytest.mark.parametrize("z_plan", [{"above": 1, "below": 2, "step": 1}, {"absolute": [1, 2]}])
def test_whole_sequences_as_useq_writes_them_are_read(tmp_path, time_plan, z_plan):
    inner = {"z_plan": {"range": 2, "step": 1}}
    wanted = useq.MDASequence(
        channels=["DAPI", BRIGHTFIELD],
        time_plan=time_plan,
        z_plan=z_plan,
        stage_positions=[(1, 2), {"x": 3, "sequence": inner}],
    )
    for options in ({}, {"exclude_unset": True}, {"exclude_none": True}):
        path = tmp_path / "s.json"
        path.write_text(wanted.model_dump_json(**options))
        assert load_sequence(path).z_plan == wanted.z_plan
    path.write_text(wanted.yaml())
    assert load_sequence(path).time_plan == wanted.time_plan


@pytest.mark.parametrize(
    ("plans", "words"),
    [
        ({"z_plan": {"range": 4, "step": 0}}, "step 0 um; expected micrometres greater than 0"),
        ({"z_plan": {"top": 4, "bottom": 0, "step": -1}}, "step -1 um.*go_up: false"),
        ({"z_plan": {"range": 4, "step": float("nan")}}, "step nan"),
        ({"z_plan": {"range": float("inf"), "step": 1}}, "range inf"),
        ({"stage_positions": [{"sequence": {"z_plan": {"range": 4, "step": 0}}}]}, "step 0 um"),
        ({"time_plan": {"interval": -1, "loops": 3}}, "interval -1 s; time goes forward"),
        ({"time_plan": {"duration": -4, "loops": 3}}, "duration -4 s"),
        ({"time_plan": {"interval": -1, "duration": -4}}, r"(interval|duration) -\d s"),
        ({"time_plan": [{"interval": 1, "loops": 2}, {"interval": -1, "loops": 2}]}, "-1 s"),
        ({"time_plan": {"duration": 4, "loops": 1}}, "1 loop, and one time point has no duration"),
    ],
    ids=str,
)
def test_plans_that_useq_takes_and_no_run_can_have_are_refused(plans, words):
    with pytest.raises(SequenceError, match=words):
        split_sequence(useq.MDASequence(channels=[BRIGHTFIELD], **plans))


def test_what_is_planned_fits_the_recorded_bits(core, plan):
    made = plan(sequence(BRIGHTFIELD), models=None)
    assert made.store.channels[0].display == (0.0, float(2 ** core.getImageBitDepth() - 1))
    assert np.dtype(np.uint16).itemsize * 40 * 48 * 12 <= made.store.nbytes()
