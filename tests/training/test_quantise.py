"""8-bit weights: calibrated on training pairs, tried on others, left out where they cost too much."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from pydantic import ValidationError

from livestain.bundle.description import Int8
from livestain.bundle.parity import relative_difference
from livestain.cli.app import run as livestain
from livestain.errors import BundleError, DataError, SettingsError
from livestain.inference import Stainer
from livestain.metrics import pearson
from livestain.training import export_run, find_pairs, quantise, train
from livestain.training.pair import PairSpec
from livestain.training.run_folder import read_run

SLIM = {"name": "slim2d", "kwargs": {"width": 8, "depth": 1, "limit": 16, "unshuffle": 4}}


@pytest.fixture(scope="module")
def run_and_data(tmp_path_factory):
    from training_cases import make_movie

    from livestain.training.recipe import Recipe

    folder = tmp_path_factory.mktemp("int8")
    for name, seed in (("a", 1), ("b", 2)):
        make_movie(folder / "data", name, seed=seed, dtype=np.uint16)
    output = {
        "name": "mitochondria",
        "unit": "sd",
        "scale": 0.001,
        "offset": -20.0,
        "display": [-1, 4],
    }
    recipe = Recipe.parse(
        {
            "name": "slim-tiny",
            "network": SLIM,
            "targets": [{"channel": "mitochondria", "output": output}],
            "pixel_size_um": 0.1,
            "pixel_size_range_um": [0.08, 0.12],
            "crop": 64,
            "batch_size": 4,
            "steps": 60,
            "loss": {"pearson": 1.0, "mse": 0.25},
            "optimiser": {"learning_rate": 0.01, "warmup_steps": 2},
            "ema_decay": 0.9,
            "card": {"licence": "BSD-3-Clause"},
            "checks": {"registration": "off"},
        },
        where="test",
    )
    run = train(recipe, folder / "data", folder / "run", device="cpu", progress=False)
    return run, folder / "data"


@pytest.fixture(scope="module")
def bundle(run_and_data, tmp_path_factory):
    run, data = run_and_data
    told: list[str] = []
    made = export_run(
        run, tmp_path_factory.mktemp("out") / "slim", int8=data, int8_bound=0.02, tell=told.append
    )
    assert "kept" in told[0]
    return made


def test_the_weights_are_8_bit_integers_and_the_statement_holds(bundle):
    stated = bundle.description.int8
    assert stated.bound == 0.02
    assert stated.pearson_loss <= stated.bound
    model = onnx.load_from_string(bundle.read_file(stated.file))
    convolutions = [n for n in model.graph.node if n.op_type == "Conv"]
    quantised = {n.output[0] for n in model.graph.node if n.op_type == "DequantizeLinear"}
    # All but the first and the last, whose rounding would reach every pixel.
    inside = [n.input[1] in quantised for n in convolutions]
    assert len(inside) > 5
    assert inside == [False, *[True] * (len(inside) - 2), False]
    # A quarter of the weights' bits, and some scales: clearly less than half. Of the numbers alone, since
    # in so small a network the files are mostly their operators.
    stored = [
        sum(onnx.numpy_helper.to_array(each).nbytes for each in each_model.graph.initializer)
        for each_model in (model, onnx.load_from_string(bundle.read_file("weights.onnx")))
    ]
    assert stored[0] < 0.5 * stored[1]


@pytest.mark.parametrize("backend", ["onnxruntime-int8", "openvino-int8"])
def test_it_predicts_within_what_is_stated(bundle, backend):
    counts, expected = bundle.test_tensors()
    with Stainer(bundle, device="cpu", backend=backend) as stainer:
        assert stainer.backend == backend, stainer.refused
        found = stainer.stain(counts[0])[None]
    assert 1e-4 < relative_difference(found, expected) <= bundle.description.int8.tolerance


def test_the_loss_is_that_of_pairs_that_were_not_calibrated_on(bundle, run_and_data):
    """Again by onnxruntime's own session and the pairs as they are on disk."""
    run, data = run_and_data
    recipe = read_run(run).recipe
    session = onnxruntime.InferenceSession(
        bundle.read_file("network_int8.onnx"), providers=["CPUExecutionProvider"]
    )
    module = bundle.load_module()
    losses = []
    with find_pairs(data, PairSpec.of_recipe(recipe)) as pairs, torch.inference_mode():
        for pair in pairs.pairs[1::3]:
            found = pairs.read(pair)
            x = module.prepare(torch.from_numpy(found.source[0].astype(np.float32))[None])
            target = found.target[0, 0]
            (narrow,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
            full = module.network(x).numpy()
            losses.append(pearson(full[0, 0], target) - pearson(narrow[0, 0], target))
    assert bundle.description.int8.pearson_loss == pytest.approx(np.mean(losses), abs=2e-3)
    assert bundle.description.int8.planes == len(losses)


def test_what_is_far_from_fp32_is_left_out(run_and_data, tmp_path, monkeypatch, capsys):
    """Calibrated on planes that are nearly flat it clips the rest, which Pearson may forgive."""
    run, data = run_and_data
    seen = quantise._network_input
    monkeypatch.setattr(quantise, "_network_input", lambda *given: 0.1 * seen(*given))
    out = tmp_path / "strict"
    code = livestain(
        ["export", str(run), "--out", str(out), "--int8", str(data), "--int8-bound", "0.9"]
    )
    assert code == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "left out" in said
    assert "(at most 0.15)" in said
    assert not (out / "network_int8.onnx").exists()


def test_nobody_states_more_than_is_tolerable():
    kept = {"pearson_loss": 0.004, "planes": 3, "bound": 0.005}
    assert Int8(tolerance=0.1, **kept).tolerance == 0.1
    with pytest.raises(ValidationError, match=r"less than or equal to 0\.1"):
        Int8(tolerance=0.9, **kept)
    with pytest.raises(ValidationError, match=r"loses 0\.006 of Pearson, and its bound is 0\.005"):
        Int8(tolerance=0.05, **(kept | {"pearson_loss": 0.006}))


def test_one_output_that_breaks_is_not_hidden_by_the_others():
    assert quantise._worst([[0.0, 0.2], [0.0, float("nan")]]) == pytest.approx(0.2)
    assert quantise._worst([[float("nan")]]) == float("inf")


def test_other_data_and_no_onnx_are_refused(run_and_data, tmp_path):
    run, data = run_and_data
    other = tmp_path / "other"
    from training_cases import make_movie

    for name in ("a", "b"):
        make_movie(other, name, seed=9, dtype=np.uint16)
    with pytest.raises(DataError, match=r"is not what .* was trained on: the movie a"):
        export_run(run, tmp_path / "x", int8=other)
    with pytest.raises(BundleError, match="Export with ONNX, or without int8"):
        export_run(run, tmp_path / "x", int8=data, onnx=False)
    with pytest.raises(SettingsError, match="between 0 and 1"):
        export_run(run, tmp_path / "x", int8=data, int8_bound=2.0)
    assert not (tmp_path / "x").exists()


def test_other_tools_see_an_attachment_with_its_hash(bundle):
    named = {item["source"]: item["sha256"] for item in bundle.rdf["attachments"]}
    assert named["network_int8.onnx"] == bundle.files["network_int8.onnx"]
    json.dumps(bundle.description.model_dump(mode="json")["int8"])


@pytest.mark.parametrize(
    ("shape", "sides", "number"),
    [
        ((1, 2, 128, 200), (64, 64), 6),
        ((1, 1, 40, 64), (64, 64), 1),
        ((1, 1, 9, 70, 64), (4, 32, 32), 8),
    ],
)
def test_calibration_tiles_have_equal_sides_and_lie_in_the_plane(shape, sides, number):
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    tiles = list(quantise._tiles(x, sides))
    assert [tile.shape for tile in tiles] == [(*shape[:2], *sides)] * number
    assert all(np.isin(tile, x).all() for tile in tiles)
