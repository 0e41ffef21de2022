"""NDTiff, as the reference writer writes it: every plane, holes, names, and what is refused."""

from __future__ import annotations

import json
import pickle
import struct

import numpy as np
import pytest

import recording_cases as cases
from livestain.errors import DataError
from livestain.recordings import open_recording

SUMMARY = {"PixelSize_um": 0.1, "z-step_um": 0.5, "Interval_ms": 2000.0}


def write(folder, planes, summary=None, metadata=None):
    return cases.write_ndtiff(folder, planes, SUMMARY if summary is None else summary, metadata)


def of_volume(pixels, names=("Brightfield", "Mitochondria"), **more):
    """Axes and pixels of (t, c, z, y, x)."""
    return [
        ({"time": t, "channel": names[c], "z": z, **more}, pixels[t, c, z])
        for t, c, z in np.ndindex(pixels.shape[:3])
    ]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_plane_is_read(tmp_path, dtype):
    pixels = cases.volume(1, (3, 2, 4, 20, 24), dtype)
    folder = write(tmp_path, of_volume(pixels))
    for path in (folder, next(folder.glob("*.tif"))):
        recording = open_recording(path)
        assert recording.kind == "NDTiff"
        assert recording.name == folder.name
        assert recording.channels == ("Brightfield", "Mitochondria")
        assert (recording.pixel_size_um, recording.z_step_um) == (0.1, 0.5)
        assert recording.interval_s == 2
        assert recording.frame_format(0) == ((20, 24), np.dtype(dtype))
        (place,) = recording.places
        assert (place.name, place.n_t, place.n_z) == ("", 3, 4)
        for c in range(2):
            assert recording.present(0, c).all()
            at = list(np.ndindex(3, 4))
            for (t, z), plane in zip(at, recording.planes(0, c, at), strict=True):
                np.testing.assert_array_equal(plane, pixels[t, c, z])
                assert plane.dtype == dtype
        other = pickle.loads(pickle.dumps(recording))
        np.testing.assert_array_equal(other.planes(0, 1, [(2, 3)])[0], pixels[2, 1, 3])
        other.close()
        recording.close()


def test_planes_that_were_never_recorded_are_absent(tmp_path):
    """Fluorescence now and then, and in one plane, as pycro-manager's users sample it."""
    pixels = cases.volume(1, (4, 2, 3, 20, 24))
    planes = [
        (axes, image)
        for axes, image in of_volume(pixels)
        if axes["channel"] == "Brightfield" or (axes["time"] % 2 == 0 and axes["z"] == 1)
    ]
    recording = open_recording(write(tmp_path, planes))
    assert recording.present(0, 0).all()
    expected = np.zeros((4, 3), bool)
    expected[::2, 1] = True
    np.testing.assert_array_equal(recording.present(0, 1), expected)
    np.testing.assert_array_equal(recording.planes(0, 1, [(2, 1)])[0], pixels[2, 1, 1])
    with pytest.raises(DataError, match="was never recorded"):
        recording.planes(0, 1, [(1, 1)])
    recording.close()


def test_positions_have_names_and_places(tmp_path):
    one, two = cases.volume(1, (1, 2, 1, 20, 24)), cases.volume(2, (1, 2, 1, 20, 24))

    def told(axes):
        second = axes["position"] == "right"
        return {
            "PixelSizeUm": 0.2,
            "XPosition_um_Intended": 50.0 if second else -50.0,
            "YPosition_um_Intended": 7.0,
        }

    folder = write(
        tmp_path, of_volume(one, position="left") + of_volume(two, position="right"), {}, told
    )
    recording = open_recording(folder)
    assert [(p.name, p.label, p.x_um, p.y_um, p.z_um) for p in recording.places] == [
        ("left", "left", -50.0, 7.0, None),
        ("right", "right", 50.0, 7.0, None),
    ]
    assert recording.pixel_size_um == 0.2
    assert recording.interval_s is None
    np.testing.assert_array_equal(recording.planes(1, 1, [(0, 0)])[0], two[0, 1, 0])
    recording.close()


def test_tiles_of_a_grid_and_stacks_about_zero(tmp_path):
    pixels = cases.volume(1, (6, 1, 1, 20, 24))[:, 0, 0]
    planes = [
        ({"row": row, "column": column, "z": z}, pixels[n])
        for n, (row, column, z) in enumerate(
            [(0, 1, -1), (0, 1, 1), (0, 0, -1), (0, 0, 0), (1, 0, 0), (1, 0, 1)]
        )
    ]
    folder = write(
        tmp_path, planes, {}, lambda axes: {"ZPosition_um_Intended": 3.0 + 0.25 * axes["z"]}
    )
    recording = open_recording(folder)
    assert [place.name for place in recording.places] == ["r0-c0", "r0-c1", "r1-c0"]
    np.testing.assert_array_equal(recording.present(1, 0), [[True, False, True]])
    np.testing.assert_array_equal(recording.planes(1, 0, [(0, 2)])[0], pixels[1])
    assert recording.z_step_um == 0.25
    assert recording.channels == ("0",)
    assert recording.pixel_size_um is None
    recording.close()


def test_numbered_channels_have_the_names_of_the_summary_or_the_planes(tmp_path):
    pixels = cases.volume(1, (1, 2, 1, 20, 24))
    named = write(tmp_path / "a", of_volume(pixels, (0, 1)), {**SUMMARY, "ChNames": ["BF", "Mito"]})
    assert open_recording(named).channels == ("BF", "Mito")
    told = write(
        tmp_path / "b",
        of_volume(pixels, (0, 1)),
        metadata=lambda axes: {"Channel": ["bright", "red"][axes["channel"]]},
    )
    assert open_recording(told).channels == ("bright", "red")
    (told / "movie.yaml").write_text("{channels: [x, y], pixel_size_um: 0.3}")
    recording = open_recording(told)
    assert (recording.channels, recording.pixel_size_um) == (("x", "y"), 0.3)


def test_a_pyramid_is_read_at_full_resolution(tmp_path):
    pixels = cases.volume(1, (2, 1, 1, 20, 24))
    folder = write(tmp_path, of_volume(pixels, ("BF",)))
    whole = tmp_path / "explored"
    whole.mkdir()
    folder.rename(whole / "Full resolution")
    recording = open_recording(whole)
    assert recording.name == "explored"
    np.testing.assert_array_equal(recording.planes(0, 0, [(1, 0)])[0], pixels[1, 0, 0])
    recording.close()


def test_a_data_set_of_several_files(tmp_path):
    pixels = cases.volume(1, (20, 1, 1, 64, 64))
    planes = of_volume(pixels, ("BF",))
    folder = cases.write_ndtiff(tmp_path, planes, SUMMARY, file_bytes=30_000)
    assert len(list(folder.glob("*.tif"))) > 3
    recording = open_recording(folder)
    at = [(t, 0) for t in range(20)]
    np.testing.assert_array_equal(recording.planes(0, 0, at), pixels[:, 0, 0])
    recording.close()


# -- bad input --------------------------------------------------------------------------------------


def test_damaged_data_sets_are_refused(tmp_path):
    pixels = cases.volume(1, (2, 2, 1, 20, 24))
    folder = write(tmp_path, of_volume(pixels))
    index = folder / "NDTiff.index"
    whole = index.read_bytes()
    index.write_bytes(whole[:-10])
    assert "is damaged after 3 planes" in cases.refused(folder)
    index.write_bytes(whole[:20] + b"\xff" + whole[21:])
    assert "is damaged after 0 planes" in cases.refused(folder)
    index.write_bytes(b"")
    assert "names no planes" in cases.refused(folder)
    index.write_bytes(whole + bytes(64))  # reserved by a writer that was ended
    assert open_recording(folder).present(0, 1).all()
    entry = json.dumps({"time": 10**9, "channel": "Brightfield", "z": 0}).encode()
    (length,) = struct.unpack("<I", whole[:4])
    index.write_bytes(whole + struct.pack("<I", len(entry)) + entry + whole[4 + length :])
    assert "such gaps" in cases.refused(folder)
    index.write_bytes(whole)
    (file,) = folder.glob("*.tif")
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    assert f"{file.name} is cut short" in cases.refused(folder)
    file.unlink()
    assert f"{file.name} is not there" in cases.refused(folder)


def test_what_means_nothing_here_is_refused(tmp_path):
    pixels = cases.volume(1, (2, 1, 1, 20, 24))[:, 0, 0]
    several = write(tmp_path / "a", [({"angle": n}, pixels[n]) for n in range(2)])
    assert "axis 'angle' with 2 values" in cases.refused(several)
    mixed = write(tmp_path / "b", [({"time": 0}, pixels[0]), ({"time": 1}, pixels[1][:10])])
    assert "expected equal ones" in cases.refused(mixed)
    index = mixed / "NDTiff.index"
    data = index.read_bytes()
    (axes,) = struct.unpack_from("<I", data, 0)
    (name,) = struct.unpack_from("<I", data, 4 + axes)
    at = 8 + axes + name + 12
    index.write_bytes(data[:at] + struct.pack("<I", 2) + data[at + 4 :])
    assert "colour images" in cases.refused(mixed)
