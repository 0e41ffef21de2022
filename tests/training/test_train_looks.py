"""Looks at validation data, what they choose, logs, schedules, precision."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from training_cases import make_movie

from livestain.errors import SettingsError
from livestain.images import read_image
from livestain.inference import Stainer
from livestain.training import export_run, train
from livestain.training.logs import RunLog
from livestain.training.parts import Optimiser
from livestain.training.schedule import Plateau, autocast_dtype, schedule_factor
from livestain.training.selection import Chosen


def rows_of(run):
    with (run / "logs" / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_validation_is_what_the_exported_bundle_predicts_of_whole_planes(data, recipe_of, tmp_path):
    # Two movies of unequal numbers and of sides that the network does not take.
    make_movie(data, "d", n=2, seed=4, shape=(45, 70))
    make_movie(data, "e", n=5, seed=5, shape=(51, 47))
    recipe = recipe_of(steps=10, precision="fp32", split={"validation": ["d", "e"]})
    run = train(recipe, data, tmp_path / "run", device="cpu", progress=False)
    last = rows_of(run)[-1]
    assert last["step"] == "10"
    bundle = export_run(run, tmp_path / "bundle", onnx=False)
    by_movie, losses = [], []
    with Stainer(bundle, device="cpu", backend="eager") as stainer:
        for movie in ("d", "e"):
            scores = []
            for path in sorted((data / f"movie-{movie}" / "brightfield").iterdir()):
                target = read_image(data / f"movie-{movie}" / "mitochondria" / path.name)
                target = (target - target.mean()) / target.std()
                predicted = stainer.stain(read_image(path)[None])[0]
                r = np.corrcoef(predicted.ravel(), target.ravel())[0, 1]
                scores.append(r)
                losses.append(1 - r + 0.25 * ((predicted - target) ** 2).mean())
            by_movie.append(np.mean(scores))
    assert float(last["validation_pearson"]) == pytest.approx(np.mean(by_movie), abs=1e-5)
    assert float(last["validation_loss"]) == pytest.approx(np.mean(losses), abs=1e-5)

    with Image.open(run / "panels" / "latest.png") as panel:
        assert panel.size == (3 * (70 + 2), 16 + 47 + 47 + 53)
    events = EventAccumulator(str(run / "logs"), size_guidance={"images": 0})
    events.Reload()
    (look,) = [e for e in events.Scalars("validation_pearson") if e.step == 10]
    assert look.value == pytest.approx(float(last["validation_pearson"]))
    assert len(events.Images("source | prediction | target")) == 10


def test_the_best_weights_are_chosen_and_patience_ends(data, recipe_of, tmp_path):
    recipe = recipe_of(
        steps=40,
        precision="fp32",
        # So fast that it spoils what the first steps learnt.
        optimiser={"learning_rate": 0.5, "warmup_steps": 0, "schedule": "constant"},
        ema_decay=0.0,
        split={"validation": ["c"]},
        selection={"weights": "best", "every_steps": 2, "patience": 2},
    )
    run = train(recipe, data, tmp_path / "run", device="cpu", progress=False)
    finished = json.loads((run / "finished.json").read_text())
    scores = {
        int(row["step"]): float(row["validation_pearson"])
        for row in rows_of(run)
        if row["validation_pearson"]
    }
    best = max(scores, key=scores.get)
    assert finished["weights_of_step"] == best
    assert finished["steps"] == best + 4 < 40
    assert f"{scores[best]:.4f}" in finished["why"]
    assert "after 2 looks" in finished["why"]
    weights = torch.load(run / "weights.pt", weights_only=True)
    kept = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert kept["step"] == best
    assert all(torch.equal(weights[key], value) for key, value in kept["average"].items())


def test_patience_counts_from_the_best():
    chosen = Chosen()
    assert chosen.look(1, 0.5, 2)
    assert not chosen.look(2, 0.4, 2)
    assert chosen.look(3, 0.6, 2)
    assert not chosen.look(4, 0.6, 2)
    assert not chosen.ended
    assert not chosen.look(5, 0.1, 2)
    assert chosen.ended
    assert (chosen.step, chosen.pearson) == (3, 0.6)
    assert not Chosen().look(1, float("nan"), None)


def test_a_plateau_halves_as_torchs_own():
    losses = [1.0, 0.9, 0.95, 0.91, 0.9, 0.8, 0.81, 0.82, 0.83, 0.84, 0.85, 0.7, 0.71]
    parameter = nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimiser, factor=0.5, patience=2, threshold=0.0
    )
    ours = Plateau(patience=2)
    for loss in losses:
        theirs.step(loss)
        ours.look(loss)
        assert ours.factor == optimiser.param_groups[0]["lr"]
    assert ours.factor < 1


def test_schedules():
    linear = Optimiser(warmup_steps=0, schedule="linear")
    factors = [schedule_factor(n, 100, linear) for n in (0, 49, 50, 75, 100)]
    assert factors == pytest.approx([1, 1, 1, 0.5, 0])
    plateau = Optimiser(warmup_steps=2, schedule="plateau")
    assert [schedule_factor(n, 9, plateau) for n in (0, 1, 8)] == [0.5, 1, 1]


def test_half_precision_is_refused_where_it_cannot_be_trained_in(data, recipe_of, tmp_path):
    with pytest.raises(SettingsError, match=r"fp16.*CUDA.*this is cpu.*bf16"):
        train(recipe_of(precision="fp16"), data, tmp_path / "run", device="cpu", progress=False)
    assert not (tmp_path / "run").exists()
    assert autocast_dtype(recipe_of(precision="bf16"), torch.device("cpu")) == torch.bfloat16
    assert autocast_dtype(recipe_of(precision="fp32"), torch.device("cpu")) is None
    assert autocast_dtype(recipe_of(precision="fp16"), torch.device("cuda")) == torch.float16


def test_bf16_trains_about_as_fp32(data, recipe_of, tmp_path):
    losses = [
        float(
            rows_of(
                train(
                    recipe_of(steps=10, precision=precision),
                    data,
                    tmp_path / precision,
                    device="cpu",
                    progress=False,
                )
            )[-1]["loss"]
        )
        for precision in ("fp32", "bf16")
    ]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.1)


def test_a_training_that_diverges_says_so(data, recipe_of, tmp_path):
    from livestain.errors import DataError

    recipe = recipe_of(
        steps=10,
        precision="fp32",
        loss={"mse": 1.0},
        network={"name": "care2d", "kwargs": {"width": 4}},
        optimiser={"learning_rate": 1e30, "warmup_steps": 0, "clip_norm": None},
    )
    with pytest.raises(DataError, match=r"diverged.*learning_rate"):
        train(recipe, data, tmp_path / "run", device="cpu", progress=False)


def test_a_log_goes_on_where_the_run_does(tmp_path):
    with RunLog(tmp_path, 0) as log:
        for step in (1, 2, 3):
            log.metrics(step, {"loss": float(step)})
    with RunLog(tmp_path, 2) as log:
        log.metrics(3, {"loss": 30.0, "late": 1.0})
    assert [(row["step"], row["loss"], row["late"]) for row in rows_of(tmp_path)] == [
        ("1", "1.0", ""),
        ("2", "2.0", ""),
        ("3", "30.0", "1.0"),
    ]
    events = EventAccumulator(str(tmp_path / "logs"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(1, 1.0), (2, 2.0), (3, 30.0)]
