"""Finding and reading pairs, and what is refused."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image
from training_cases import make_movie, make_pair, write_image

from livestain.errors import DataError
from livestain.planes import PlaneIndex
from livestain.store import (
    ChannelPlan,
    PlannedBlock,
    PositionPlan,
    StorePlan,
    VirtualPlan,
    create_store,
)
from livestain.training.checks import run_checks
from livestain.training.find import find_pairs
from livestain.training.pairs import PairSpec


def spec_of(recipe):
    return PairSpec.of_recipe(recipe)


@pytest.fixture
def spec(recipe_of):
    return spec_of(recipe_of())


def make_store(path, *, n_t=3, n_z=3, every=2, pixel_size_um=0.1, z_step_um=0.5):
    """A store with brightfield everywhere and fluorescence in the middle plane now and then."""
    sparse = (PlannedBlock(t=range(0, n_t, every), z=(n_z // 2,)),)
    full = (PlannedBlock(t=range(n_t), z=range(n_z)),)
    plan = StorePlan(
        n_t=n_t,
        n_z=n_z,
        height=64,
        width=64,
        pixel_size_um=pixel_size_um,
        z_step_um=z_step_um,
        channels=(
            ChannelPlan(name="Brightfield", kind="raw", planned=full),
            ChannelPlan(name="Mitochondria", kind="raw", planned=sparse),
        ),
    )
    written = {}
    with create_store(path, plan) as store:
        for c in range(2):
            for index in plan.planned_indices(c):
                source, target = make_pair(10 * index.t + index.z, dtype=np.uint16)
                written[index] = (source, target)[c]
                store.write(index, written[index]).result(timeout=20)
    return written


def test_folders_of_all_formats(data, spec):
    with find_pairs(data, spec) as found:
        assert found.names == ("a", "b", "c")
        assert [len(movie.pairs) for movie in found.movies] == [4, 4, 4]
        for movie, seed, dtype in zip(
            found.movies, (1, 2, 3), (np.uint8, *[np.uint16] * 2), strict=True
        ):
            for i, pair in enumerate(movie.pairs):
                data = found.read(pair)
                true_source, true_target = make_pair(100 * seed + i, dtype=dtype)
                assert data.source.dtype == data.target.dtype == dtype
                np.testing.assert_array_equal(data.source, true_source[None, None])
                np.testing.assert_array_equal(data.target, true_target[None, None])
                assert data.present.tolist() == [[True]]


def test_one_movie_by_itself_and_capitals(data, spec):
    (data / "movie-a" / "brightfield").rename(data / "movie-a" / "Brightfield")
    assert find_pairs(data / "movie-a", spec).names == ("a",)


def test_crops_of_one_frame_are_known(data, spec):
    movie = make_movie(data, "d", n=1)
    for channel in ("brightfield", "mitochondria"):
        shutil.copy(movie / channel / "t000_z000_0.png", movie / channel / "t000_z000_7.png")
    (last,) = find_pairs(data, spec).select(["d"]).movies
    assert [pair.frame for pair in last.pairs] == ["t000_z000"] * 2


def test_stores_give_the_planes_where_both_are_there(tmp_path, spec):
    written = make_store(tmp_path / "data" / "run.ome.zarr")
    with find_pairs(tmp_path / "data", spec) as found:
        (movie,) = found.movies
        assert movie.name == "run"
        assert [pair.name for pair in movie.pairs] == ["t00000_z001", "t00002_z001"]
        pixels = found.read(movie.pairs[1])
        np.testing.assert_array_equal(pixels.source[0, 0], written[PlaneIndex(0, 2, 0, 1)])
        np.testing.assert_array_equal(pixels.target[0, 0], written[PlaneIndex(0, 2, 1, 1)])


def test_stores_serve_z_windows(tmp_path, recipe_of):
    written = make_store(tmp_path / "run.ome.zarr")
    recipe = recipe_of(window={"z": 3}, z_step_um=0.5)
    with find_pairs(tmp_path / "run.ome.zarr", spec_of(recipe)) as found:
        expected = [written[PlaneIndex(0, 0, 0, z)] for z in range(3)]
        np.testing.assert_array_equal(found.read(found.pairs[0]).source[0], np.stack(expected))


def test_predictions_are_never_learnt_from(tmp_path, spec):
    """A live run without fluorescence has a mitochondria channel all the same: our own."""
    full = (PlannedBlock(t=range(2), z=(0,)),)
    virtual = VirtualPlan(
        source="Brightfield",
        scale=0.001,
        offset=-20.0,
        unit="sd",
        bundle="b",
        bundle_sha256="0" * 64,
        output="m",
    )
    plan = StorePlan(
        n_t=2,
        n_z=1,
        height=64,
        width=64,
        pixel_size_um=0.1,
        channels=(
            ChannelPlan(name="Brightfield", kind="raw", planned=full),
            ChannelPlan(name="Mitochondria", kind="virtual", planned=full, virtual=virtual),
        ),
    )
    with create_store(tmp_path / "run.ome.zarr", plan) as store:
        for index in plan.planned_indices(0):
            store.write(index, make_pair(0, dtype=np.uint16)[0]).result(timeout=20)
            store.write_virtual(index.at(c=1), make_pair(0, dtype=np.uint16)[1] / 1e4)
    with pytest.raises(DataError, match=r"no raw channel 'mitochondria'; it has: Brightfield\."):
        find_pairs(tmp_path, spec)


@pytest.mark.parametrize("names", [("A", "A", "p0"), ("", "p0", ""), ("", "", "")])
def test_positions_of_one_name_show_different_cells(tmp_path, spec, names):
    both = (PlannedBlock(p=range(3), t=(0,), z=(0,)),)
    plan = StorePlan(
        positions=tuple(PositionPlan(name=n, path=str(p)) for p, n in enumerate(names)),
        n_t=1,
        n_z=1,
        height=64,
        width=64,
        pixel_size_um=0.1,
        channels=tuple(
            ChannelPlan(name=name, kind="raw", planned=both)
            for name in ("Brightfield", "Mitochondria")
        ),
    )
    with create_store(tmp_path / "run.ome.zarr", plan) as store:
        for c in range(2):
            for index in plan.planned_indices(c):
                image = make_pair(index.p, dtype=np.uint16)[c]
                store.write(index, image).result(timeout=20)
    with find_pairs(tmp_path, spec) as found:
        assert len(found.pairs) == 3
        assert len({pair.frame for pair in found.pairs}) == 3
        assert len({pair.name for pair in found.pairs}) == 3
        for pair in found.pairs:
            source, _ = make_pair(int(pair.position), dtype=np.uint16)
            np.testing.assert_array_equal(np.squeeze(found.read(pair).source), source)


def test_large_movies_are_hashed_in_part_and_say_so(data, spec, monkeypatch):
    whole = find_pairs(data, spec).sha256()
    monkeypatch.setattr("livestain.training.pairs._HASH_BYTES", 2 * 2 * 64 * 64)
    part = find_pairs(data, spec).sha256()
    assert part["a"].endswith(" (1 in 2 pairs)")
    assert part["a"][:64] != whole["a"]
    write_image(data / "movie-a" / "mitochondria" / "t001_z000_1.png", make_pair(9)[1])
    assert find_pairs(data, spec).sha256()["a"] == part["a"]  # the second pair is not in it
    write_image(data / "movie-a" / "mitochondria" / "t002_z000_2.png", make_pair(9)[1])
    assert find_pairs(data, spec).sha256()["a"] != part["a"]


def test_movies_hash_by_pixels_not_by_file_format(tmp_path, spec):
    make_movie(tmp_path / "one", "a")
    make_movie(tmp_path / "two", "a", suffix=".tif")
    make_movie(tmp_path / "three", "a", seed=1)
    one, two, three = (find_pairs(tmp_path / x, spec).sha256() for x in ("one", "two", "three"))
    assert one == two
    assert one != three


def test_selecting(data, spec):
    found = find_pairs(data, spec)
    assert found.select(["a", "movie-c"]).names == ("a", "c")
    assert found.select(leave_out=["movie-a"]).names == ("b", "c")
    with pytest.raises(DataError, match=r"no movie 'x'.*a, b, c"):
        found.select(["x"])
    with pytest.raises(DataError, match=r"no movie 'x'"):
        found.select(leave_out=["x"])
    with pytest.raises(DataError, match="No movie is left"):
        found.select(["a"], leave_out=["a"])


def test_memory_is_bounded(data, spec, monkeypatch):
    monkeypatch.setattr("livestain.training.pool._CACHE_BYTES", 6 * 64 * 64 * 2)
    found = find_pairs(data, spec)
    for pair in found.pairs * 2:
        found.read(pair)
        kept = sum(plane.nbytes for plane in found.reader._pool._kept.values())
        assert 0 < kept <= 6 * 64 * 64 * 2


# -- bad input --------------------------------------------------------------------------------------


def no_folder(data):
    shutil.rmtree(data)


def empty(data):
    shutil.rmtree(data)
    data.mkdir()


def no_images(data):
    for path in data.rglob("*.*"):
        path.unlink()


def no_target_folder(data):
    shutil.rmtree(data / "movie-b" / "mitochondria")


def one_more_source(data):
    write_image(data / "movie-a" / "brightfield" / "zzz.png", make_pair(0)[0])


def twice_by_suffix(data):
    write_image(data / "movie-a" / "brightfield" / "t000_z000_0.tif", make_pair(0)[0])


def other_shape(data):
    write_image(data / "movie-a" / "mitochondria" / "t001_z000_1.png", make_pair(0, (64, 62))[1])


def colour(data):
    Image.new("RGB", (64, 64)).save(data / "movie-a" / "brightfield" / "t001_z000_1.png")


def palette(data):
    Image.new("P", (64, 64)).save(data / "movie-a" / "brightfield" / "t001_z000_1.png")


def broken(data):
    (data / "movie-a" / "brightfield" / "t001_z000_1.png").write_bytes(b"no image")


def floats(data):
    write_image(
        data / "movie-b" / "mitochondria" / "t001_z000_1.tif", np.ones((64, 64), np.float64)
    )


def stack(data):
    write_image(
        data / "movie-b" / "mitochondria" / "t001_z000_1.tif", np.ones((7, 64, 64), np.uint8)
    )


def constant(data):
    flat = np.full((64, 64), 9, np.uint8)
    write_image(data / "movie-a" / "mitochondria" / "t001_z000_1.png", flat)


def too_small(data):
    make_movie(data, "d", n=1, shape=(31, 64))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (no_folder, ["no folder", "movie-NAME/brightfield"]),
        (empty, ["no pairs", "movie-NAME/mitochondria", "ome.zarr"]),
        (no_images, ["no pairs"]),
        (no_target_folder, ["movie-b", "no folder 'mitochondria'"]),
        (one_more_source, ["no counterpart", "brightfield/zzz"]),
        (twice_by_suffix, ["suffix alone"]),
        (other_shape, ["t001_z000_1", "differ in shape", "64 x 62"]),
        (colour, ["colour image", "t001_z000_1.png"]),
        (palette, ["colour image"]),
        (broken, ["cannot be read", "t001_z000_1.png"]),
        (floats, ["float64", "8 or 16 bits", "float32"]),
        (stack, ["7 planes", "one plane"]),
        (constant, ["constant", "t001_z000_1", "movie a"]),
        (too_small, ["31 x 64", "crop of 32"]),
    ],
)
def test_bad_input_is_told_in_one_sentence(data, recipe_of, spoil, words):
    spoil(data)
    recipe = recipe_of()
    with pytest.raises(DataError) as caught:
        run_checks(find_pairs(data, spec_of(recipe)), recipe)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_stores(tmp_path, recipe_of):
    make_store(tmp_path / "run.ome.zarr", pixel_size_um=0.2)
    with pytest.raises(DataError, match=r"0\.2 um.*0\.1 um"):
        find_pairs(tmp_path, spec_of(recipe_of()))
    other = recipe_of(pixel_size_um=0.2, pixel_size_range_um=[0.2, 0.2], source={"channel": "DIC"})
    with pytest.raises(DataError, match=r"no raw channel 'DIC'.*Brightfield, Mitochondria"):
        find_pairs(tmp_path, spec_of(other))


@pytest.mark.parametrize("z_step_um", [0.25, 0.52, None])
def test_stores_of_another_z_step_do_not_serve_z_windows(tmp_path, recipe_of, spec, z_step_um):
    make_store(tmp_path / "run.ome.zarr", z_step_um=z_step_um)
    with pytest.raises(DataError, match=r"(no even|z-planes 0\.).*expects 0\.5 um"):
        find_pairs(tmp_path, spec_of(recipe_of(window={"z": 3}, z_step_um=0.5)))
    assert find_pairs(tmp_path, spec).pairs  # single planes do not care


def test_sets_are_closed_with_the_set_they_were_selected_from(tmp_path, spec):
    make_store(tmp_path / "run.ome.zarr")
    with find_pairs(tmp_path, spec) as found:
        selected = found.select(["run"]).select()
        selected.read(selected.pairs[0])
        store = selected.reader._pool.recordings["run"]._opened()
        store.read(PlaneIndex(0, 0, 0, 0))
    assert store._closed


def test_files_do_not_serve_windows(data, recipe_of):
    with pytest.raises(DataError, match=r"3 planes.*stores"):
        find_pairs(data, spec_of(recipe_of(window={"z": 3}, z_step_um=0.5)))
