"""Statistics of batch normalisation, computed again after a training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader, Subset
from training_cases import make_movie, write_image

import recording_cases as cases
from livestain.bundle import find_bundle
from livestain.cli.app import run as livestain
from livestain.errors import BundleError, DataError, SettingsError
from livestain.metrics import pearson
from livestain.training import export_run, find_pairs, train
from livestain.training.module import build_from_recipe
from livestain.training.pair import PairSpec
from livestain.training.recalibrate import recalibrate
from livestain.training.recipe import Recipe
from livestain.training.run_folder import read_run
from livestain.training.sampling import Crops
from livestain.training.split import split_pairs

OUTPUT = {
    "name": "mitochondria",
    "unit": "sd",
    "scale": 0.001,
    "offset": -20.0,
    "display": [-1, 4],
}
BARE = {
    "name": "bare",
    "network": {"name": "fnet2d", "kwargs": {"width": 4}},
    "targets": [{"channel": "mitochondria", "output": OUTPUT}],
    "pixel_size_um": 0.1,
    "pixel_size_range_um": [0.08, 0.12],
    "crop": 32,
    "batch_size": 4,
    "steps": 12,
    "ema_decay": 0,
    "loss": {"mse": 1.0},
    "optimiser": {"learning_rate": 0.01},
    "split": {"by": "movie", "validation": ["c"]},
    "card": {"licence": "BSD-3-Clause"},
    "checks": {"registration": "off"},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recalibrate") / "data"
    for name, seed in (("a", 1), ("b", 2), ("c", 3)):
        make_movie(folder, name, seed=seed)
    return folder


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    recipe = Recipe.parse(BARE, where="test")
    return train(
        recipe, data, tmp_path_factory.mktemp("run") / "bare", device="cpu", progress=False
    )


def norms_of(network):
    return [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]


def test_statistics_are_those_that_torch_computes_over_the_same_crops(run, data):
    folder = read_run(run)
    ours, theirs = build_from_recipe(folder.recipe), build_from_recipe(folder.recipe)
    for network in (ours, theirs):
        network.load_state_dict(folder.weights())
    with find_pairs(data, PairSpec.of_recipe(folder.recipe)) as found:
        pairs = split_pairs(found, folder.recipe).train
        assert pairs.names == ("a", "b")
        ticks = []
        crops = recalibrate(ours, pairs, folder.recipe, tick=lambda *n: ticks.append(n))
        assert (crops, ticks[-1]) == (256, (64, 64))
        drawn = Subset(Crops(pairs, folder.recipe), range(crops))
        update_bn((b["source"] for b in DataLoader(drawn, batch_size=4)), theirs)
    for mine, other in zip(norms_of(ours), norms_of(theirs), strict=True):
        torch.testing.assert_close(mine.running_mean, other.running_mean)
        torch.testing.assert_close(mine.running_var, other.running_var)
        assert mine.momentum == 0.1
        assert not mine.training


def test_dropout_has_no_part_in_them(run, data):
    folder = read_run(run)
    found = []
    with find_pairs(data, PairSpec.of_recipe(folder.recipe)) as pairs:
        for share in (0.0, 0.9):
            network = build_from_recipe(folder.recipe)
            network.load_state_dict(folder.weights())
            layer = norms_of(network)[-1]
            network.register_module("dropped", torch.nn.Dropout(share))
            layer.register_forward_pre_hook(lambda _, x, n=network: (n.dropped(x[0]),))
            recalibrate(network, pairs, folder.recipe)
            found.append(layer.running_var)
    torch.testing.assert_close(*found)


def test_after_a_short_training_a_movie_never_seen_is_predicted_better(run, data, tmp_path):
    bundles = {
        "as trained": export_run(run, tmp_path / "as-trained", onnx=False),
        "recalibrated": export_run(run, tmp_path / "again", onnx=False, recalibrate_on=data),
    }
    scores = {}
    with find_pairs(data, PairSpec.of_recipe(read_run(run).recipe)) as found:
        held = found.select(["c"])
        for name, bundle in bundles.items():
            module = bundle.load_module()
            seen = [held.read(pair) for pair in held.pairs]
            scores[name] = np.mean(
                [pearson(predicted(module, one.source), one.target[0, 0]) for one in seen]
            )
    assert scores["recalibrated"] > scores["as trained"] + 0.05
    weights, before = (
        dict(bundles[name].load_module().network.named_parameters())
        for name in ("recalibrated", "as trained")
    )
    for name, weight in weights.items():
        torch.testing.assert_close(weight, before[name], rtol=0, atol=0)
    card = bundles["recalibrated"].read_file("README.md").decode()
    assert "computed again after the training" in card
    assert "over 256 crops" in card
    assert "computed again" not in bundles["as trained"].read_file("README.md").decode()


def predicted(module, source):
    with torch.inference_mode():
        counts = torch.from_numpy(source.reshape(1, 1, *source.shape[-2:]).astype(np.float32))
        return module(counts)[0, 0].numpy()


def test_what_was_held_back_has_no_part_in_them(run, data, tmp_path):
    recipe = read_run(run).recipe
    bundle = export_run(run, tmp_path / "again", onnx=False, recalibrate_on=data)
    mine = norms_of(bundle.load_module().network)[0].running_mean
    with find_pairs(data, PairSpec.of_recipe(recipe)) as found:
        assert found.names == ("a", "b", "c")
        for movies, same in ((["a", "b"], True), (["a", "b", "c"], False)):
            other = build_from_recipe(recipe)
            other.load_state_dict(read_run(run).weights())
            recalibrate(other, found.select(movies), recipe)
            assert torch.equal(mine, norms_of(other)[0].running_mean) is same


def test_pairs_that_were_dropped_are_dropped_again(tmp_path):
    for name, seed in (("a", 1), ("b", 2), ("c", 3)):
        movie = make_movie(tmp_path / "data", name, seed=seed, n=6)
    spoilt = sorted((movie.parent / "movie-a" / "mitochondria").iterdir())[2]
    write_image(spoilt, np.full((64, 64), 255, np.uint8))
    recipe = Recipe.parse(
        BARE | {"checks": {"registration": "off", "bad_pairs": "drop"}}, where="test"
    )
    done = train(recipe, tmp_path / "data", tmp_path / "run", device="cpu", progress=False)
    assert read_run(done).data["movies"]["a"]["pairs"] == 5
    bundle = export_run(done, tmp_path / "again", onnx=False, recalibrate_on=tmp_path / "data")
    assert "over 256 crops" in bundle.read_file("README.md").decode()


@pytest.mark.parametrize(
    ("shape", "change"),
    [
        ((2, 3, 20, 40, 48), {"window": {"z": "all"}}),
        ((20, 3, 1, 40, 48), {"window": {"past": 1}, "depth_axis": "t"}),
    ],
    ids=["stacks", "time series"],
)
def test_networks_of_stacks_and_series_are_recalibrated(tmp_path, shape, change):
    cases.write_zarr(tmp_path / "a.zarr", cases.volume(shape=shape))
    deep = {"name": "fnet3d", "kwargs": {"width": 2}}
    more = {"network": deep, "crop_depth": 16, "batch_size": 8, "z_step_um": 0.5, "split": {}}
    recipe = Recipe.parse(BARE | more | change, where="test")
    network = build_from_recipe(recipe)
    with find_pairs(tmp_path, PairSpec.of_recipe(recipe)) as found:
        assert recalibrate(network, found, recipe) == 256
        assert Crops(found, recipe)[0]["source"].shape == (1, 16, 32, 32)
    norms = norms_of(network)
    assert {int(layer.num_batches_tracked) for layer in norms} == {32}
    assert all(float(layer.running_var.min()) > 0 for layer in norms)
    assert not torch.allclose(norms[0].running_mean, torch.zeros_like(norms[0].running_mean))


def test_the_command_line_recalibrates_and_refuses_in_a_sentence(run, data, tmp_path, capsys):
    words = ["export", str(run), "--out", str(tmp_path / "model"), "--no-onnx", "--recalibrate"]
    assert livestain([*words, str(data)]) == 0
    assert find_bundle(tmp_path / "model").name == "bare"
    for name, seed in (("a", 1), ("b", 9), ("c", 3)):
        make_movie(tmp_path / "other", name, seed=seed)
    assert livestain([*words, str(tmp_path / "other"), "--overwrite"]) != 0
    said = " ".join(capsys.readouterr().err.split())
    assert "the movie b has other planes" in said
    assert "export without recalibration" in said
    make_movie(tmp_path / "fewer", "a", seed=1)
    make_movie(tmp_path / "fewer", "c", seed=3)
    with pytest.raises(
        DataError, match=r"there is no movie b, but a, c\. Give the data of that training"
    ):
        export_run(run, tmp_path / "x", recalibrate_on=tmp_path / "fewer")
    with pytest.raises(DataError, match="There is no folder"):
        export_run(run, tmp_path / "x", recalibrate_on=tmp_path / "nowhere")


def test_what_cannot_be_written_is_refused_before_anything_is_computed(run, data, tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "mine.txt").touch()
    ticks = []
    told = {"recalibrate_on": data, "tick": lambda *n: ticks.append(n)}
    with pytest.raises(BundleError, match="is not empty"):
        export_run(run, tmp_path / "x", **told)
    with pytest.raises(DataError, match="holds no scores"):
        export_run(run, tmp_path / "y", scores=[tmp_path / "none.json"], **told)
    with pytest.raises(SettingsError, match="between 0 and 1"):
        export_run(run, tmp_path / "y", int8=data, int8_bound=2.0, **told)
    assert ticks == []


def test_a_network_without_batch_normalisation_is_refused(data, tmp_path):
    plain = {"name": "care2d", "kwargs": {"width": 4}}
    recipe = Recipe.parse({**BARE, "network": plain, "steps": 2}, where="test")
    done = train(recipe, data, tmp_path / "plain", device="cpu", progress=False)
    with pytest.raises(SettingsError, match="no batch normalisation"):
        export_run(done, tmp_path / "x", recalibrate_on=data)
    assert not (tmp_path / "x").exists()
