"""Real cells: movie 009 replayed as the camera's brightfield, stained by a model that never saw it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr
from PIL import Image

from livestain.bundle import read_bundle
from livestain.metrics import no_learning_control, pearson
from livestain.store import open_store

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "models" / "folds" / "h9c2-omp25-not-009"
COMMAND = Path(sys.executable).with_name("livestain")


@pytest.fixture(scope="module")
def replayed(data_dir, tmp_path_factory):
    out = tmp_path_factory.mktemp("replay") / "movie-009.ome.zarr"
    movie = data_dir / "h9c2-omp25" / "movie-009"
    done = subprocess.run(
        [
            *(str(COMMAND), "run", str(ROOT / "examples" / "replay_movie.yaml")),
            *("--replay", str(movie), "--pixel-size", "0.08", "--out", str(out)),
            *("--model", f"mitochondria={MODEL}", "--json"),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return movie, out, json.loads(done.stdout.splitlines()[-1])


@pytest.mark.data
@pytest.mark.slow
def test_every_plane_of_the_movie_and_its_prediction_is_stored(replayed):
    movie, out, result = replayed
    assert (result["planes_acquired"], result["planes_stained"]) == (51, 51)
    assert result["planes_missing"] == 0
    array = zarr.open(out, mode="r")["0"]
    files = sorted((movie / "brightfield").iterdir(), key=lambda f: f.name)
    assert len(files) == array.shape[0] == 51
    for t, file in enumerate(files):
        np.testing.assert_array_equal(array[t, 0, 0], np.asarray(Image.open(file)))


@pytest.mark.data
@pytest.mark.slow
def test_predictions_agree_with_the_real_fluorescence(replayed):
    movie, out, result = replayed
    gains = []
    with open_store(out) as store:
        for index in store.plan.planned_indices(1):
            file = sorted((movie / "mitochondria").iterdir(), key=lambda f: f.name)[index.t]
            true = np.asarray(Image.open(file))
            control = pearson(no_learning_control(store.read(index.at(c=0))), true)
            gains.append(pearson(store.read_decoded(index), true) - control)
    assert np.mean(gains) >= 0.10
    assert result["pearson_control"] == pytest.approx(0.381, abs=0.001)
    gain = result["pearson_by_channel"]["mitochondria"] - result["pearson_control"]
    assert gain == pytest.approx(np.mean(gains), abs=2e-4)


def test_the_model_has_not_seen_the_movie():
    card = read_bundle(MODEL).read_file("README.md").decode()
    trained = card.split("Trained on:")[1].split("## Licence")[0]
    assert "| 010 |" in trained
    assert "| 011 |" in trained
    assert "| 009 |" not in trained
    assert read_bundle(MODEL).licence == "GPL-3.0-only"
