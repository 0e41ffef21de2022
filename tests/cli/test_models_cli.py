"""`livestain models` and `livestain verify`: what is here, another tool's model, staining with it."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from livestain.bundle import read_bundle
from livestain.inference import Stainer
from livestain.planes import PlaneIndex
from livestain.store import open_store


def axes(size, names):
    space = [
        {"type": "space", "id": a, "size": size[a], "unit": "micrometer", "scale": 0.125}
        for a in "yx"
    ]
    return [{"type": "batch"}, {"type": "channel", "channel_names": [names]}, *space]


@pytest.fixture
def foreign(tmp_path):
    """A model as another tool writes it: a normalised plane, smoothed; nothing says what goes in."""
    folder = tmp_path / "foreign"
    folder.mkdir()
    kernel = numpy_helper.from_array(np.full((1, 1, 3, 3), 1 / 9, np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])],
        "smooth",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, "h", "w_"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1, "h", "w_"])],
        [kernel],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset), folder / "weights.onnx")
    counts = np.random.default_rng(0).integers(100, 4000, (1, 1, 32, 48), np.uint16)
    normal = ((counts - counts.mean()) / (counts.std() + 1e-6)).astype(np.float32)
    padded = np.pad(normal[0, 0], 1)
    smooth = sum(padded[i : i + 32, j : j + 48] for i in range(3) for j in range(3)) / 9
    np.save(folder / "test_input.npy", counts)
    np.save(folder / "test_output.npy", smooth[None, None].astype(np.float32))
    (folder / "README.md").write_text("# A smoother\n\nFor the tests.\n")
    size = {"min": 8, "step": 8}
    before = [
        {"id": "zero_mean_unit_variance", "kwargs": {"axes": ["channel", "y", "x"]}},
        {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}},
    ]
    same = {a: {"tensor_id": "raw", "axis_id": a} for a in "yx"}
    rdf = {
        "format_version": "0.5.4",
        "type": "model",
        "id": "busy-smoother",
        "name": "Smoother",
        "description": "Smooths",
        "authors": [{"name": "somebody"}],
        "cite": [{"text": "nobody", "doi": "10.1234/abc"}],
        "license": "CC-BY-4.0",
        "documentation": {"source": "README.md"},
        "tags": ["denoising"],
        "inputs": [
            {
                "id": "raw",
                "axes": axes({"y": size, "x": size}, "gray"),
                "data": {"type": "uint16"},
                "test_tensor": {"source": "test_input.npy"},
                "preprocessing": before,
            }
        ],
        "outputs": [
            {
                "id": "smooth",
                "axes": axes(same, "channel0"),
                "data": {"type": "float32"},
                "test_tensor": {"source": "test_output.npy"},
            }
        ],
        "weights": {"onnx": {"source": "weights.onnx", "opset_version": 17}},
    }
    (folder / "rdf.yaml").write_text(yaml.safe_dump(rdf))
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of models on the search path."""
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setenv("LIVESTAIN_MODELS", str(folder))
    return folder


SAID = ("--kind", "brightfield", "--output", "mitochondria")


def test_a_run_is_refused_before_it_starts_where_counts_would_be_cut_off(
    livestain, foreign, here, sequence_file, tmp_path
):
    """The demo camera gives 16 bits, and the model takes 8."""
    rdf = yaml.safe_load((foreign / "rdf.yaml").read_text())
    rdf["inputs"][0]["data"] = {"type": "float32", "range": [0, 255]}
    (foreign / "rdf.yaml").write_text(yaml.safe_dump(rdf))
    out = tmp_path / "run.ome.zarr"
    run = (
        *("run", sequence_file(), "--out", out, "--pixel-size", 0.125, "--device", "cpu"),
        *("--model", "mitochondria=busy-smoother"),
    )
    assert livestain("models", "add", foreign, "--into", here, *SAID).code == 0
    ended = livestain(*run)
    assert ended.code == 2
    assert "livestain models add --input-range LOW HIGH" in ended.err
    assert not out.exists()
    mapped = ("--input-range", 0, 65535, "--overwrite")
    added = livestain("models", "add", foreign, "--into", here, *SAID, *mapped)
    assert added.code == 0, added.err
    assert "counts of 0 to 65535" in livestain("models", "show", "busy-smoother").out
    ran = livestain(*run, "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out.splitlines()[-1])["planes_stained"] == 2


def test_a_zoo_model_is_added_found_shown_verified_and_stains_a_live_run(
    livestain, foreign, here, sequence_file, tmp_path
):
    refused = livestain("models", "add", foreign, "--into", here)
    assert refused.code == 2
    assert "what kind of channel goes in and what its outputs show" in refused.err
    assert "--kind" in refused.err
    assert "Traceback" not in refused.err
    zipped = shutil.make_archive(str(tmp_path / "download"), "zip", foreign)
    added = livestain("models", "add", zipped, "--into", here, *SAID)
    assert added.code == 0, added.err
    assert (here / "busy-smoother" / "rdf.yaml").is_file()

    listed = json.loads(livestain("models", "list", "--json").out.splitlines()[-1])["models"]
    mine = next(one for one in listed if one["name"] == "busy-smoother")
    assert mine["from"] == ["brightfield"]
    assert mine["to"] == ["mitochondria"]
    assert (mine["network"], mine["licence"]) == ("ONNX", "CC-BY-4.0")
    assert "busy-smoother" in livestain("models").out

    shown = livestain("models", "show", "busy-smoother", "--picture", tmp_path / "sample.png")
    assert shown.code == 0, shown.err
    for words in ("0.125 um", "zero_mean_unit_variance", "For the tests.", "the whole frame"):
        assert words in shown.out
    with Image.open(tmp_path / "sample.png") as sample:
        assert sample.size == (64, 32)

    verified = livestain("verify", "busy-smoother", "--json")
    assert verified.code == 0, verified.err
    (told,) = json.loads(verified.out.splitlines()[-1])["bundles"]
    results = {one["backend"]: one for one in told["backends"]}
    assert results["onnxruntime"]["result"] == "passed"
    assert results["onnxruntime"]["difference"] < 1e-5
    assert results["eager"]["result"] == "not here"

    out = tmp_path / "run.ome.zarr"
    ran = livestain(
        *("run", sequence_file(), "--out", out, "--pixel-size", 0.125, "--device", "cpu"),
        *("--model", "mitochondria=busy-smoother", "--json"),
    )
    assert ran.code == 0, ran.err
    assert json.loads(ran.out.splitlines()[-1])["planes_stained"] == 2
    bundle = read_bundle(here / "busy-smoother")
    with open_store(out) as store, Stainer(bundle, device="cpu") as stainer:
        raw = store.read(PlaneIndex(0, 1, 0, 0))
        stored = store.read_decoded(PlaneIndex(0, 1, 1, 0))
    with Stainer(bundle, device="cpu") as stainer:
        wanted = stainer.stain(raw[None])[0]
    np.testing.assert_allclose(stored, wanted, atol=bundle.description.outputs[0].scale)


def test_a_bundle_of_ours_travels_through_other_tools(livestain, tiny_bundle, here, tmp_path):
    from bioimageio.spec import load_description, save_bioimageio_package

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a library that has several
        model = load_description(tiny_bundle / "rdf.yaml")
        save_bioimageio_package(model, output_path=tmp_path / "tiny.zip")
    added = livestain("models", "add", tmp_path / "tiny.zip", "--into", here, "--json")
    assert added.code == 0, added.err
    path = Path(json.loads(added.out.splitlines()[-1])["path"])
    assert read_bundle(path).description == read_bundle(tiny_bundle).description
    described = livestain("models", "add", tiny_bundle, "--into", here, "--name", "b", *SAID)
    assert described.code == 2
    assert "says itself" in described.err


def test_a_damaged_bundle_is_one_sentence(livestain, tiny_bundle, tmp_path):
    folder = shutil.copytree(tiny_bundle, tmp_path / "copy")
    data = bytearray((folder / "weights.pt").read_bytes())
    data[-1] ^= 1
    (folder / "weights.pt").write_bytes(data)
    ended = livestain("verify", folder)
    assert ended.code == 2
    assert ended.err.strip().count("\n") == 0
    assert "weights.pt does not have the SHA-256" in ended.err


def test_a_damaged_bundle_does_not_hide_the_next(livestain, tiny_bundle, tmp_path):
    bad = shutil.copytree(tiny_bundle, tmp_path / "bad")
    (bad / "README.md").unlink()
    ended = livestain("verify", bad, tiny_bundle, "--json")
    assert ended.code == 2
    told = json.loads(ended.out.splitlines()[-1])
    assert [one["path"] for one in told["bundles"]] == [str(tiny_bundle)]
    assert "README.md" in told["bad"][0]
    assert "README.md" in ended.err


def test_ranges_that_are_none_are_told(livestain, foreign, here):
    for option, value in (("--past", -1), ("--z", 0), ("--pixel-size", 0)):
        ended = livestain("models", "add", foreign, "--into", here, *SAID, option, value)
        assert ended.code == 2
        assert "Traceback" not in ended.err
        assert "greater than" in ended.err


def test_every_backend_of_a_good_bundle_has_a_line(livestain, tiny_bundle):
    ended = livestain("verify", tiny_bundle)
    assert ended.code == 0, ended.err
    for words in ("a valid bioimage.io model", "eager", "folded", "passed", "needs a CUDA device"):
        assert words in ended.out


def test_an_unreadable_model_does_not_hide_the_others(livestain, tiny_bundle, here):
    shutil.copytree(tiny_bundle, here / "good")
    shutil.copytree(tiny_bundle, here / "bad")
    (here / "bad" / "rdf.yaml").write_text("a: 1\n")
    ended = livestain("models")
    assert ended.code == 0, ended.err
    assert "good" in ended.out
    assert "Left out:" in ended.out


def test_pictures_are_png(livestain, tiny_bundle, tmp_path):
    ended = livestain("models", "show", tiny_bundle, "--picture", tmp_path / "a.jpg")
    assert ended.code == 2
    assert "ends in .png" in ended.err
