"""Recordings of other programs: found, described, read plane by plane, and refused in a sentence."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import tifffile
import yaozarrs
from training_cases import make_movie, write_image

import recording_cases as cases
from livestain.errors import DataError, SettingsError
from livestain.training.find import find_pairs
from livestain.training.pairs import PairSpec


@pytest.fixture
def spec(recipe_of):
    return PairSpec.of_recipe(recipe_of())


WRITERS = {
    "zarr 0.4": ("a.zarr", lambda path, pixels: cases.write_zarr(path, pixels, "0.4")),
    "zarr 0.5": ("a.ome.zarr", lambda path, pixels: cases.write_zarr(path, pixels, "0.5")),
    "OME-TIFF": ("a.ome.tif", cases.write_ome_tiff),
    "compressed OME-TIFF": (
        "a.ome.tiff",
        lambda path, pixels: cases.write_ome_tiff(path, pixels, compression="zlib"),
    ),
    "ImageJ": ("a.tif", cases.write_imagej),
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_files_of_others_give_every_plane(tmp_path, recipe_of, kind, dtype):
    name, write = WRITERS[kind]
    pixels = cases.volume(dtype=dtype)
    write(tmp_path / name, pixels)
    if kind.startswith("zarr"):
        yaozarrs.validate_zarr_store(str(tmp_path / name))
    # ImageJ knows no names of channels.
    bright, green = ("0", "2") if kind == "ImageJ" else ("brightfield", "NUCLEI")
    target = {**recipe_of().targets[0].model_dump(), "channel": green}
    recipe = recipe_of(source={"channel": bright}, targets=[target], window={"z": 3}, z_step_um=0.5)
    with find_pairs(tmp_path, PairSpec.of_recipe(recipe)) as found:
        (movie,) = found.movies
        assert movie.name == "a"
        assert [pair.name for pair in movie.pairs][:2] == ["t00000_z000", "t00000_z001"]
        assert len(movie.pairs) == 8
        for pair in movie.pairs:
            data = found.read(pair)
            around = [min(max(z, 0), 3) for z in (pair.z - 1, pair.z, pair.z + 1)]
            np.testing.assert_array_equal(data.source[0], pixels[pair.t, 0][around])
            np.testing.assert_array_equal(data.target[0, 0], pixels[pair.t, 2, pair.z])
            assert data.source.dtype == dtype
    (recording,) = found.reader._pool.recordings.values()
    assert (recording.pixel_size_um, recording.z_step_um) == pytest.approx((0.1, 0.5))


@pytest.mark.parametrize("axes", ["cyx", "tcyx", "czyx", "ctyx"])
def test_axes_may_be_fewer_and_in_another_order(tmp_path, spec, axes):
    pixels = cases.volume()
    path = tmp_path / "a.zarr"
    if axes == "ctyx":
        cases.write_zarr(path, pixels[:, :, :1].transpose(1, 0, 2, 3, 4), axes="tcyx")
        file = path / "zarr.json"
        told = json.loads(file.read_text())
        multiscale = told["attributes"]["ome"]["multiscales"][0]
        multiscale["axes"][0], multiscale["axes"][1] = multiscale["axes"][1], multiscale["axes"][0]
        file.write_text(json.dumps(told))
    else:
        cases.write_zarr(path, pixels, axes=axes)
    with find_pairs(path, spec) as found:
        assert len(found.pairs) == (2 if "t" in axes else 1) * (4 if "z" in axes else 1)
        last = found.pairs[-1]
        np.testing.assert_array_equal(found.read(last).target[0, 0], pixels[last.t, 1, last.z])


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("kind", ["plate", "bioformats2raw"])
def test_several_images_are_positions(tmp_path, spec, version, kind):
    one, two = cases.volume(1), cases.volume(2)
    path = tmp_path / "screen.zarr"
    if kind == "plate":
        cases.write_plate(path, {"A/1": one, "B/2": two}, version)
        yaozarrs.validate_zarr_store(str(path))
    else:
        cases.write_bioformats2raw(path, [one, two], version)
    with find_pairs(tmp_path, spec) as found:
        positions = {"plate": ["A/1/0", "B/2/0"], "bioformats2raw": ["0", "1"]}[kind]
        assert sorted({pair.position for pair in found.pairs}) == positions
        assert len({pair.name for pair in found.pairs}) == len(found.pairs) == 16
        assert len({pair.frame for pair in found.pairs}) == 4
        for pair in (found.pairs[3], found.pairs[-1]):
            expected = (one if pair.position == positions[0] else two)[pair.t, :, pair.z]
            np.testing.assert_array_equal(found.read(pair).source[0, 0], expected[0])
            np.testing.assert_array_equal(found.read(pair).target[0, 0], expected[1])


def test_a_set_of_tiff_files_with_holes_is_one_movie(tmp_path, spec):
    pixels = cases.volume(shape=(4, 2, 1, 24, 32))
    cases.write_sparse_set(tmp_path, pixels)
    with find_pairs(tmp_path, spec) as found:
        assert [pair.t for pair in found.pairs] == [0, 2]
        for pair in found.pairs:
            data = found.read(pair)
            np.testing.assert_array_equal(data.source[0, 0], pixels[pair.t, 0, 0])
            np.testing.assert_array_equal(data.target[0, 0], pixels[pair.t, 1, 0])


def test_data_sets_of_micro_manager_are_movies(tmp_path, spec):
    pixels = cases.volume(shape=(4, 2, 1, 24, 32))
    planes = [
        ({"time": t, "channel": cases.NAMES[c]}, pixels[t, c, 0])
        for t, c in np.ndindex(4, 2)
        if c == 0 or t % 2 == 0
    ]
    cases.write_ndtiff(tmp_path, planes)
    with find_pairs(tmp_path, spec) as found:
        assert found.names == ("cells_1",)
        assert [pair.t for pair in found.pairs] == [0, 2]
        for pair in found.pairs:
            data = found.read(pair)
            np.testing.assert_array_equal(data.source[0, 0], pixels[pair.t, 0, 0])
            np.testing.assert_array_equal(data.target[0, 0], pixels[pair.t, 1, 0])


def test_several_series_of_a_tiff_are_positions(tmp_path, spec):
    one, two = cases.volume(1), cases.volume(2)
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as writer:
        for name, pixels in (("left", one), ("right", two)):
            told = {"axes": "TCZYX", "Name": name, "Channel": {"Name": list(cases.NAMES)}}
            writer.write(pixels, photometric="minisblack", metadata=told)
    with find_pairs(tmp_path, spec) as found:
        last = found.pairs[-1]
        assert (last.position, last.name) == ("right", "right_t00001_z003")
        np.testing.assert_array_equal(found.read(last).target[0, 0], two[1, 1, 3])


def test_a_folder_may_mix_kinds_and_flat_fields(tmp_path, recipe_of):
    make_movie(tmp_path, "pngs", n=2)
    cases.write_zarr(tmp_path / "foreign.zarr", cases.volume(shape=(1, 3, 1, 64, 64)))
    cases.write_ome_tiff(tmp_path / "tiff.ome.tif", cases.volume(shape=(2, 3, 1, 64, 64)))
    write_image(tmp_path / "flat.tif", np.full((64, 64), 2.0, np.float32))
    (tmp_path / "notes.txt").write_text("not a movie")
    write_image(tmp_path / "overview.tif", np.zeros((20, 20), np.uint8))
    recipe = recipe_of(source={"flat_field": "flat.tif"})
    with find_pairs(tmp_path, PairSpec.of_recipe(recipe)) as found:
        assert found.names == ("foreign", "pngs", "tiff")
        assert [len(movie.pairs) for movie in found.movies] == [1, 2, 2]


@pytest.mark.parametrize("kind", ["zarr 0.5", "compressed OME-TIFF"])
def test_nothing_but_what_is_asked_is_read(tmp_path, spec, kind):
    """A damaged plane costs those alone who ask for it."""
    name, write = WRITERS[kind]
    path = tmp_path / name
    pixels = cases.volume()
    write(path, pixels)
    if path.is_dir():
        for chunk in (path / "0" / "c" / "1").rglob("*"):
            if chunk.is_file():
                chunk.write_bytes(b"damaged")
    else:
        with tifffile.TiffFile(path) as file:
            page = file.pages[len(file.pages) - 1]
            at, n = page.dataoffsets[0], page.databytecounts[0]
        damaged = bytearray(path.read_bytes())
        damaged[at : at + n] = bytes(n)
        path.write_bytes(damaged)
    channels = [slot.channel for slot in spec.slots]
    assert channels == ["brightfield", "mitochondria"]
    green = spec.targets[0].__class__("nuclei")  # the last page of the file
    with find_pairs(path, PairSpec(**{**_fields(spec), "targets": (green,)})) as found:
        np.testing.assert_array_equal(found.read(found.pairs[0]).target[0, 0], pixels[0, 2, 0])
        with pytest.raises(DataError, match=r"(?i)cannot (be )?read") as caught:
            found.read(found.pairs[-1])
        assert "\n" not in str(caught.value)


def _fields(spec):
    return {name: getattr(spec, name) for name in spec.__dataclass_fields__}


def test_stacks_in_channel_folders(tmp_path, recipe_of):
    pixels = cases.volume(shape=(1, 2, 5, 40, 48))[0]
    for stem in ("f1", "f2"):
        for c, channel in enumerate(("brightfield", "mitochondria")):
            write_image(tmp_path / "movie-x" / channel / f"{stem}.tif", pixels[c])
    recipe = recipe_of(window={"z": 3}, z_step_um=0.3)
    with find_pairs(tmp_path, PairSpec.of_recipe(recipe)) as found:
        assert len(found.pairs) == 10
        assert (found.pairs[6].name, found.pairs[6].frame) == ("f2_t00000_z001", "f2")
        data = found.read(found.pairs[6])
        np.testing.assert_array_equal(data.source[0], pixels[0, :3])
        np.testing.assert_array_equal(data.target[0, 0], pixels[1, 1])


def test_notes_say_what_a_file_does_not(tmp_path, recipe_of, spec):
    make_movie(tmp_path, "a")
    (tmp_path / "movie-a" / "movie.yaml").write_text("pixel_size_um: 0.2\n")
    with pytest.raises(DataError, match=r"0\.2 um.*expects 0\.1 um"):
        find_pairs(tmp_path, spec)
    tiff = tmp_path / "b.tif"
    tifffile.imwrite(tiff, cases.volume(), imagej=True, metadata={"axes": "TZCYX"})
    notes = tmp_path / "b.movie.yaml"
    notes.write_text("{pixel_size_um: 0.1, channels: [a, brightfield, x, mitochondria]}")
    with find_pairs(tiff, spec) as found:
        expected = cases.volume()[0, 0, 1]
        np.testing.assert_array_equal(found.read(found.pairs[0]).source[0, 0], expected)
    notes.write_text("channels: [brightfield]")
    with pytest.raises(DataError, match=r"name 1 channels, and it has 4"):
        find_pairs(tiff, spec)
    notes.write_text("pixelsize: 3")
    with pytest.raises(SettingsError, match="pixelsize"):
        find_pairs(tiff, spec)


# -- bad input --------------------------------------------------------------------------------------


def test_what_is_no_movie_is_refused(tmp_path, spec):
    def refused(path):
        with pytest.raises(DataError) as caught:
            find_pairs(path, spec)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    tifffile.imwrite(tmp_path / "rgb.tif", np.zeros((8, 8, 3), np.uint8), photometric="rgb")
    assert "colour" in refused(tmp_path / "rgb.tif")
    cases.write_ome_tiff(tmp_path / "f8.ome.tif", cases.volume().astype(np.float64))
    assert "float64" in refused(tmp_path / "f8.ome.tif")
    (tmp_path / "bad.tif").write_bytes(b"no image")
    assert "cannot be read" in refused(tmp_path / "bad.tif")
    (tmp_path / "x.txt").write_text("")
    assert "is no movie" in refused(tmp_path / "x.txt")
    cases.new_group(tmp_path / "empty.zarr", "0.5")
    assert "without images" in refused(tmp_path / "empty.zarr")
    cases.write_zarr(tmp_path / "long.zarr", cases.volume(), um=(0.5, 0.3))
    assert "0.3 um" in refused(tmp_path / "long.zarr")
    oblong = tmp_path / "oblong.zarr"
    cases.write_zarr(oblong, cases.volume())
    text = (oblong / "zarr.json").read_text()
    (oblong / "zarr.json").write_text(text.replace("0.1\n", "0.2\n"))
    assert "square" in refused(oblong)
    cases.write_zarr(tmp_path / "names.zarr", cases.volume(), names=("DIC", "x", "y"))
    assert "no channel 'brightfield'" in refused(tmp_path / "names.zarr")


@pytest.mark.parametrize("kind", ["ome", "imagej", "pages"])
def test_a_file_that_was_cut_short_is_refused(tmp_path, spec, kind):
    pixels = cases.volume()
    whole = tmp_path / "whole.ome.tif"
    if kind == "ome":
        channels = {"Channel": {"Name": list(cases.NAMES)}}
        tifffile.imwrite(whole, pixels, metadata={"axes": "TCZYX"} | channels)
    elif kind == "imagej":
        tifffile.imwrite(
            whole, pixels.transpose(0, 2, 1, 3, 4), imagej=True, metadata={"axes": "TZCYX"}
        )
    else:
        with tifffile.TiffWriter(whole) as file:
            for plane in pixels.reshape(-1, *pixels.shape[-2:]):
                file.write(plane, contiguous=False, compression="zlib")
    data = tmp_path / "data"
    data.mkdir()
    content = whole.read_bytes()
    (data / "movie-0.ome.tif").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"movie-0\.ome\.tif is cut short"):
        find_pairs(data, spec)


def test_pixels_that_are_no_numbers_are_named(tmp_path, spec):
    pixels = cases.volume(shape=(2, 3, 2, 40, 48), dtype=np.float32)
    pixels[1, 1, 0, 3, 4] = np.nan
    pixels[1, 1, 0, 3, 5] = np.inf
    cases.write_zarr(tmp_path / "a.zarr", pixels)
    with find_pairs(tmp_path, spec) as found:
        assert np.isfinite(found.read(found.pairs[0]).target).all()
        with pytest.raises(DataError, match=r"t00001_z000 of channel Mitochondria.*2 pixels.*NaN"):
            found.read(found.pairs[2])


@pytest.mark.parametrize("kind", WRITERS)
def test_sets_travel_to_other_processes(tmp_path, spec, kind):
    """What is open and kept stays behind; the copy reads the same."""
    name, write = WRITERS[kind]
    write(tmp_path / name, cases.volume(shape=(2, 3, 4, 96, 96)))
    if kind == "ImageJ":
        (tmp_path / "a.movie.yaml").write_text(f"channels: {json.dumps(cases.NAMES)}")
    with find_pairs(tmp_path, spec) as found:
        expected = found.read(found.pairs[5])
        sent = pickle.dumps(found)
        assert len(sent) < 64 * 1024
        with pickle.loads(sent) as other:
            read = other.read(other.pairs[5])
        np.testing.assert_array_equal(read.source, expected.source)
        np.testing.assert_array_equal(read.target, expected.target)
