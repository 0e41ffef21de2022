"""livestain simulate: what it says, what it refuses, Ctrl-C, and a training on what it makes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from livestain.simulating import movie_path
from livestain.store import open_store

RECIPE = """
name: tiny
network: {name: unet2d, kwargs: {width: 4, depth: 2}}
source: {channel: Brightfield, kind: brightfield}
targets:
  - channel: TARGET
    output: {name: mitochondria, unit: sd, scale: 0.001, offset: -20.0, display: [-1, 4]}
pixel_size_um: 0.1
pixel_size_range_um: [0.08, 0.12]
crop: 32
batch_size: 2
steps: 3
card: {licence: CC0-1.0}
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three movies of two time points, as the command makes them; the folder."""
    from livestain.cli.app import run

    out = tmp_path_factory.mktemp("data") / "simulated"
    words = ["--movies", "3", "--seed", "11", "--size", "32x36", "--kind", "time", "--times", "2"]
    assert run(["simulate", "--out", str(out), *words]) == 0
    return out


def test_profiles_are_listed(livestain):
    ended = livestain("simulate", "--list")
    assert ended.code == 0
    assert "hela-60x" in ended.out
    assert "0.08 um" in ended.out


def test_it_tells_what_it_made_and_again_makes_nothing(livestain, data):
    words = ("--movies", 3, "--seed", 11, "--size", "32x36", "--kind", "time", "--times", 2)
    before = movie_path(data, 11).stat().st_mtime_ns
    ended = livestain("simulate", "--out", data, *words, "--json")
    assert ended.code == 0
    told = json.loads(ended.out.splitlines()[-1])
    assert told["movies"] == told["kept"] == [str(movie_path(data, 11 + n)) for n in range(3)]
    assert told["planes"] == 0
    assert movie_path(data, 11).stat().st_mtime_ns == before
    ended = livestain("simulate", "--out", data, *words, "--movies", 2)
    assert "0 of 2 movies made" in ended.out
    assert "2 were there already" in ended.out


def recipe_of(tmp_path, target):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.replace("TARGET", target))
    return recipe


def test_what_the_camera_sees_can_be_learnt_too(tmp_path, data):
    from livestain.training import Recipe, find_pairs
    from livestain.training.pairs import PairSpec

    recipe = Recipe.from_yaml(recipe_of(tmp_path, "Mitochondria"))
    with (
        find_pairs(data, PairSpec.of_recipe(recipe)) as pairs,
        open_store(movie_path(data, 12)) as store,
    ):
        assert pairs.names == ("0011", "0012", "0013")
        read = pairs.read(pairs.select(["0012"]).pairs[1])
        assert np.array_equal(read.source[0, 0], store["Brightfield"][1, 0])
        assert np.array_equal(read.target[0, 0], store["Mitochondria"][1, 0])


def test_a_training_reads_it_as_it_is_and_its_model_is_for_simulated_cells(
    livestain, tmp_path, data
):
    from livestain.bundle import read_bundle

    recipe, run = recipe_of(tmp_path, "Mitochondria truth"), tmp_path / "run"
    words = ("--data", data, "--out", run, "--leave-out", "0012", "--device", "cpu")
    ended = livestain("train", recipe, *words)
    assert ended.code == 0, ended.err
    assert "All movies to train on are simulated" in ended.err
    facts = json.loads((run / "data.json").read_text())
    assert set(facts["movies"]) == {"0011", "0013"}
    assert all(movie["simulated"] and movie["pairs"] == 2 for movie in facts["movies"].values())
    ended = livestain("export", run, "--out", tmp_path / "bundle", "--no-onnx")
    assert ended.code == 0, ended.err
    assert read_bundle(tmp_path / "bundle").description.simulated


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--size", "big"], "--size big is no size of a plane"),
        (["--size", "8"], "size.0"),
        (["--kind", "3d"], "There is no --kind 3d; expected one of 2d, stack, time"),
        (["--profile", "hela-60"], "Did you mean hela-60x?"),
        (["--interval", "0"], "interval_s"),
        (["--movies", "1000", "--size", "200000"], "Make room"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(livestain, tmp_path, words, said):
    ended = livestain("simulate", "--out", tmp_path / "out", *words)
    assert ended.code == 2
    assert said in ended.err
    assert "Traceback" not in ended.err
    assert not (tmp_path / "out").exists()


def test_a_folder_must_be_given_and_be_one(livestain, tmp_path):
    assert "--out missing" in livestain("simulate").err
    file = tmp_path / "file"
    file.write_text("x")
    ended = livestain("simulate", "--out", file)
    assert ended.code == 2
    assert "is a file" in ended.err


def test_a_profile_of_ones_own(livestain, tmp_path):
    own = tmp_path / "mine.yaml"
    own.write_text("name: mine\npixel_size_um: 0.2\n")
    words = ("--movies", 1, "--fields", 1, "--size", 16)
    ended = livestain("simulate", "--out", tmp_path / "out", "--profile", own, *words)
    assert ended.code == 0, ended.err
    with open_store(movie_path(tmp_path / "out", 1)) as store:
        assert store.plan.pixel_size_um == 0.2
        assert store.attributes["simulation"]["settings"]["profile"]["name"] == "mine"


@pytest.mark.skipif(sys.platform == "win32", reason="a signal cannot be sent to one process there")
def test_ctrl_c_leaves_no_half_movie(tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "livestain", "simulate", "--out", str(out), "--json"]
    words = ["--movies", "1", "--size", "16", "--kind", "time", "--times", "100000"]
    process = subprocess.Popen(
        [*command, *words], stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    journal = out / ".movie-0001.ome.zarr.simulating" / "movie-0001.ome.zarr.journal.jsonl"
    try:
        while not (journal.is_file() and b'"plane"' in journal.read_bytes()):
            assert process.poll() is None
            time.sleep(0.01)  # nothing tells of a line in a file
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert json.loads(told.splitlines()[-1])["interrupted"]
    assert not list(out.iterdir())
