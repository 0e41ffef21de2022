"""A training from data to bundle: it learns, resumes, leaks nothing, and live equals its validation."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from livestain.errors import DataError, MissingExtraError, SettingsError
from livestain.inference import Stainer
from livestain.metrics import no_learning_control, pearson
from livestain.planes import PlaneIndex
from livestain.training import evaluate_bundle, export_run, find_pairs, train
from livestain.training.card import write_card
from livestain.training.ema import update_average
from livestain.training.extra import needs_train_extra
from livestain.training.modes import StainTraining, training_of
from livestain.training.pairs import PairSpec
from livestain.training.run_folder import CHECKPOINT, read_run

pytestmark = pytest.mark.usefixtures("one_thread")


def losses_of(run):
    with (run / "logs" / "metrics.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]]


@pytest.fixture
def trained(data, recipe_of, tmp_path):
    recipe = recipe_of(steps=60, precision="fp32", leave_out=["c"])
    return train(recipe, data, tmp_path / "run", device="cpu", progress=False)


def test_learns_exports_and_stains_as_its_own_validation(trained, data, tmp_path):
    losses = losses_of(trained)
    assert np.mean(losses[-2:]) < 0.7 * losses[0]

    facts = json.loads((trained / "data.json").read_text())
    assert set(facts["movies"]) == {"a", "b"}
    assert facts["left_out"] == ["c"]
    assert list((trained / "logs").glob("events.out.tfevents.*"))

    bundle = export_run(trained, tmp_path / "bundle", onnx=False)
    run = read_run(trained)
    assert run.recipe.movies == ("a", "b")
    module = training_of(run.recipe)
    module.average.load_state_dict(run.weights())
    validation = module.stain_module()
    spec = PairSpec.of_recipe(run.recipe)
    with (
        find_pairs(data, spec) as pairs,
        Stainer(bundle, device="cpu", backend="eager") as stainer,
        torch.inference_mode(),
    ):
        for pair in pairs.select(["a"]).pairs:
            (source,) = pairs.read(pair).source
            expected = validation(torch.from_numpy(source.astype(np.float32))[None])[0].numpy()
            difference = np.abs(stainer.stain(source) - expected).max()
            assert difference <= 1e-5 * expected.std()

    card = (tmp_path / "bundle" / "README.md").read_text()
    assert facts["movies"]["a"]["sha256"] in card
    assert "not known" in card
    assert bundle.licence == "BSD-3-Clause"
    assert bundle.description.reference.planes == 8

    found = evaluate_bundle(bundle, data)
    assert [movie.trained_on for movie in found.by_movie.values()] == [True, True, False]
    assert found.by_movie["c"].pearson > 0.5
    scores = tmp_path / "scores.txt"
    scores.write_text("other lines\n" + json.dumps(found.to_dict()) + "\n")
    export_run(trained, tmp_path / "bundle", onnx=False, scores=[scores], overwrite=True)
    card = (tmp_path / "bundle" / "README.md").read_text()
    assert f"| c | tiny | 4 (4) | {found.by_movie['c'].pearson:.3f}" in card
    assert "| a | tiny" not in card  # a score on a training movie has no place there


def test_the_same_seed_gives_the_same_weights(data, recipe_of, tmp_path):
    first, again, other = (
        read_run(
            train(
                recipe_of(steps=4, seed=seed), data, tmp_path / name, device="cpu", progress=False
            )
        ).weights()
        for seed, name in ((0, "first"), (0, "again"), (1, "other"))
    )
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def test_a_killed_run_resumes_to_the_same_weights(data, recipe_of, tmp_path, monkeypatch):
    recipe = recipe_of(steps=20)
    whole = read_run(train(recipe, data, tmp_path / "whole", device="cpu", progress=False))

    real = StainTraining.training_step

    def dies(self, batch, batch_idx):
        if self.done == 13:
            raise RuntimeError("the power is gone")
        return real(self, batch, batch_idx)

    killed = tmp_path / "killed"
    monkeypatch.setattr(StainTraining, "training_step", dies)
    with pytest.raises(RuntimeError, match="power"):
        train(recipe, data, killed, device="cpu", progress=False)
    monkeypatch.undo()
    with pytest.raises(DataError, match=r"did not finish.*--resume"):
        read_run(killed)
    train(recipe, data, killed, device="cpu", progress=False, resume=True)
    resumed = read_run(killed)
    assert resumed.finished["resumed_at"] == 12
    weights = whole.weights()
    assert all(torch.equal(weights[key], value) for key, value in resumed.weights().items())


def test_what_cannot_be_resumed_or_written(data, recipe_of, tmp_path):
    run = tmp_path / "run"
    recipe = recipe_of(steps=2)
    with pytest.raises(DataError, match="no training to resume"):
        train(recipe, data, run, progress=False, resume=True)
    train(recipe, data, run, device="cpu", progress=False)
    with pytest.raises(DataError, match="exists"):
        train(recipe, data, run, progress=False)
    with pytest.raises(DataError, match="finished"):
        train(recipe, data, run, progress=False, resume=True)
    (run / "finished.json").unlink()
    with pytest.raises(DataError, match="recipe differs"):
        train(recipe_of(steps=3), data, run, progress=False, resume=True)
    shutil.copy(
        data / "movie-a" / "brightfield" / "t000_z000_0.png",
        data / "movie-a" / "brightfield" / "t001_z000_1.png",
    )
    with pytest.raises(DataError, match="data differs"):
        train(recipe, data, run, progress=False, resume=True)
    with pytest.raises(DataError, match="no training run"):
        read_run(tmp_path)


def test_nothing_is_written_where_the_data_is_bad(data, recipe_of, tmp_path):
    (data / "movie-a" / "mitochondria" / "t000_z000_0.png").write_bytes(b"broken")
    with pytest.raises(DataError, match="t000_z000_0"):
        train(recipe_of(), data, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_monitored_movie_is_logged_and_not_trained_on(data, recipe_of, tmp_path):
    recipe = recipe_of(steps=10)
    watched = train(recipe, data, tmp_path / "w", device="cpu", monitor="b", progress=False)
    facts = json.loads((watched / "data.json").read_text())
    assert set(facts["movies"]) == {"a", "c"}
    assert facts["monitored"] == "b"
    with (watched / "logs" / "metrics.csv").open() as file:
        scores = [row["monitor_pearson"] for row in csv.DictReader(file)]
    assert any(scores)
    # And it chooses nothing: without it, the weights are the same.
    alone = recipe_of(steps=10, leave_out=["b"])
    plain = train(alone, data, tmp_path / "p", device="cpu", progress=False)
    a, b = read_run(watched).weights(), read_run(plain).weights()
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_average_forgets_the_random_start_and_copies_integers():
    average, network = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    with torch.no_grad():
        average.weight.fill_(0.0)
        network.weight.fill_(1.0)
        network.num_batches_tracked.fill_(7)
    update_average(average, network, decay=0.9, updates=1)
    assert average.weight.item() == pytest.approx(1 - 2 / 11)
    assert average.num_batches_tracked.item() == 7
    with torch.no_grad():
        average.weight.fill_(0.0)
    update_average(average, network, decay=0.9, updates=1000)
    assert average.weight.item() == pytest.approx(0.1)


def test_the_control_looks_at_the_targets_own_plane(recipe_of, tmp_path):
    """Of a window into the past alone, the own plane is the last, not the middle one."""
    from test_pairs import make_store

    recipe = recipe_of(window={"past": 2}, steps=1)
    (tmp_path / "stores").mkdir()
    written = make_store(tmp_path / "stores" / "run.ome.zarr", n_t=4, n_z=1, every=1)
    run = train(recipe, tmp_path / "stores", tmp_path / "past", device="cpu", progress=False)
    bundle = export_run(run, tmp_path / "bundle", onnx=False)
    found = evaluate_bundle(bundle, tmp_path / "stores", device="cpu")
    by_hand = [
        pearson(
            no_learning_control(written[PlaneIndex(0, t, 0, 0)]), written[PlaneIndex(0, t, 1, 0)]
        )
        for t in range(4)
    ]
    assert found.control == pytest.approx(np.mean(by_hand))


def test_a_movies_interval_does_not_depend_on_the_other_movies(trained, data, tmp_path):
    bundle = export_run(trained, tmp_path / "bundle", onnx=False)
    every = evaluate_bundle(bundle, data, device="cpu")
    alone = evaluate_bundle(bundle, data, movies=["c"], device="cpu")
    assert every.by_movie["c"] == alone.by_movie["c"]
    assert alone.interval == alone.by_movie["c"].interval
    low, high = every.interval
    assert low < every.pearson < high


def test_exports_that_are_refused(trained, tmp_path, recipe_of):
    with pytest.raises(DataError, match=r"no scores.*evaluate"):
        export_run(trained, tmp_path / "b", scores=[trained / "recipe.yaml"])
    recipe = read_run(trained).recipe.model_copy(update={"card": recipe_of(card={}).card})
    (trained / "recipe.yaml").write_text(recipe.to_yaml())
    with pytest.raises(SettingsError, match=r"licence.*--licence"):
        export_run(trained, tmp_path / "b")
    (trained / "weights.pt").unlink()
    with pytest.raises(DataError, match="weights"):
        export_run(trained, tmp_path / "b", licence="MIT")
    assert not (tmp_path / "b").exists()


def test_a_target_that_may_be_missing_is_scored_where_it_is(data, recipe_of, tmp_path):
    for path in sorted((data / "movie-a" / "mitochondria").iterdir())[1:]:
        other = data / "movie-a" / "other" / path.name
        other.parent.mkdir(exist_ok=True)
        other.write_bytes(path.read_bytes())
    output = {"unit": "sd", "display": [0, 1]}
    targets = [
        {"channel": "mitochondria", "output": output | {"name": "m"}},
        {"channel": "other", "required": False, "output": output | {"name": "o"}},
    ]
    recipe = recipe_of(targets=targets, steps=2, precision="fp32")
    run = train(recipe, data, tmp_path / "run", device="cpu", progress=False)
    bundle = export_run(run, tmp_path / "bundle", onnx=False)
    for name, movies in (("m", {"a": 4, "b": 4, "c": 4}), ("o", {"a": 3})):
        found = evaluate_bundle(bundle, data, output=name, metrics=[], device="cpu")
        assert {movie: one.n for movie, one in found.by_movie.items()} == movies


def test_the_card_says_that_a_live_run_corrects_nothing(trained):
    run = read_run(trained)
    how = {"title": "Mine", "licence": "MIT", "scores": [], "parameters": 1}
    assert "A live run needs its own" not in write_card(run, **how)
    source = run.recipe.sources[0].model_copy(update={"dark_frame": "dark.tif"})
    recipe = run.recipe.model_copy(update={"sources": (source,)})
    told = write_card(replace(run, recipe=recipe), **how)
    assert "learnt from brightfield corrected by a flat field or dark frame" in told
    assert "A live run needs its own" in told.split("## Limits")[1].split("##")[0]


def test_a_missing_package_says_how_to_install():
    with pytest.raises(MissingExtraError, match=r"no_such_package.*livestain\[train\]"):
        with needs_train_extra():
            import no_such_package  # noqa: F401


def test_the_checkpoint_lies_where_resume_looks(trained):
    assert (trained / CHECKPOINT).is_file()


def test_an_interrupted_run_is_told_as_one_and_resumes(data, recipe_of, tmp_path, monkeypatch):
    real = StainTraining.training_step

    def interrupted(self, batch, batch_idx):
        if self.done == 5:
            raise KeyboardInterrupt
        return real(self, batch, batch_idx)

    run = tmp_path / "run"
    recipe = recipe_of(steps=10)
    monkeypatch.setattr(StainTraining, "training_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, data, run, device="cpu", progress=False)
    monkeypatch.undo()
    train(recipe, data, run, device="cpu", progress=False, resume=True)
    assert read_run(run).finished["resumed_at"] == 5
