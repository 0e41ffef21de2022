"""The OME-TIFF of Micro-Manager's own program: every plane, holes, names, and what is refused."""

from __future__ import annotations

import pickle

import micromanager_writer as mm
import numpy as np
import pytest
import tifffile

import recording_cases as cases
from livestain.errors import DataError
from livestain.recordings import open_recording

LISTED = {"StagePositions": mm.positions(("A1", 10.0, -20.5, 3.0), ("B 2", 100.0, 0.0, 4.0))}


def two_positions(dtype=np.uint16):
    return {
        "A1": cases.volume(1, (3, 2, 4, 20, 24), dtype),
        "B 2": cases.volume(2, (3, 2, 4, 20, 24), dtype),
    }


def check_planes(recording, volumes, missing=()):
    for p, pixels in enumerate(volumes):
        for c in range(pixels.shape[1]):
            expected = np.ones((pixels.shape[0], pixels.shape[2]), bool)
            for q, t, d, z in missing:
                if (q, d) == (p, c):
                    expected[t, z] = False
            np.testing.assert_array_equal(recording.present(p, c), expected)
            at = [(int(t), int(z)) for t, z in np.argwhere(expected)]
            for (t, z), plane in zip(at, recording.planes(p, c, at), strict=True):
                np.testing.assert_array_equal(plane, pixels[t, c, z])
                assert plane.dtype == pixels.dtype


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("given", ["folder", "first file", "other file"])
def test_every_plane_of_a_set_is_read(tmp_path, dtype, given):
    volumes = two_positions(dtype)
    folder = tmp_path / "run_1"
    files = mm.write_set(folder, volumes, summary=LISTED)
    # Another library reads the same from these files, so that they are what they are meant to be.
    with tifffile.TiffFile(files[0]) as file:
        assert file.is_mmstack
        (series,) = file.series
        assert series.kind == "mmstack"
        axes = [series.axes.index(a) for a in "RTCZYX"]
        read = series.asarray().transpose(axes)
    np.testing.assert_array_equal(read, np.stack(list(volumes.values())))

    path = {"folder": folder, "first file": files[0], "other file": files[1]}[given]
    recording = open_recording(path)
    check_planes(recording, list(volumes.values()))
    assert recording.kind == "Micro-Manager OME-TIFF"
    assert recording.name == "run"
    assert recording.channels == ("Brightfield", "Mitochondria")
    assert (recording.pixel_size_um, recording.z_step_um) == (0.1, 0.5)
    assert recording.interval_s == 30
    assert recording.frame_format(1) == ((20, 24), np.dtype(dtype))
    places = [(p.name, p.label, p.x_um, p.y_um, p.z_um) for p in recording.places]
    assert places == [("A1", "A1", 10.0, -20.5, 3.0), ("B 2", "B 2", 100.0, 0.0, 4.0)]
    other = pickle.loads(pickle.dumps(recording))
    np.testing.assert_array_equal(
        other.planes(1, 1, [(2, 3)])[0], recording.planes(1, 1, [(2, 3)])[0]
    )
    other.close()
    recording.close()


def test_planes_that_were_never_recorded_are_absent_whatever_the_xml_says(tmp_path):
    volumes = two_positions()
    missing = ((0, 1, 1, 0), (0, 1, 1, 1), (1, 0, 1, 3), (1, 2, 0, 2))
    (first, _) = mm.write_set(tmp_path, volumes, missing=missing)
    # Taken at its word, the OME-XML gives another plane in place of the one that is not there.
    with tifffile.TiffFile(first, is_mmstack=False) as file:
        stood_in = file.series[0].asarray()
    np.testing.assert_array_equal(stood_in[1, 1, 0], volumes["A1"][0, 1, 0])
    recording = open_recording(first)
    check_planes(recording, list(volumes.values()), missing)
    with pytest.raises(DataError, match="was never recorded"):
        recording.planes(0, 1, [(1, 0)])
    recording.close()


def test_a_run_that_was_stopped_ends_where_it_was_stopped(tmp_path):
    """Its last time point is filled with black planes that are not in the index map."""
    pixels = cases.volume(3, (2, 2, 3, 20, 24))
    planes = {(0, t, c, z): pixels[t, c, z] for t, c, z in np.ndindex(2, 2, 3)}
    for at in [(0, 1, 1, 0), (0, 1, 1, 1), (0, 1, 1, 2)]:
        del planes[at]
    told = {**mm.SUMMARY, "Frames": 100, "Slices": 3, "Channels": 2, "Positions": 1}
    file = tmp_path / "MMStack_Pos0.ome.tif"
    mm.write_file(file, planes, summary=told, blank=3)
    recording = open_recording(file)
    assert recording.name == tmp_path.name
    assert recording.places[0].n_t == 2
    check_planes(recording, [pixels], [(0, 1, 1, z) for z in range(3)])
    recording.close()


def test_a_run_that_crashed_gives_what_it_has(tmp_path):
    pixels = cases.volume(3, (2, 1, 1, 20, 24))
    planes = {(0, t, 0, 0): pixels[t, 0, 0] for t in range(2)}
    told = {**mm.SUMMARY, "ChNames": ["BF"], "Frames": 9, "PixelSize_um": 0}
    file = tmp_path / "x_MMStack.ome.tif"
    mm.write_file(file, planes, summary=told, finished=False, plane={"PixelSizeUm": 0.2})
    recording = open_recording(file)
    check_planes(recording, [pixels])
    assert recording.channels == ("BF",)
    assert recording.pixel_size_um == 0.2
    assert recording.z_step_um is None
    recording.close()
    data = bytearray(file.read_bytes())
    with tifffile.TiffFile(file) as opened:
        last = int(opened.micromanager_metadata["IndexMap"][1, 4])
    data[last:] = bytes(len(data) - last)  # the entry came to the disk, the plane did not
    file.write_bytes(data)
    recording = open_recording(file)
    check_planes(recording, [pixels[:1]])
    recording.close()


def test_what_is_not_said_is_none_and_may_stand_in_the_xml_or_with_the_planes(tmp_path):
    pixels = {"Default": cases.volume(1, (1, 2, 3, 20, 24))}
    unsaid = {"PixelSize_um": 0.0, "z-step_um": 0, "Interval_ms": 0}
    (file,) = mm.write_set(tmp_path / "a", pixels, summary=unsaid)
    recording = open_recording(file)
    assert (recording.pixel_size_um, recording.z_step_um, recording.interval_s) == (None,) * 3
    assert (recording.places[0].label, recording.places[0].x_um) == (None, None)
    voxel = 'PhysicalSizeX="108" PhysicalSizeXUnit="nm" PhysicalSizeZ="0.3" PhysicalSizeZUnit="µm"'
    (file,) = mm.write_set(tmp_path / "b", pixels, summary=unsaid, voxel=voxel)
    recording = open_recording(file)
    assert recording.pixel_size_um == pytest.approx(0.108)
    assert recording.z_step_um == 0.3
    wrapped = {
        "PixelSizeUm": {"type": "DOUBLE", "scalar": 0.2},
        "XPositionUm": {"type": "DOUBLE", "scalar": -7.5},
        "PositionName": {"type": "STRING", "scalar": "left"},
    }
    (file,) = mm.write_set(tmp_path / "c", pixels, summary=unsaid, plane=wrapped)
    recording = open_recording(file)
    assert recording.pixel_size_um == 0.2
    assert (recording.places[0].label, recording.places[0].x_um) == ("left", -7.5)
    (tmp_path / "a" / "run_MMStack_Default.movie.yaml").write_text("pixel_size_um: 0.4")
    assert open_recording(tmp_path / "a" / "run_MMStack_Default.ome.tif").pixel_size_um == 0.4


def test_a_renamed_file_is_itself(tmp_path):
    pixels = cases.volume(1, (1, 2, 3, 20, 24))
    (file,) = mm.write_set(tmp_path, {"Default": pixels})
    renamed = file.rename(tmp_path / "friday.tif")
    recording = open_recording(renamed)
    assert recording.name == "friday"
    check_planes(recording, [pixels])
    recording.close()


# -- bad input --------------------------------------------------------------------------------------


def test_a_set_that_lacks_a_file_is_refused(tmp_path):
    for gone in (0, 1):
        folder = tmp_path / str(gone)
        files = mm.write_set(folder, two_positions())
        files[gone].unlink()
        assert f"{files[gone].name} is not there" in cases.refused(files[1 - gone])
        assert f"{files[gone].name} is not there" in cases.refused(folder)


def test_damaged_files_are_refused(tmp_path):
    (file,) = mm.write_set(tmp_path, {"Default": cases.volume(1, (2, 2, 2, 20, 24))})
    whole = file.read_bytes()
    told = int.from_bytes(whole[36:40], "little")
    file.write_bytes(whole[: len(whole) // 2])
    assert "cut short" in cases.refused(file)
    file.write_bytes(whole[: 40 + told] + b"\1" + whole[41 + told :])
    assert "index map of" in cases.refused(file)
    file.write_bytes(whole[:50] + b"\0" + whole[51:])
    assert "damaged" in cases.refused(file)
    file.write_bytes(whole)
    with tifffile.TiffFile(file) as opened:
        at = int(opened.micromanager_metadata["IndexMap"][3, 4])
    file.write_bytes(whole[:at] + bytes(40) + whole[at + 40 :])
    recording = open_recording(file)
    recording.planes(0, 0, [(0, 0)])
    with pytest.raises(DataError, match="cannot be read"):
        recording.planes(0, 1, [(0, 1)])
    recording.close()


def test_a_folder_of_several_sets_is_asked_about(tmp_path):
    mm.write_set(tmp_path, {"Default": cases.volume(1, (1, 2, 1, 20, 24))}, name="one")
    mm.write_set(tmp_path, {"Default": cases.volume(2, (1, 2, 1, 20, 24))}, name="two")
    assert "give one by its name" in cases.refused(tmp_path)
    recording = open_recording(tmp_path / "two_MMStack_Default.ome.tif")
    assert recording.files == ("two_MMStack_Default.ome.tif",)
