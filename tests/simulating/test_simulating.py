"""Simulated movies: each pixel follows from what the store says of itself; readers see truth and labels."""

from __future__ import annotations

import csv
import hashlib
import threading
from pathlib import Path

import numpy as np
import pytest
from ome_types import from_tiff

from livestain.errors import DataError, SettingsError, StoreError
from livestain.planes import PlaneIndex
from livestain.recordings import open_recording
from livestain.simulate import Dish, Profile, find_profile, profile_names
from livestain.simulate.cells import cells_near
from livestain.simulating import MovieSettings, SimulatedMovie, movie_path, simulate_movies
from livestain.store import Labels, create_store, encode, export_tiff, open_store, store_status

TINY = MovieSettings(seed=3, size=(24, 24))


def test_each_pixel_follows_from_what_the_store_says(small_movie):
    """With the dish alone: profile, seed and places are read from the store's attributes."""
    with open_store(small_movie) as store:
        assert store.attributes["simulated"] is True
        made = store.attributes["simulation"]
        settings, planes = made["settings"], made["planes"]
        profile = Profile.model_validate(settings["profile"])
        dish = Dish(settings["seed"], profile, shape=tuple(settings["size"]))
        labels = Labels(store, made["labels"])
        for p, t, z in [(0, 0, 0), (1, 1, 1)]:
            at = planes["time_s"][t], planes["z_um"][p][z], tuple(planes["xy_um"][p])
            frame = (p * settings["times"] + t) * settings["planes"] + z
            counts = {
                "Brightfield": dish.brightfield(*at, exposure_ms=10, frame=frame),
                "Mitochondria": dish.fluorescence(*at, exposure_ms=100, frame=frame),
                "DNA": dish.fluorescence(*at, exposure_ms=100, frame=frame, label="dna"),
            }
            for name, expected in counts.items():
                c = store.plan.c_of(name)
                assert np.array_equal(store.read(PlaneIndex(p, t, c, z)), expected), name
            channel = store["Mitochondria truth"]
            assert channel.is_truth
            assert channel.unit == "photo-electrons per pixel and millisecond"
            step = store.attributes["encoding"]["Mitochondria truth"]["scale"]
            truth = dish.truth(*at)
            assert np.abs(channel[p, t, z] - truth).max() <= 0.51 * step
            assert np.asarray(channel).max() > 100 * step
            mask = labels.read(PlaneIndex(p, t, 0, z))
            assert np.array_equal(mask, dish.mask(*at))
            numbers = [n for n in made["network"] if (n["p"], n["t"]) == (p, t)]
            expected_numbers = dish.network(at[0], at[2])
            assert numbers[0]["length_um"] == pytest.approx(expected_numbers.length_um, abs=1e-3)
            assert numbers[0]["number"] == expected_numbers.number


def test_a_movie_is_computed_again_from_its_store(small_movie):
    with open_store(small_movie) as store:
        movie = SimulatedMovie.of_store(store)
        for name in store:
            plane, coding = movie.plane(name, 1, 0, 1), movie.coding(name)
            if coding is not None:
                plane = encode(plane, coding.scale, coding.offset)
            assert np.array_equal(store.read(movie.index(name, 1, 0, 1)), plane), name


def test_the_store_says_where_its_planes_are_and_is_whole(small_movie):
    status = store_status(small_movie)
    assert status.finished
    assert (status.planned, status.owed, status.missing) == (40, 0, 0)
    with open_store(small_movie) as store:
        plan = store.plan
        assert (plan.n_p, plan.n_t, plan.n_z) == (2, 2, 2)
        assert (plan.pixel_size_um, plan.z_step_um, plan.t_interval_s) == (0.1, 0.6, 30.0)
        z = store.attributes["simulation"]["planes"]["z_um"]
        assert z == [[-0.3, 0.3], [-0.3, 0.3]]
        assert "SIMULATED TRUTH" in repr(store["DNA truth"])
        assert "acquired" in repr(store["DNA"])
    table = small_movie.with_name("movie-0005.truth.csv")
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    assert [(row["p"], row["t"]) for row in rows] == [
        ("0", "0"),
        ("0", "1"),
        ("1", "0"),
        ("1", "1"),
    ]
    assert all(float(row["length_um"]) >= 0 for row in rows)


def test_the_truth_is_what_the_camera_sees_without_noise(small_movie):
    """Over all pixels the measured counts follow the truth's electrons by the camera's gain."""
    with open_store(small_movie) as store:
        seen = np.asarray(store["Mitochondria"], np.float64).ravel()
        truth = np.asarray(store["Mitochondria truth"], np.float64).ravel()
        sensor = SimulatedMovie.of_store(store).settings.profile.sensor
    slope, _ = np.polyfit(truth, seen, 1)
    assert slope == pytest.approx(100 * sensor.gain, rel=0.05)
    assert np.corrcoef(truth, seen)[0, 1] > 0.95


def test_the_trainer_knows_it_for_simulated(small_movie):
    recording = open_recording(small_movie)
    assert recording.simulated
    assert recording.channels == (
        "Brightfield",
        "Mitochondria",
        "Mitochondria truth",
        "DNA",
        "DNA truth",
    )
    recording.close()


def pixels_of(path):
    with open_store(path) as store:
        digest = hashlib.sha256()
        for index in sorted(store.present_indices()):
            digest.update(store.read(index).tobytes())
            digest.update(Labels(store, "mitochondria").read(index).tobytes())
        return digest.hexdigest()


def test_the_same_settings_give_the_same_pixels_and_another_seed_others(tmp_path):
    first = simulate_movies(tmp_path / "a", TINY, movies=2)
    again = simulate_movies(tmp_path / "b", TINY, movies=2)
    hashes = [[pixels_of(path) for path in report.movies] for report in (first, again)]
    assert hashes[0] == hashes[1]
    assert hashes[0][0] != hashes[0][1]
    assert (tmp_path / "a" / "overview.png").stat().st_size > 1000


def test_what_is_stopped_leaves_no_half_movie_and_the_same_call_goes_on(tmp_path):
    stop = threading.Event()
    settings = TINY.model_copy(update={"times": 3})

    def stopping(done, of):
        if done == 4:  # in the second movie
            stop.set()

    report = simulate_movies(tmp_path, settings, movies=2, stop=stop, progress=stopping)
    assert report.interrupted
    assert report.movies == [str(movie_path(tmp_path, 3))]
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "movie-0003.ome.zarr",
        "movie-0003.ome.zarr.journal.jsonl",
        "movie-0003.truth.csv",
        "overview.png",
    }
    # Of a process that was killed.
    (tmp_path / ".movie-0004.ome.zarr.simulating").mkdir()
    done = []
    report = simulate_movies(tmp_path, settings, movies=2, progress=lambda *n: done.append(n))
    assert not report.interrupted
    assert report.kept == [str(movie_path(tmp_path, 3))]
    assert done[0] == (3, 6)
    assert done[-1] == (6, 6)
    assert not list(tmp_path.glob(".movie*"))
    assert store_status(report.movies[1]).missing == 0


def test_another_movie_of_the_name_is_replaced_only_if_asked(tmp_path):
    simulate_movies(tmp_path, TINY)
    other = TINY.model_copy(update={"exposure_ms": 20.0})
    with pytest.raises(DataError, match="is there already, made otherwise"):
        simulate_movies(tmp_path, other)
    simulate_movies(tmp_path, other, overwrite=True)
    with open_store(movie_path(tmp_path, 3)) as store:
        assert store.attributes["simulation"]["settings"]["exposure_ms"] == 20.0
    stranger = movie_path(tmp_path, 4)
    stranger.mkdir()
    (stranger / "thesis.txt").write_text("mine")
    with pytest.raises(StoreError, match="is not a Zarr group"):
        simulate_movies(tmp_path, TINY, movies=2, overwrite=True)
    assert (stranger / "thesis.txt").is_file()


def parts_of(folder):
    """Every file of the movies in a folder, but the picture of all."""
    return {
        str(f.relative_to(folder)): f.read_bytes()
        for f in sorted(folder.rglob("*"))
        if f.is_file() and f.name != "overview.png"
    }


@pytest.mark.parametrize("stuck", ["journal", "truth", "store"])
def test_a_replacement_that_fails_leaves_the_old_movie_whole(tmp_path, monkeypatch, stuck):
    """As on Windows, where a file that a program has open cannot be moved."""
    simulate_movies(tmp_path, TINY)
    before = parts_of(tmp_path)
    name = {"journal": ".journal.jsonl", "truth": ".truth.csv", "store": ".ome.zarr"}[stuck]
    moved = Path.rename

    def rename(self, target):
        building = self.parent.name.endswith(".simulating")
        if building and self.name.endswith(name):
            raise PermissionError(13, "in use")
        return moved(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    other = TINY.model_copy(update={"exposure_ms": 20.0})
    with pytest.raises(StoreError, match=r"Cannot put .*: in use\. Close the programs"):
        simulate_movies(tmp_path, other, overwrite=True)
    assert parts_of(tmp_path) == before


def test_what_a_killed_replacement_moved_away_is_put_back(tmp_path):
    simulate_movies(tmp_path, TINY)
    before = parts_of(tmp_path)
    path = movie_path(tmp_path, 3)
    aside = tmp_path / f".{path.name}.simulating" / "old"
    aside.mkdir(parents=True)
    # It had moved the old store and table, and put its own table there.
    for part in (path, tmp_path / "movie-0003.truth.csv"):
        part.rename(aside / part.name)
    (tmp_path / "movie-0003.truth.csv").write_text("of the new one", encoding="utf-8")
    other = TINY.model_copy(update={"exposure_ms": 20.0})
    with pytest.raises(DataError, match="is there already, made otherwise"):
        simulate_movies(tmp_path, other)
    report = simulate_movies(tmp_path, TINY)
    assert report.kept == [str(path)]
    left = {name: told for name, told in parts_of(tmp_path).items() if not name.startswith(".")}
    assert left == before


def test_a_store_of_a_run_is_no_simulated_movie(tmp_path):
    plan = SimulatedMovie(TINY).store_plan()
    with (
        create_store(tmp_path / "run.ome.zarr", plan) as store,
        pytest.raises(StoreError, match="was not made by livestain simulate"),
    ):
        SimulatedMovie.of_store(store)


def test_fields_do_not_overlap_and_stacks_hold_the_focus():
    movie = SimulatedMovie(MovieSettings(seed=1, size=(64, 96), fields=7, planes=5))
    assert set(movie.focus_um) == {0.0}
    assert [movie.shown(0, 0, z).z_um for z in range(5)] == [-1.0, -0.5, 0.0, 0.5, 1.0]
    centres = np.array(movie.centres_um)
    away = np.abs(centres[:, None] - centres[None])
    apart = (away[..., 0] >= 9.6) | (away[..., 1] >= 6.4)
    assert apart[~np.eye(7, dtype=bool)].all()
    assert len(set(movie.places())) == 35


@pytest.mark.parametrize("profile", ["hela-60x", "h9c2-60x"])
def test_no_cell_is_in_two_fields(profile):
    """Else it would be learnt from in one field, and scored in the other."""
    movie = SimulatedMovie(
        MovieSettings(seed=2, profile=find_profile(profile), size=(24, 40), fields=4)
    )
    pixel = movie.settings.profile.pixel_size_um
    half = 40 * pixel / 2, 24 * pixel / 2
    seen = [
        {tuple(cell.centre) for cell in cells_near(2, movie.settings.profile.cells, xy, half)}
        for xy in movie.centres_um
    ]
    assert all(seen)
    assert len(set().union(*seen)) == sum(map(len, seen))


def test_fields_of_single_planes_are_out_of_focus_as_asked():
    movie = SimulatedMovie(MovieSettings(seed=1, fields=400))
    assert np.std(movie.focus_um) == pytest.approx(0.3, rel=0.1)


@pytest.mark.parametrize("name", profile_names())
def test_truth_is_never_cut(name):
    """What can be stored at most is several times what bright places of a profile are."""
    movie = SimulatedMovie(MovieSettings(profile=find_profile(name), size=(32, 32), dna=True))
    for channel in ("Mitochondria truth", "DNA truth"):
        coding = movie.coding(channel)
        most = coding.scale * 65535 + coding.offset
        assert movie.plane(channel, 0, 0, 0).max() < most / 2


@pytest.mark.parametrize(
    ("given", "match"),
    [({"size": (8, 64)}, "size.0"), ({"interval_s": 0}, "interval_s"), ({"seed": -1}, "seed")],
)
def test_settings_that_cannot_be_are_refused(given, match):
    with pytest.raises(SettingsError, match=match):
        MovieSettings.parse(given, where="the settings")


def test_an_exported_movie_is_still_of_simulated_cells(small_movie, tmp_path):
    done = export_tiff(small_movie, tmp_path / "movie.ome.tif")
    assert len(done.files) == 2
    for file in done.files:
        described = from_tiff(file)
        (reference,) = described.images[0].annotation_refs
        notes = described.structured_annotations.map_annotations
        (note,) = (note for note in notes if note.id == reference.id)
        assert {m.k: m.value for m in note.value.ms}["simulated"] == "true"
        recording = open_recording(file)
        assert recording.simulated
        recording.close()
