"""What each way of training does with its batches: missing targets, a teacher, loaders, golden losses."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from training_cases import make_movie

from livestain.bundle import find_bundle
from livestain.errors import BundleError, SettingsError
from livestain.images import read_image
from livestain.inference import Stainer
from livestain.training import train
from livestain.training.losses.settings import LossWeights
from livestain.training.modes import training_of
from livestain.training.recipe import Recipe, find_recipe

JUDGE = {"discriminator": {"name": "patchgan70", "kwargs": {"width": 4, "layers": 1}}}


pytestmark = pytest.mark.usefixtures("one_thread")


def column(run, name):
    with (run / "logs" / "metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]


GOLDEN = {
    1: 1.542403,
    2: 1.150009,
    3: 0.606400,
    4: 0.518919,
    5: 0.285685,
    6: 0.325988,
    8: 0.306229,
    12: 0.205041,
}
"""Losses of recipes/debug.yaml on the made-up movies, on one thread of an x86-64 CPU."""


def test_the_debug_recipe_gives_its_golden_losses(data, tmp_path):
    recipe = Recipe.from_yaml(find_recipe("debug"))
    run = train(recipe, data, tmp_path / "run", device="cpu", progress=False)
    losses = column(run, "loss")
    assert len(losses) == 12
    # Convolutions may round otherwise elsewhere, and a training carries that on.
    assert {step: losses[step - 1] for step in GOLDEN} == pytest.approx(GOLDEN, rel=2e-3)


def test_a_student_learns_from_its_teacher(data, recipe_of, tmp_path):
    recipe = recipe_of(
        steps=30,
        movies=["a", "c"],
        loss={"mse": 0.1, "distillation": 1.0, "teacher": "demo-mitochondria"},
        augmentation={"flip": True},
    )
    run = train(recipe, data, tmp_path / "run", device="cpu", progress=False)
    losses = column(run, "loss_distillation")
    assert np.mean(losses[-3:]) < 0.5 * losses[0]
    facts = json.loads((run / "data.json").read_text())
    assert facts["teacher"]["name"] == "demo-mitochondria"
    n_pairs = sum(movie["pairs"] for movie in facts["movies"].values())
    kept = [np.load(path) for path in sorted((run / "teacher").glob("*.npy"))]
    assert len(kept) == n_pairs
    with Stainer(find_bundle("demo-mitochondria"), device="cpu") as stainer:
        counts = read_image(data / "movie-a" / "brightfield" / "t000_z000_0.png")
        said = stainer.stain(counts[None])
    assert any(array.shape == (1, *said.shape) and np.allclose(array[0], said) for array in kept)


def test_teachers_that_cannot_teach(data, recipe_of, tmp_path):
    loss = {"distillation": 1.0, "teacher": "demo-mitochondria"}
    names = {"name": "nuclei", "unit": "sd", "display": [0, 1]}
    other = [{"channel": "mitochondria", "output": names}]
    with pytest.raises(SettingsError, match=r"predicts mitochondria in sd; .* needs nuclei in sd"):
        train(recipe_of(loss=loss, targets=other), data, tmp_path / "s", progress=False)
    far = recipe_of(loss=loss, pixel_size_um=0.2, pixel_size_range_um=[0.2, 0.2])
    with pytest.raises(BundleError, match="pixel size"):
        train(far, data, tmp_path / "s", progress=False)
    nobody = {"distillation": 1.0, "teacher": "nobody"}
    with pytest.raises(BundleError, match="nobody"):
        train(recipe_of(loss=nobody), data, tmp_path / "s", progress=False)
    assert not (tmp_path / "s").exists()


def batch_of(n_targets, mask):
    torch.manual_seed(0)
    mask = torch.tensor(mask)
    target = torch.randn(len(mask), n_targets, 32, 32) * mask[..., None, None]
    return {"source": torch.randn(len(mask), 1, 32, 32), "target": target, "mask": mask}


def started(recipe):
    """Return a training as Lightning would have it before the first step."""
    training = training_of(recipe)
    optimisers = training.configure_optimizers()
    training.optimizers = lambda use_pl_optimizer=True: optimisers
    training.manual_backward = lambda loss: loss.backward()
    training.on_fit_start()
    return training


def test_a_discriminator_judges_no_plane_that_lacks_a_target(recipe_of):
    recipe = recipe_of(adversarial=JUDGE, precision="fp32", network={"name": "care2d"})
    seen = {}
    for name, extra in (("whole", []), ("with a missing one", [[0.0]])):
        training = started(recipe)
        batch = batch_of(1, [[1.0], [1.0], *extra])
        batch["source"][:2] = torch.linspace(-1, 1, 2048).reshape(2, 1, 32, 32)
        batch["target"][:2] = batch["source"][:2].flip(2)
        terms = training.step(batch)
        seen[name] = [float(terms[key]) for key in ("loss_discriminator", "loss_adversarial")]
    assert seen["whole"] == pytest.approx(seen["with a missing one"], rel=1e-4)
    training = started(recipe)
    before = {k: v.clone() for k, v in training.discriminator.state_dict().items()}
    terms = training.step(batch_of(1, [[0.0], [0.0]]))
    assert float(terms["loss_discriminator"]) == 0
    now = training.discriminator.state_dict()
    weights = [k for k, v in now.items() if v.ndim == 4]
    assert all(torch.allclose(before[k], now[k], atol=1e-4) for k in weights)


def test_the_generator_and_the_discriminator_pull_apart(recipe_of):
    """One step of each side lowers its own loss on that batch, and leaves the other network as it is."""
    recipe = recipe_of(
        adversarial=JUDGE | {"weight": 1.0},
        precision="fp32",
        network={"name": "care2d", "kwargs": {"width": 4}},
        optimiser={"learning_rate": 1e-3, "kind": "adam"},
        loss={"l1": 1e-6},
    )
    training = started(recipe)
    batch = batch_of(1, [[1.0], [1.0]])
    told = []
    for _ in range(12):
        before = {k: v.clone() for k, v in training.network.state_dict().items()}
        told.append({k: float(v) for k, v in training.step(batch).items()})
        changed = [not torch.equal(before[k], v) for k, v in training.network.state_dict().items()]
        assert any(changed)
    assert told[-1]["loss_discriminator"] < told[0]["loss_discriminator"]
    assert all(p.requires_grad for p in training.discriminator.parameters())
    assert told[0]["loss"] == pytest.approx(
        told[0]["loss_adversarial"] + 1e-6 * told[0]["loss_l1"], rel=1e-4
    )


def test_a_cycle_brings_sources_back(data, recipe_of, tmp_path):
    recipe = recipe_of(
        pairing="unpaired",
        network={"name": "care2d", "kwargs": {"width": 4}},
        cycle={"pool": 2, "cycle": 10.0, "identity": 0.0, "adversarial": JUDGE | {"weight": 0.01}},
        steps=30,
        precision="fp32",
        augmentation={"flip": True},
    )
    run = train(recipe, data, tmp_path / "run", device="cpu", progress=False)
    losses = column(run, "loss_cycle")
    assert np.mean(losses[-3:]) < 0.7 * losses[0]
    weights = torch.load(run / "weights.pt", weights_only=True)
    expected = training_of(recipe).network.state_dict()
    assert {k: v.shape for k, v in weights.items()} == {k: v.shape for k, v in expected.items()}


@pytest.mark.slow
def test_loader_processes_change_nothing(data, recipe_of, tmp_path):
    make_movie(data, "d", n=3, seed=4, suffix=".tif", dtype=np.uint16)
    weights = [
        torch.load(
            train(
                recipe_of(steps=4, loaders=loaders),
                data,
                tmp_path / f"run{loaders}",
                device="cpu",
                progress=False,
            )
            / "weights.pt",
            weights_only=True,
        )
        for loaders in (0, 2)
    ]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_statistics_of_all_targets_reach_the_loss(data, recipe_of, tmp_path):
    recipe = recipe_of(steps=1, loss={"tn_l1": 1.0, "tn": {"scope": "data"}})
    run = train(recipe, data, tmp_path / "run", device="cpu", progress=False)
    tn = Recipe.from_yaml(run / "recipe.yaml").loss.tn
    images = [read_image(p).astype(float) for p in data.rglob("mitochondria/*") if p.is_file()]
    normed = np.stack([(image - image.mean()) / image.std() for image in images])
    assert tn.mean == pytest.approx(0, abs=1e-6)
    assert tn.std == pytest.approx(1, rel=1e-5)
    assert tn.minimum == pytest.approx(normed.min(), rel=1e-4)
    assert tn.maximum == pytest.approx(normed.max(), rel=1e-4)
    assert LossWeights.parse(recipe.loss.model_dump(), where="test").tn.std is None
