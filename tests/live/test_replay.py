"""Recordings shown by the camera, through Micro-Manager's own path."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
import useq
import yaml
from PIL import Image
from pymmcore_plus.core import SequencedEvent

from livestain.cli import app
from livestain.errors import DataError, MicroscopeError
from livestain.live.microscope import replay_core
from livestain.live.replay import ReplaySource
from livestain.live.session import Session
from livestain.planes import PlaneIndex
from livestain.store import (
    ChannelPlan,
    PlannedBlock,
    StorePlan,
    create_store,
    open_store,
    store_status,
)

NAMES = ("t001_10", "t001_4", "t002_1", "t010_0")
"""In the order of their names, which is not that of their numbers."""


def picture(seed, dtype=np.uint8, shape=(24, 32)):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def record(folder, dtype=np.uint8, suffix="png", first_seed=0):
    folder.mkdir(parents=True)
    images = [picture(first_seed + n, dtype) for n in range(len(NAMES))]
    for name, image in zip(NAMES, images, strict=True):
        file = folder / f"{name}.{suffix}"
        if suffix == "png":
            Image.fromarray(image).save(file)
        else:
            tifffile.imwrite(file, image)
    return images


def run(core, sequence, *, triggered):
    core.mda.engine.use_hardware_sequencing = triggered
    frames, bursts = [], []

    def keep(image, event, meta):
        frames.append((image.copy(), event, meta))

    original = core.mda.engine.exec_event

    def watch(event):
        if isinstance(event, SequencedEvent):
            bursts.append(len(event.events))
        return original(event)

    core.mda.engine.exec_event = watch
    core.mda.events.frameReady.connect(keep)
    try:
        core.mda.run(sequence)
    finally:
        core.mda.events.frameReady.disconnect(keep)
        del core.mda.engine.exec_event
    return frames, bursts


@pytest.mark.parametrize("triggered", [True, False])
@pytest.mark.parametrize(
    ("dtype", "suffix"), [(np.uint8, "png"), (np.uint16, "png"), (np.uint16, "tif")]
)
def test_folder_is_one_time_point_a_file_in_name_order(tmp_path, triggered, dtype, suffix):
    images = record(tmp_path / "brightfield", dtype, suffix)
    core = replay_core(tmp_path / "brightfield", pixel_size_um=0.08)
    assert core.getPixelSizeUm() == pytest.approx(0.08)
    assert core.getBytesPerPixel() == np.dtype(dtype).itemsize
    sequence = useq.MDASequence(
        time_plan={"interval": 0, "loops": 4},
        channels=[{"group": "Channel", "config": "Brightfield", "exposure": 5}],
    )
    for _ in range(2):  # a second run starts from the first plane again
        frames, bursts = run(core, sequence, triggered=triggered)
        assert bursts == ([4] if triggered else [])
        assert len(frames) == 4
        for image, event, meta in frames:
            assert image.dtype == dtype
            np.testing.assert_array_equal(image, images[event.index["t"]])
            file = meta["camera_metadata"]["Replay-file"]
            assert file == f"{NAMES[event.index['t']]}.{suffix}"
    del core


@pytest.mark.parametrize("given", ["", "brightfield"])
def test_fluorescence_beside_the_brightfield_is_a_channel(tmp_path, given):
    movie = tmp_path / "movie-1"
    bright = record(movie / "brightfield")
    green = record(movie / "mitochondria", np.uint16, first_seed=50)
    core = replay_core(movie / given, pixel_size_um=0.1)
    assert core.source.channels == ("Brightfield", "Mitochondria")
    sequence = useq.MDASequence(
        axis_order="tc",
        time_plan={"interval": 0, "loops": 4},
        channels=[
            {"group": "Channel", "config": "Brightfield"},
            {"group": "Channel", "config": "Mitochondria", "acquire_every": 2},
        ],
    )
    frames, _ = run(core, sequence, triggered=True)
    assert len(frames) == 6
    for image, event, _ in frames:
        np.testing.assert_array_equal(image, (bright, green)[event.index["c"]][event.index["t"]])
    # Truth by the virtual channel's name, also of planes that were never asked for.
    np.testing.assert_array_equal(core.truth("mitochondria", PlaneIndex(0, 1, 2, 0)), green[1])
    assert core.truth("mitochondria", PlaneIndex(0, 4, 2, 0)) is None
    assert core.truth("nuclei", PlaneIndex(0, 0, 2, 0)) is None
    core.setConfig("Channel", "Brightfield")
    core.snapImage()
    np.testing.assert_array_equal(core.getImage(), bright[0])
    del core


@pytest.mark.parametrize(
    ("folder", "channel"),
    [
        ("recorded_pngs", "Brightfield"),
        ("2026-03-01", "Brightfield"),
        ("bf_20x", "Brightfield"),
        ("mitochondria", "Mitochondria"),
        ("Nuclei 2", "Nuclei 2"),
        ("phase_contrast", "Phase_contrast"),
        ("fluorescence", "Fluorescence"),
        ("GFP", "GFP"),
    ],
)
def test_a_single_folder_is_brightfield_unless_its_name_says_otherwise(tmp_path, folder, channel):
    record(tmp_path / folder)
    assert ReplaySource(tmp_path / folder).channels == (channel,)


def command(capfd, tmp_path, channels, *options):
    """Run `livestain run` of three time points; return code, report and what was said."""
    sequence = {
        "axis_order": "tpgcz",
        "time_plan": {"interval": 0, "loops": 3},
        "channels": [{"exposure": 5, **channel} for channel in channels],
    }
    path = tmp_path / "my_sequence.yaml"
    path.write_text(yaml.safe_dump(sequence))
    capfd.readouterr()
    code = cli("run", path, "--json", *options)
    out, err = capfd.readouterr()
    return code, json.loads(out) if out else None, err


def cli(*arguments):
    return app.run([str(a) for a in arguments])


def test_recorded_images_are_replayed_as_the_readme_says(tmp_path, capfd):
    images = record(tmp_path / "recorded_pngs")
    out = tmp_path / "replay.ome.zarr"
    options = ("--out", out, "--replay", tmp_path / "recorded_pngs", "--pixel-size", 0.08)
    code, report, err = command(capfd, tmp_path, [{"config": "Brightfield"}], *options)
    assert (code, report["planes_acquired"]) == (0, 3), err
    with open_store(out) as store:
        np.testing.assert_array_equal(store.read(PlaneIndex(0, 2, 0, 0)), images[2])


def test_a_store_with_sparse_fluorescence_is_replayed_and_scored_where_it_is(
    tmp_path, capfd, tiny_bundle
):
    first = tmp_path / "first.ome.zarr"
    bright, green = {"config": "Brightfield"}, {"config": "Mitochondria"}
    recorded = [bright, {**green, "acquire_every": 3}]
    assert command(capfd, tmp_path, recorded, "--out", first)[0] == 0
    virtual = {"group": "Virtual", "config": "mitochondria"}
    again = tmp_path / "again.ome.zarr"
    model = ("--model", f"mitochondria={tiny_bundle}", "--device", "cpu")
    replayed = ("--out", again, "--replay", first)
    code, report, err = command(capfd, tmp_path, [bright, virtual], *replayed, *model)
    assert (code, report["planes_stained"]) == (0, 3), err
    (scored,) = report["pearson_by_plane"]["mitochondria"]
    assert (scored["t"], scored["z"]) == (0, 0)
    assert "not scored" not in err
    # What the recording lacks is not recorded again as something else.
    third = ("--out", tmp_path / "third.ome.zarr", "--replay", first)
    code, report, err = command(capfd, tmp_path, [bright, green], *third)
    assert (code, report) == (2, None)
    assert "lacks 2 of the 3 planes" in err
    assert "'Mitochondria', the first at t 1, z 0" in err
    assert not (tmp_path / "third.ome.zarr").exists()
    assert command(capfd, tmp_path, recorded, *third)[0] == 0


def test_store_is_shown_by_time_channel_and_z(tmp_path):
    block = (PlannedBlock(t=range(2), z=range(3)),)
    names = ("Phase", "GFP")
    plan = StorePlan(
        n_t=2,
        n_z=3,
        height=24,
        width=32,
        pixel_size_um=0.11,
        z_step_um=0.5,
        t_interval_s=None,
        channels=tuple(ChannelPlan(name=n, kind="raw", planned=block) for n in names),
    )
    with create_store(tmp_path / "a.ome.zarr", plan) as store:
        for t, c, z in np.ndindex(2, 2, 3):
            index = PlaneIndex(0, t, c, z)
            store.write(index, picture([t, c, z], np.uint16)).result()
    core = replay_core(tmp_path / "a.ome.zarr")
    assert core.getPixelSizeUm() == pytest.approx(0.11)
    sequence = useq.MDASequence(
        axis_order="tcz",
        time_plan={"interval": 0, "loops": 2},
        channels=[{"group": "Channel", "config": n} for n in names],
        z_plan={"range": 1.0, "step": 0.5},
    )
    frames, bursts = run(core, sequence, triggered=True)
    assert bursts == [3] * 4
    for image, event, _ in frames:
        np.testing.assert_array_equal(image, picture([event.index[a] for a in "tcz"], np.uint16))
    core.source.close()
    core.source.close()
    del core


@pytest.mark.parametrize("simulated", [True, False])
def test_what_is_replayed_stays_as_real_as_it_was(tmp_path, simulated):
    plan = StorePlan(
        n_t=1,
        n_z=1,
        height=24,
        width=32,
        pixel_size_um=0.1,
        z_step_um=None,
        t_interval_s=None,
        channels=(
            ChannelPlan(name="Brightfield", kind="raw", planned=(PlannedBlock(t=(0,), z=(0,)),)),
        ),
    )
    marked = {"simulated": True} if simulated else {}
    with create_store(tmp_path / "a.ome.zarr", plan, attributes=marked) as store:
        store.write(PlaneIndex(0, 0, 0, 0), picture(0, np.uint16)).result()
    core = replay_core(tmp_path / "a.ome.zarr")
    assert core.source.simulated is simulated
    out = tmp_path / "run.ome.zarr"
    Session(core, useq.MDASequence(channels=["Brightfield"]), out).run()
    core.source.close()
    del core
    with open_store(out) as store:
        assert store.attributes.get("simulated", False) is simulated
        assert store.attributes.get("simulation") is None


def test_plane_beyond_the_recording_is_a_clear_error(tmp_path):
    record(tmp_path / "brightfield")
    source = ReplaySource(tmp_path / "brightfield", pixel_size_um=0.1)
    assert (source.n_t, source.n_z, source.shape) == (4, 1, (24, 32))
    with pytest.raises(DataError, match=r"t=4, z=0; it has .*4 time points and 1 z-planes"):
        source.plane("Brightfield", 4)


def test_folder_without_pixel_size_names_the_option(tmp_path):
    record(tmp_path / "brightfield")
    with pytest.raises(MicroscopeError, match="--pixel-size"):
        replay_core(tmp_path / "brightfield")
    with pytest.raises(MicroscopeError, match="greater than 0"):
        replay_core(tmp_path / "brightfield", pixel_size_um=0.0)


def test_missing_or_empty_folders_are_refused(tmp_path):
    with pytest.raises(DataError, match="There is no folder"):
        ReplaySource(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no PNG or TIFF"):
        ReplaySource(tmp_path)


def test_unequal_shapes_name_both_files(tmp_path):
    record(tmp_path / "brightfield")
    Image.fromarray(picture(9, shape=(24, 30))).save(tmp_path / "brightfield" / "t999.png")
    with pytest.raises(DataError, match=r"t001_10\.png is 24 x 32 and .*t999\.png is 24 x 30"):
        ReplaySource(tmp_path / "brightfield")


def test_unequal_formats_name_both_files(tmp_path):
    record(tmp_path / "brightfield")
    Image.fromarray(picture(9, np.uint16)).save(tmp_path / "brightfield" / "t999.png")
    with pytest.raises(DataError, match=r"t001_10\.png is uint8 and .*t999\.png is uint16"):
        ReplaySource(tmp_path / "brightfield")


def test_unequal_names_of_channels_are_refused(tmp_path):
    record(tmp_path / "brightfield")
    record(tmp_path / "mitochondria")
    (tmp_path / "mitochondria" / "t002_1.png").unlink()
    with pytest.raises(DataError, match=r"t002_1\.png is in one of them only"):
        ReplaySource(tmp_path)


def save_colour(folder):
    Image.fromarray(picture(0, shape=(24, 32, 3))).save(folder / "a.png")


def save_float(folder):
    tifffile.imwrite(folder / "a.tif", picture(0).astype(np.float32))


def save_colour_tiff(folder):
    tifffile.imwrite(folder / "a.tif", picture(0, shape=(24, 32, 3)), photometric="rgb")


@pytest.mark.parametrize("save", [save_colour, save_float, save_colour_tiff])
def test_colour_and_32_bit_images_are_refused(tmp_path, save):
    save(tmp_path)
    with pytest.raises(DataError, match="8 or 16 bits"):
        ReplaySource(tmp_path)


def test_several_pages_in_a_file_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", picture(0, shape=(3, 24, 32)), photometric="minisblack")
    with pytest.raises(DataError, match="3 pages"):
        ReplaySource(tmp_path)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_files_that_are_no_images_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"not an image")
    with pytest.raises(DataError, match="cannot be read"):
        ReplaySource(tmp_path)


@pytest.mark.parametrize("triggered", [True, False])
def test_a_file_that_breaks_off_costs_no_other_plane_and_is_never_silent(tmp_path, triggered):
    record(tmp_path / "brightfield")
    broken = tmp_path / "brightfield" / f"{sorted(NAMES)[2]}.png"
    broken.write_bytes(broken.read_bytes()[:200])  # the header is whole, the pixels are not
    core = replay_core(tmp_path, pixel_size_um=0.1)
    core.mda.engine.use_hardware_sequencing = triggered
    out = tmp_path / "run.ome.zarr"
    sequence = useq.MDASequence(
        time_plan={"interval": 0, "loops": 4},
        channels=[{"group": "Channel", "config": "Brightfield", "exposure": 1}],
    )
    session = Session(core, sequence, out)
    if triggered:
        with pytest.raises(OSError, match=r"truncated|broken"):
            session.run()
    else:
        assert session.run().planes_missing == 1
    status = store_status(out)
    assert status.present == (2 if triggered else 3)
    assert status.impossible == status.planned - status.present
