"""Recordings of other programs, opened without knowing what they are: planes, holes, and what they say."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image

import recording_cases as cases
from livestain.errors import DataError
from livestain.recordings import open_recording
from livestain.store import ChannelPlan, PlannedBlock, PositionPlan, StorePlan, create_store

WRITERS = {
    "OME-Zarr 0.4": ("a.zarr", lambda path, pixels: cases.write_zarr(path, pixels, "0.4")),
    "OME-Zarr 0.5": ("a.ome.zarr", lambda path, pixels: cases.write_zarr(path, pixels, "0.5")),
    "OME-TIFF": ("a.ome.tif", cases.write_ome_tiff),
    "ImageJ hyperstack": ("a.tif", cases.write_imagej),
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_every_plane_is_read(tmp_path, kind, dtype):
    name, write = WRITERS[kind]
    pixels = cases.volume(dtype=dtype)
    write(tmp_path / name, pixels)
    recording = open_recording(tmp_path / name)
    assert recording.kind == kind
    assert recording.name == "a"
    assert recording.channels == (("0", "1", "2") if kind.startswith("ImageJ") else cases.NAMES)
    assert (recording.pixel_size_um, recording.z_step_um) == pytest.approx((0.1, 0.5))
    assert recording.frame_format(0) == ((40, 48), np.dtype(dtype))
    (place,) = recording.places
    assert (place.n_t, place.n_z, place.label) == (2, 4, None)
    for c in range(3):
        assert recording.present(0, c).all()
        at = list(np.ndindex(2, 4))
        for (t, z), plane in zip(at, recording.planes(0, c, at), strict=True):
            np.testing.assert_array_equal(plane, pixels[t, c, z])
    recording.close()


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_planes_of_a_zarr_without_any_chunk_are_absent(tmp_path, version):
    path = tmp_path / "a.zarr"
    pixels = cases.volume()
    cases.write_zarr(path, pixels, version)  # chunks of three z-planes
    folder = path / "0" if version == "0.4" else path / "0" / "c"
    shutil.rmtree(folder / "1" / "1")
    shutil.rmtree(folder / "0" / "2" / "1")
    recording = open_recording(path)
    np.testing.assert_array_equal(recording.present(0, 0), np.ones((2, 4)))
    np.testing.assert_array_equal(recording.present(0, 1), [[True] * 4, [False] * 4])
    np.testing.assert_array_equal(recording.present(0, 2), [[True, True, True, False], [True] * 4])
    np.testing.assert_array_equal(recording.planes(0, 2, [(0, 2)])[0], pixels[0, 2, 2])


def test_planes_of_a_sharded_zarr_are_there_with_their_shard(tmp_path):
    path = tmp_path / "a.zarr"
    pixels = cases.volume()
    group = cases.new_group(path, "0.5")
    group.create_array("0", data=pixels, chunks=(1, 1, 1, 20, 24), shards=(1, 1, 2, 40, 48))
    cases.put(group, cases.image_attributes("tczyx", version="0.5"), "0.5")
    shutil.rmtree(path / "0" / "c" / "1" / "0" / "0")
    recording = open_recording(path)
    np.testing.assert_array_equal(recording.present(0, 0), [[True] * 4, [False, False, True, True]])
    np.testing.assert_array_equal(recording.planes(0, 0, [(1, 3)])[0], pixels[1, 0, 3])


def test_a_zarr_says_when_and_where(tmp_path):
    group = cases.new_group(tmp_path / "a.zarr", "0.5")
    pixels = cases.volume()
    group.create_array("0", data=pixels)
    told = cases.image_attributes("tczyx", version="0.5")
    multiscale = told["multiscales"][0]
    multiscale["axes"][0]["unit"] = "millisecond"
    steps = multiscale["datasets"][0]["coordinateTransformations"]
    steps[0]["scale"][0] = 2500.0
    steps.append({"type": "translation", "translation": [0, 0, 1.5, -20.0, 30.0]})
    cases.put(group, told, "0.5")
    recording = open_recording(tmp_path / "a.zarr")
    assert recording.interval_s == 2.5
    (place,) = recording.places
    assert (place.x_um, place.y_um, place.z_um) == (30.0, -20.0, 1.5)


def test_an_ome_tiff_says_when_and_where(tmp_path):
    pixels = cases.volume(shape=(2, 1, 1, 20, 24))
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as writer:
        for name, x in (("left", -1.5), ("right", 2.5)):
            writer.write(
                pixels,
                metadata={
                    "axes": "TCZYX",
                    "Name": name,
                    "TimeIncrement": 0.5,
                    "TimeIncrementUnit": "min",
                    "Plane": {
                        "PositionX": [x] * 2,
                        "PositionXUnit": ["mm"] * 2,
                        "PositionY": [7.0] * 2,
                        "PositionYUnit": ["reference frame"] * 2,
                    },
                },
            )
    recording = open_recording(tmp_path / "a.ome.tif")
    assert recording.interval_s == 30
    places = [(p.label, p.x_um, p.y_um) for p in recording.places]
    assert places == [("left", -1500.0, None), ("right", 2500.0, None)]
    tifffile.imwrite(
        tmp_path / "b.tif", pixels[:, 0, 0], imagej=True, metadata={"axes": "TYX", "finterval": 3.0}
    )
    assert open_recording(tmp_path / "b.tif").interval_s == 3


def test_a_folder_of_channel_folders_needs_no_recipe(tmp_path):
    pixels = cases.volume(shape=(3, 2, 1, 20, 24))
    for c, channel in enumerate(("brightfield", "red")):
        (tmp_path / "dish" / channel).mkdir(parents=True)
        for t in range(3 - c):
            Image.fromarray(pixels[t, c, 0]).save(tmp_path / "dish" / channel / f"t{t}.png")
    (tmp_path / "dish" / "notes").mkdir()
    recording = open_recording(tmp_path / "dish")
    assert recording.channels == ("brightfield", "red")
    assert recording.kind == "folder of images"
    assert [place.name for place in recording.places] == ["t0", "t1", "t2"]
    assert [bool(recording.present(p, 1).all()) for p in range(3)] == [True, True, False]
    np.testing.assert_array_equal(recording.planes(1, 1, [(0, 0)])[0], pixels[1, 1, 0])
    assert recording.frame_format(2) == ((20, 24), np.dtype(np.uint16))


def test_our_own_store_is_a_recording_too(tmp_path):
    plan = StorePlan(
        n_t=2,
        n_z=1,
        height=64,
        width=48,
        pixel_size_um=0.1,
        t_interval_s=4.0,
        positions=(PositionPlan(name="A", x_um=1.0, y_um=2.0),),
        channels=(ChannelPlan(name="BF", kind="raw", planned=(PlannedBlock(t=range(2), z=(0,)),)),),
    )
    create_store(tmp_path / "a.ome.zarr", plan).close()
    recording = open_recording(tmp_path / "a.ome.zarr")
    assert (recording.kind, recording.interval_s) == ("livestain store", 4.0)
    assert recording.frame_format(0) == ((64, 48), np.dtype(np.uint16))
    assert not recording.present(0, 0).any()
    (place,) = recording.places
    assert (place.label, place.x_um, place.y_um, place.z_um) == ("A", 1.0, 2.0, None)


@pytest.mark.parametrize("one_master", [False, True])
def test_a_set_of_tiff_files_is_read_and_refused_where_one_is_lacking(tmp_path, one_master):
    pixels = cases.volume(shape=(4, 2, 1, 24, 32))
    first, second = cases.write_sparse_set(tmp_path, pixels, one_master=one_master)
    recording = open_recording(second)
    np.testing.assert_array_equal(recording.present(0, 1)[:, 0], [True, False, True, False])
    np.testing.assert_array_equal(recording.planes(0, 1, [(2, 0)])[0], pixels[2, 1, 0])
    recording.close()
    first.unlink()
    with pytest.raises(DataError, match=rf"{first.name} (is not there|to say what)"):
        open_recording(second)


@pytest.mark.parametrize("kind", ["nothing", "empty folder", "text", "folder of pictures"])
def test_what_is_no_recording_is_refused(tmp_path, kind):
    path = tmp_path / "x.txt" if kind == "text" else tmp_path / "x"
    if kind == "text":
        path.write_text("")
    elif kind != "nothing":
        path.mkdir()
    if kind == "folder of pictures":
        tifffile.imwrite(path / "a.tif", np.zeros((8, 8), np.uint8))
    with pytest.raises(DataError, match=r"does not exist|holds no recording|is no movie") as caught:
        open_recording(path)
    assert "\n" not in str(caught.value)
