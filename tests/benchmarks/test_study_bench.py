"""The study's bench: its plan can be trained, its data is what it says, its cells are run once."""

import importlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from livestain.training.recipe import Recipe

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def study(monkeypatch):
    """The modules of benchmarks/study."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    names = (
        *("cell", "data", "finished", "invented", "merge", "options", "plan", "recalibrating"),
        *("running", "scoring", "steps"),
    )
    return SimpleNamespace(**{name: importlib.import_module(f"study.{name}") for name in names})


@pytest.fixture
def tiny(study, monkeypatch, tmp_path):
    """Options of a study that takes seconds: two small dishes to train on, one to test on."""
    scale = study.data.Scale(side=48, depth=4, most=2, some=2, test=2)
    budget = study.cell.Budget(scale, 1, 1, reduces=True)
    monkeypatch.setitem(study.cell.SCALES, "cpu", budget)
    real = tmp_path / "h9c2-omp25"
    return study.options.Options(
        scale="cpu",
        runs=tmp_path / "runs",
        results=tmp_path / "results",
        real=real,
        device="cpu",
        command="python benchmarks/papers.py run",
    )


@pytest.mark.parametrize("scale", ["cpu", "cuda"])
def test_every_cell_is_a_recipe_that_can_be_read(study, tiny, scale):
    cells = study.plan.cells(scale)
    names = [(cell.study, cell.name) for cell in cells]
    assert len(set(names)) == len(names)
    for cell in cells:
        recipe = Recipe.from_yaml(study.running.write_variant(cell, tiny))
        assert recipe.network_spec().name
        if scale == "cuda":
            assert not cell.reduced
        for key, value in cell.reduced.items():
            at = recipe.model_dump()
            for part in key.split("."):
                at = at[part]
            assert at == value


def words_of(study, cell, tiny, monkeypatch):
    """The words with which a cell is trained."""
    said = []
    monkeypatch.setattr(study.running, "livestain", lambda *words: said.extend(words))
    data = tiny.part(cell.data[0], "train")
    study.running._train(cell, study.running.write_variant(cell, tiny), data, 10, tiny)
    return said


def test_no_cell_trains_on_what_it_is_scored_on(study, tiny, monkeypatch):
    study.data.make_set("z", tiny.runs / "data", study.cell.SCALES["cpu"].data)
    for cell in study.plan.cells("cpu"):
        if study.cell.REAL not in cell.data:
            assert all(s.data.split("/")[1] in ("test", "truth") for s in cell.scorings)
            continue
        words = words_of(study, cell, tiny, monkeypatch)
        if cell.fold is None:
            # It is there to show what a leak buys: of its own movies, it is scored on what was held back.
            assert "leaky" in cell.name
            assert all(s.split == "test" for s in cell.scorings)
            continue
        out = [words[i + 1] for i, w in enumerate(words) if w in ("--monitor", "--leave-out")]
        assert out == [cell.fold]
        assert all(s.movie == cell.fold for s in cell.scorings)


def test_several_sets_come_together_as_many_movies_of_each(study, tiny):
    cell = next(c for c in study.plan.cells("cpu") if c.name == "unet-both")
    folder = study.running.training_data(replace(cell, sets=1), tiny)
    assert {path.name for path in folder.glob("movie-*")} == {
        "movie-z-1001.ome.zarr",
        "movie-4001.ome.zarr",
        "movie-t-1001",
    }


def test_a_time_series_is_a_stack_and_its_truth_is_the_same_dish_without_noise(study, tiny):
    folder = study.data.make_set("t", tiny.runs / "data", study.cell.SCALES["cpu"].data)
    names = {
        part: {path.name for path in (folder / part).glob("movie-*")}
        for part in ("train", "test", "truth")
    }
    assert names["train"] == {"movie-1001", "movie-1002", "movie-4001"}
    assert names["test"] == names["truth"] == {"movie-5001", "movie-5002"}
    assert study.data.movie_names(folder / "train") == ["1001", "1002"]
    seen, true = (
        tifffile.imread(folder / part / "movie-5001" / "Mitochondria" / "f0.tif").astype(float)
        for part in ("test", "truth")
    )
    assert seen.shape == true.shape == (4, 48, 48)
    assert np.corrcoef(seen.ravel(), true.ravel())[0, 1] > 0.9
    # Noise changes from pixel to pixel, and the truth, which optics has blurred, does not.
    rough = [np.abs(np.diff(stack, 2, axis=-1)).mean() / stack.std() for stack in (seen, true)]
    assert rough[0] > 1.3 * rough[1]
    assert np.array_equal(
        *(tifffile.imread(folder / p / "movie-5001/Brightfield/f0.tif") for p in ("test", "truth"))
    )


def test_two_labels_share_the_structure_and_differ_in_what_else_they_show(study):
    rng = np.random.default_rng(0)
    structure = np.zeros((96, 96))
    structure[20:24, 10:80] = 1000
    nucleus = np.zeros((96, 96))
    nucleus[50:80, 50:80] = 1000
    takes = study.data._labels(structure, nucleus, rng)
    background = takes["label-1"][0:10, 0:10].mean()
    in_nucleus = {k: takes[k][55:75, 55:75].mean() - background for k in ("label-1", "label-2")}
    in_structure = {k: takes[k][21:23, 20:70].mean() - background for k in ("label-1", "label-2")}
    assert in_nucleus["label-1"] > 0.5 * in_structure["label-1"]
    assert in_nucleus["label-2"] < 0.25 * in_structure["label-2"]
    assert not np.array_equal(takes["label-1"], takes["label-1-again"])
    assert takes["label-1"].mean() == pytest.approx(takes["label-1-again"].mean(), rel=0.02)


def test_objects_that_touch_no_true_one_are_invented_and_untouched_true_ones_missed(study):
    rng = np.random.default_rng(1)
    true = np.zeros((128, 128))
    true[20:25, 20:60] = true[60:65, 20:60] = 100
    unspecific = np.zeros((128, 128))
    unspecific[80:120, 80:120] = 40
    given = true + unspecific + rng.normal(0, 0.1, true.shape)
    planes = {"label-1": given, "label-2": true, "unspecific": unspecific}

    same = study.invented._counted(true.copy(), planes, 0.1)
    assert (same["objects_a_field"], same["missed_a_field"]) == (0, 0)
    assert same["true_objects_a_field"] == 2
    assert same["unspecific"] == pytest.approx(0, abs=1e-6)

    other = true.copy()
    other[60:65, 20:60] = 0
    other[100:105, 20:60] = 100
    found = study.invented._counted(other, planes, 0.1)
    assert (found["objects_a_field"], found["missed_a_field"]) == (1, 1)

    unfiltered = study.invented._counted(given, planes, 0.1)
    assert unfiltered["unspecific"] == pytest.approx(1, abs=1e-6)
    half = study.invented._counted(3 * true + 1.5 * unspecific + 7, planes, 0.1)
    assert half["unspecific"] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ([0.1, 0.3, 0.5, 0.6, 0.7], "not reached"),
        ([0.1, 0.5, 0.60, 0.601, 0.602], "reached"),
        # Worse, and jumping or falling: no plateau, whatever the best was.
        ([0.50, 0.46, 0.64, 0.48, 0.55], "not reached"),
        ([0.50, 0.60, 0.67, 0.64, 0.60], "not reached"),
        ([], "not looked at"),
    ],
)
def test_a_plateau_is_steady_and_gains_nothing_more(study, scores, said):
    looks = [(20 * (i + 1), score) for i, score in enumerate(scores)]
    assert study.steps.plateau(looks, 100) == said
    # A learning rate that goes to nothing flattens any curve.
    ended = "schedule ended" if said == "reached" else said
    assert study.steps.plateau(looks, 100, "cosine") == ended


def test_an_interval_over_dishes_is_students(study):
    low, high = study.scoring.interval_over_dishes([0.2, 0.4, 0.9])
    assert (low + high) / 2 == pytest.approx(0.5)
    # 4.303 standard errors at two degrees of freedom.
    assert (high - low) / 2 == pytest.approx(4.303 * 0.36056 / 3**0.5, rel=1e-3)
    assert study.scoring.interval_over_dishes([0.2, 0.4]) is None


def test_merged_structures_have_their_own_colours(study):
    one, other = np.zeros((20, 20)), np.zeros((20, 20))
    one[:10], other[:, :10] = 1, 1
    light = study.merge.merged({"Mitochondria": one, "DNA": other})
    assert light[0, 15].tolist() == [1, 0, 1]
    assert light[15, 0].tolist() == [0, 1, 1]
    assert light[0, 0].tolist() == [1, 1, 1]
    assert light[15, 15].tolist() == [0, 0, 0]


@pytest.mark.slow
def test_a_cell_is_trained_scored_and_told_and_goes_on_where_it_was(study, tiny):
    cell = next(c for c in study.plan.cells("cpu") if c.name == "l2l")
    cell = replace(cell, reduced={"network.kwargs.width": 4, "batch_size": 2, "crop": 32}, steps=6)
    found = study.running.run_cell(cell, tiny)
    file = study.options.result_file(cell, tiny)
    assert json.loads(file.read_text(encoding="utf-8"))["cell"] == "l2l"
    assert (found["steps"], found["samples"], found["training_sets"]) == (6, 12, 2)
    score = found["scores"]["truth"]["pearson"]
    assert -1 <= score["mean"] <= 1
    assert score["interval"] is None  # of two dishes
    assert found["plateau"] in ("not reached", "reached")
    assert [step for step, _ in found["looks"]] == [2, 4, 6]
    assert 0 < found["invented"]["pearson_of_the_input"] < 1
    assert found["invented"]["fields"] == 2 * 4
    assert found["inference_ms"] > 0
    trained = tiny.runs / "koelln" / "l2l" / "finished.json"
    before = trained.stat().st_mtime_ns
    file.unlink()
    again = study.running.run_cell(cell, tiny)
    assert trained.stat().st_mtime_ns == before
    assert again["scores"] == found["scores"]
    assert (
        study.recalibrating.recalibrate_cell(cell, tiny)["scores"] == {}
    )  # no batch normalisation
    with pytest.raises(RuntimeError, match="batch_size"):
        study.running.run_cell(replace(cell, reduced=cell.reduced | {"batch_size": 3}), tiny)
    student = replace(cell, recipe="other", after="l2l-none")
    with pytest.raises(RuntimeError, match="not trained yet"):
        study.running.run_cell(student, tiny, teacher=replace(cell, recipe="none"))


@pytest.mark.slow
def test_a_trained_cell_is_scored_again_with_batch_normalisation_recalibrated(study, tiny):
    cell = next(c for c in study.plan.cells("cpu") if c.name == "fnet2d-mitochondria")
    small = {"network.kwargs.width": 4, "batch_size": 2, "crop": 32}
    cell = replace(cell, reduced=small, steps=4, sets=2)
    found = study.running.run_cell(cell, tiny)
    again = study.recalibrating.recalibrate_cell(cell, tiny)
    assert (set(again["scores"]), set(found["scores"])) == ({"z"}, {"z", "z truth"})
    # Four steps leave running statistics of next to nothing.
    assert again["scores"]["z"]["pearson"]["mean"] != found["scores"]["z"]["pearson"]["mean"]
    assert again["scores"]["z"]["pearson"]["control"] == found["scores"]["z"]["pearson"]["control"]
    (finished,) = study.finished.read_finished(tiny.results)
    (result,) = finished.recalibrated.of("ounkomol")
    assert result.scores["z"]["pearson"].mean == again["scores"]["z"]["pearson"]["mean"]
    assert [path.name for path in (tiny.runs / "ounkomol").glob("*recalibrated*")] == []


def test_the_command_line_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("LIVESTAIN_DATA", str(tmp_path / "nowhere"))

    def papers(*words):
        command = [sys.executable, str(BENCHMARKS / "papers.py"), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    no_runs = papers("run")
    assert no_runs.returncode != 0
    assert "--runs" in no_runs.stderr
    listed = papers("list", "--studies", "koelln", "--scale", "cpu", "--results", str(tmp_path))
    assert listed.returncode == 0
    assert "cyclegan" in listed.stdout
    assert "done" not in listed.stdout
    for verb in ("run", "recalibrate"):
        no_data = papers(verb, "--runs", str(tmp_path / "runs"), "--results", str(tmp_path))
        assert no_data.returncode != 0
        assert "LIVESTAIN_DATA" in no_data.stderr
        assert "Traceback" not in no_data.stderr
