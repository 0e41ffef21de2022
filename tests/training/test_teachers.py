"""Several teachers, and teachers that look eight times: what is learnt from, named, and refused."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from training_cases import make_movie

from livestain.bundle import find_bundle
from livestain.cli.app import run as run_command
from livestain.cli.recipes import changed_recipe
from livestain.errors import DataError, SettingsError
from livestain.images import read_image
from livestain.inference import Stainer, stain_views
from livestain.metrics import pearson
from livestain.training import export_run, train
from livestain.training.modes import StainTraining
from livestain.training.recipe import Recipe
from livestain.training.run_folder import read_run
from livestain.training.teacher import predictions_folder
from recording_cases import volume, write_zarr

DEMO = "demo-mitochondria"


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def wide(tmp_path):
    """One movie of planes that are not square."""
    make_movie(tmp_path / "wide", "a", n=3, seed=1, shape=(48, 80), dtype=np.uint16)
    return tmp_path / "wide"


def taught(recipe_of, teacher, **loss):
    loss = {"mse": 0.1, "distillation": 1.0, "teacher": teacher} | loss
    return recipe_of(steps=2, precision="fp32", loss=loss)


def kept_in(run):
    """Return the one folder of predictions, and what is there by file."""
    (folder,) = run.glob("teacher*")
    return folder, {path.name: np.load(path) for path in folder.glob("*.npy")}


def by_hand(data, teachers, views):
    """Return the mean prediction of each plane of movie a, in the order of its files."""
    files = sorted((data / "movie-a" / "brightfield").iterdir())
    said = []
    for teacher in teachers:
        with Stainer(find_bundle(str(teacher)), device="cpu", pixel_size_um=0.1) as stainer:
            said.append(
                [stain_views(stainer.stain, read_image(file)[None], views) for file in files]
            )
    return np.mean(said, axis=0)


@pytest.mark.parametrize(
    ("more", "views"), [([], 8), (["tiny"], 1), (["tiny"], 8)], ids=["views", "several", "both"]
)
def test_the_means_of_teachers_and_views_are_learnt_from(
    wide, recipe_of, tiny_bundle, tmp_path, more, views
):
    teachers = [DEMO, *(str(tiny_bundle) for _ in more)]
    teacher = teachers if more else DEMO
    recipe = taught(recipe_of, teacher, teacher_views=views)
    run = train(recipe, wide, tmp_path / "run", device="cpu", progress=False)
    folder, kept = kept_in(run)
    bundles = [find_bundle(name) for name in teachers]
    assert folder == predictions_folder(run, [bundle.sha256 for bundle in bundles], views)
    assert len(kept) == 3
    for expected in by_hand(wide, teachers, views):
        assert any(
            one.shape == (1, *expected.shape) and np.allclose(one[0], expected, atol=1e-5)
            for one in kept.values()
        )
    # data.json and the card name them all.
    named = json.loads((run / "data.json").read_text())["teacher"]
    facts = [{"name": bundle.name, "sha256": bundle.sha256} for bundle in bundles]
    assert named == (facts if more else facts[0])
    card = (export_run(run, tmp_path / "bundle", onnx=False).path / "README.md").read_text()
    for bundle in bundles:
        assert f"- Taught by `{bundle.name}` (rdf.yaml: SHA-256 `{bundle.sha256}`)." in card
    assert ("8 mirrored and quarter-turned views" in card) == (views == 8)
    assert ("2 teachers" in card) == bool(more)
    assert "Loss, by weight: mse 0.1, distillation 1. " in card
    assert read_run(run).recipe.loss.teachers == tuple(teachers)
    assert Recipe.from_yaml(tmp_path / "bundle" / "recipe.yaml").loss.teacher_views == views


def test_stacks_have_teachers_of_planes_and_of_stacks(recipe_of, bundle_of, tmp_path):
    pixels = volume(shape=(2, 3, 6, 40, 48))
    write_zarr(tmp_path / "data" / "a.zarr", pixels)
    of_planes, of_stacks = str(bundle_of()), str(bundle_of(network="unet3d", z="all"))
    recipe = recipe_of(
        network={"name": "unet3d", "kwargs": {"width": 2, "depth": 2}},
        window={"z": "all"},
        z_step_um=0.5,
        crop=16,
        crop_depth=4,
        batch_size=1,
        steps=1,
        precision="fp32",
        loss={"distillation": 1.0, "teacher": [of_planes, of_stacks]},
    )
    run = train(recipe, tmp_path / "data", tmp_path / "run", device="cpu", progress=False)
    _, both = kept_in(run)
    for n, teacher in enumerate((of_planes, of_stacks)):
        loss = recipe.loss.model_copy(update={"teacher": teacher})
        one = recipe.model_copy(update={"loss": loss})
        alone = train(one, tmp_path / "data", tmp_path / f"r{n}", device="cpu", progress=False)
        both = {name: both[name] - said / 2 for name, said in kept_in(alone)[1].items()}
    assert all(np.abs(rest).max() < 1e-5 for rest in both.values())


def test_one_teacher_that_looks_once_keeps_its_folder(tmp_path):
    assert predictions_folder(tmp_path, ["a"], 1) == tmp_path / "teacher"
    others = [(["a"], 8), (["b"], 8), (["a", "b"], 1), (["b", "a"], 1), (["a", "b"], 8)]
    folders = {predictions_folder(tmp_path, hashes, views) for hashes, views in others}
    assert len(folders) == len(others)
    assert all(folder.name.startswith("teacher-") for folder in folders)


def test_a_run_from_before_there_were_views_is_resumed(data, recipe_of, tmp_path, monkeypatch):
    """Its recipe.yaml lacks the key, and its predictions are where they were."""
    recipe = taught(recipe_of, DEMO)
    real = StainTraining.training_step

    def dies(self, batch, batch_idx):
        if self.done == 1:
            raise RuntimeError("the power is gone")
        return real(self, batch, batch_idx)

    monkeypatch.setattr(StainTraining, "training_step", dies)
    run = tmp_path / "run"
    with pytest.raises(RuntimeError, match="power"):
        train(recipe, data, run, device="cpu", progress=False)
    monkeypatch.undo()
    text = (run / "recipe.yaml").read_text()
    assert "  teacher_views: 1\n" in text
    (run / "recipe.yaml").write_text(text.replace("  teacher_views: 1\n", ""))
    changed = [path for path in (run / "teacher").glob("*.npy") if np.load(path).any()]
    times = {path: path.stat().st_mtime_ns for path in changed}
    other = taught(recipe_of, DEMO, teacher_views=8)
    with pytest.raises(DataError, match="recipe differs"):
        train(other, data, run, device="cpu", progress=False, resume=True)
    train(recipe, data, run, device="cpu", progress=False, resume=True)
    assert read_run(run).finished["steps"] == 2
    assert times == {path: path.stat().st_mtime_ns for path in changed}


def test_teachers_that_are_none_are_refused(data, recipe_of, tiny_bundle, bundle_of, tmp_path):
    with pytest.raises(SettingsError, match="teacher is an empty list"):
        taught(recipe_of, [])
    with pytest.raises(SettingsError, match=r"'loss\.teacher': expected a bundle.* \(given 3\)"):
        taught(recipe_of, 3)
    with pytest.raises(SettingsError, match="teacher_views above 1 is given for distillation"):
        recipe_of(loss={"mse": 1.0, "teacher_views": 8})
    with pytest.raises(SettingsError, match=r"'loss\.teacher_views': .*1 or 8 \(given 4\)"):
        taught(recipe_of, DEMO, teacher_views=4)
    again = shutil.copytree(tiny_bundle, tmp_path / "again")
    with pytest.raises(SettingsError, match="are the same bundle"):
        train(taught(recipe_of, [str(tiny_bundle), str(again)]), data, tmp_path / "s")
    # Any of them, not the first alone.
    other = str(bundle_of(output="nuclei"))
    with pytest.raises(SettingsError, match=r"predicts nuclei in sd; .* needs mitochondria in sd"):
        train(taught(recipe_of, [DEMO, other]), data, tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_the_command_line_names_one_or_several():
    one = changed_recipe("slim-distilled", ["loss.teacher=a"], {})
    assert one.loss.teacher == "a"
    more = ["loss.teacher=[a, b]", "loss.teacher_views=8"]
    several = changed_recipe("slim-distilled", more, {})
    assert several.loss.teachers == ("a", "b")
    assert Recipe.parse(several.model_dump(mode="json"), where="test") == several


def test_evaluate_with_views(wide, tiny_bundle, tmp_path, capsys):
    page = tmp_path / "page.html"
    arguments = ["evaluate", str(tiny_bundle), "--data", str(wide), "--device", "cpu"]
    arguments += ["--metrics", "pearson", "--json"]
    found = {}
    for more in ([], ["--views", "1"], ["--views", "8", "--page", str(page)]):
        assert run_command([*arguments, *more]) == 0
        found[" ".join(more[:2])] = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "views" not in found[""]
    assert found["--views 1"] == found[""]
    eight = found["--views 8"]
    assert set(eight) == {*found[""], "views"}
    assert eight["views"] == 8
    targets = sorted((wide / "movie-a" / "mitochondria").iterdir())
    said = by_hand(wide, [tiny_bundle], 8)
    scores = [pearson(p[0], read_image(t)) for p, t in zip(said, targets, strict=True)]
    assert eight["pearson"] == pytest.approx(np.mean(scores))
    assert eight["pearson"] != pytest.approx(found[""]["pearson"], abs=1e-4)
    assert "mean over 8 views" in page.read_text()
    assert run_command([*arguments[:-1], "--views", "8"]) == 0
    assert "8 views" in capsys.readouterr().out
    assert run_command([*arguments, "--views", "4"]) == 2
    assert "number of views is 4; expected 1" in capsys.readouterr().err


def test_a_card_takes_no_scores_that_no_live_run_has(data, recipe_of, tmp_path):
    scores = tmp_path / "scores.json"
    scores.write_text(json.dumps({"bundle": "b", "by_movie": {}, "views": 8}))
    run = train(recipe_of(steps=1), data, tmp_path / "run", device="cpu", progress=False)
    with pytest.raises(DataError, match=r"averaged over 8 views.* without --views"):
        export_run(run, tmp_path / "bundle", scores=[scores], onnx=False)
    assert not (tmp_path / "bundle").exists()
