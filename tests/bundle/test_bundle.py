"""A bundle: what was written is read back, is a bioimage.io model, and damage is found by name."""

import copy
import hashlib
import os
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml

from livestain.bundle import (
    StainModule,
    read_bundle,
    verify_bundle,
    write_bundle,
)
from livestain.bundle.files import RDF, SEAL, seal
from livestain.errors import BundleError, LivestainError


def change_rdf(folder, change):
    """Change rdf.yaml as someone would who also mends the hashes."""
    path = folder / RDF
    rdf = yaml.safe_load(path.read_text("utf-8"))
    change(rdf)
    path.write_text(yaml.safe_dump(rdf), "utf-8")
    (folder / SEAL).write_text(seal(path.read_bytes()), "utf-8")


def replace_weights(folder, data):
    (folder / "weights.pt").write_bytes(data)

    def rehash(rdf):
        digest = hashlib.sha256(data).hexdigest()
        rdf["weights"]["pytorch_state_dict"]["sha256"] = digest

    change_rdf(folder, rehash)


def test_what_was_written_is_read_back(written, network, description, words):
    bundle = read_bundle(written.path)
    assert bundle == written
    assert (bundle.name, bundle.title, bundle.licence) == (
        words["name"],
        words["title"],
        words["licence"],
    )
    assert bundle.sha256 == hashlib.sha256((bundle.path / RDF).read_bytes()).hexdigest()
    own = bundle.description
    assert own.normalisation == description.normalisation
    assert own.outputs == description.outputs
    assert (own.input.divisor, own.input.halo) == (network.divisor, network.halo)
    assert own.latency[0].milliseconds > 0
    assert own.made_with["torch"] == torch.__version__
    assert bundle.read_file("README.md").decode() == words["card"]
    assert bundle.read_file("recipe.yaml").decode() == words["recipe_yaml"]


def test_every_file_is_listed_with_its_hash(written):
    there = {path.name for path in written.path.iterdir()}
    assert there == {*written.files, RDF, SEAL}
    for name, digest in written.files.items():
        assert hashlib.sha256((written.path / name).read_bytes()).hexdigest() == digest


def test_the_loaded_module_is_the_written_one(written, network, description, planes):
    counts = torch.from_numpy(planes.astype(np.float32))[None]
    with torch.inference_mode():
        wanted = StainModule(network, description.normalisation)(counts)
        found = written.load_module()(counts)
    assert torch.equal(found, wanted)
    test_input, test_output = written.test_tensors()
    np.testing.assert_array_equal(test_input[0], planes)
    np.testing.assert_allclose(test_output, wanted, atol=1e-5)


def test_writing_does_not_change_the_network_given(tmp_path, network, description, planes, words):
    network.train()
    try:
        before = {key: value.clone() for key, value in network.state_dict().items()}
        write_bundle(
            tmp_path / "b",
            network=network,
            description=description,
            test_input=planes,
            onnx=False,
            **words,
        )
        assert network.training
        for key, value in network.state_dict().items():
            assert torch.equal(value, before[key])
    finally:
        network.eval()


def test_bioimageio_finds_a_valid_model(written):
    from bioimageio.spec import load_model_description
    from bioimageio.spec.model.v0_5 import ModelDescr

    verify_bundle(written.path)
    model = load_model_description(written.path / RDF, perform_io_checks=True)
    assert isinstance(model, ModelDescr)
    assert model.license == "BSD-3-Clause"
    assert model.weights.onnx is not None
    assert model.weights.pytorch_state_dict.architecture.callable == "stain_module"
    assert [axis.id for axis in model.inputs[0].axes] == ["batch", "channel", "y", "x"]
    assert model.inputs[0].axes[2].scale == pytest.approx(0.1)
    assert model.get_input_test_arrays()[0].dtype == np.uint16
    assert model.model_dump(mode="json")["config"]["livestain"]["network"]["name"] == "unet2d"
    summary = model.validation_summary
    assert summary.status == "valid-format", summary
    assert not [e for detail in summary.details for e in detail.errors]


def test_what_the_rdf_names_for_other_tools_builds_the_module(written):
    from importlib import import_module

    named = written.rdf["weights"]["pytorch_state_dict"]["architecture"]
    build = getattr(import_module(named["import_from"]), named["callable"])
    module = build(**named["kwargs"])
    module.load_state_dict(written.load_module().state_dict())


@pytest.mark.parametrize("shape", [(1, 3, 48, 64), (2, 3, 16, 20), (1, 3, 4, 4), (3, 3, 100, 36)])
def test_onnx_computes_what_torch_does(written, shape):
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(
        written.read_file("weights.onnx"), providers=["CPUExecutionProvider"]
    )
    counts = np.random.default_rng(5).normal(9000, 700, shape).astype(np.uint16).astype(np.float32)
    (found,) = session.run(None, {"counts": counts})
    with torch.inference_mode():
        wanted = written.load_module()(torch.from_numpy(counts)).numpy()
    assert np.sqrt(np.mean((found - wanted) ** 2)) < 1e-5 * wanted.std()


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "cover.png",
        "recipe.yaml",
        "test_input.npy",
        "test_output.npy",
        "weights.onnx",
        "weights.pt",
        RDF,
        SEAL,
    ],
)
def test_damage_to_any_file_is_one_sentence_that_names_it(folder, name):
    path = folder / name
    data = path.read_bytes()
    for damaged in (data[:-1], bytes([data[0] ^ 1]) + data[1:], None):
        path.unlink() if damaged is None else path.write_bytes(damaged)
        with pytest.raises(BundleError) as caught:
            read_bundle(folder)
        message = str(caught.value)
        assert name.removesuffix(".sha256") in message
        assert str(folder) in message
        assert "\n" not in message
    path.write_bytes(data)
    read_bundle(folder)


def drop(*keys):
    def change(rdf):
        for key in keys[:-1]:
            rdf = rdf[key]
        del rdf[keys[-1]]

    return change


def put(value, *keys):
    def change(rdf):
        for key in keys[:-1]:
            rdf = rdf[key]
        rdf[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("dataset", "type"), "expected a bioimage.io 'model' in format 0.5"),
        (put("0.4.10", "format_version"), "format '0.4.10'; expected"),
        (drop("config", "livestain"), "without config.livestain"),
        (drop("config"), "without config.livestain"),
        (put(1, "config", "livestain", "inptu"), "unknown key 'inptu'.*did you mean 'input'"),
        (drop("config", "livestain", "outputs"), "'outputs'"),
        (put(2, "config", "livestain", "schema_version"), "'schema_version'"),
        (put(-1.0, "config", "livestain", "tolerance"), "'tolerance'"),
        (drop("license"), "lacks id, name or license"),
        (drop("weights", "onnx", "sha256"), "no single sha256 for weights.onnx"),
        (put("../weights.pt", "weights", "onnx", "source"), "files inside the bundle"),
        (put("/etc/hosts", "weights", "onnx", "source"), "files inside the bundle"),
        (put(r"C:\weights.pt", "weights", "onnx", "source"), "files inside the bundle"),
        (put("https://x.org/w", "weights", "onnx", "source"), "files inside the bundle"),
    ],
)
def test_a_description_of_another_kind_is_refused(folder, change, message):
    change_rdf(folder, change)
    with pytest.raises(BundleError, match=message):
        read_bundle(folder)


@pytest.mark.parametrize("text", ["a: [", "- 1", "", "\x00", "!!python/object/apply:os.abort []"])
def test_a_description_that_is_no_yaml_mapping_is_refused(folder, text):
    (folder / RDF).write_text(text, "utf-8")
    (folder / SEAL).write_text(seal((folder / RDF).read_bytes()), "utf-8")
    with pytest.raises(BundleError, match=re.escape(str(folder / RDF)) + "|rdf.yaml is not valid"):
        read_bundle(folder)


def test_a_folder_without_a_bundle_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(BundleError, match=r"is not a bundle: it has no rdf\.yaml"):
            read_bundle(folder)


def test_what_bioimageio_refuses_is_refused_with_its_reason(folder):
    change_rdf(folder, put("no spdx", "license"))
    read_bundle(folder)
    with pytest.raises(BundleError, match=r"not a valid bioimage\.io model.*license"):
        verify_bundle(folder)


def test_a_bundle_cannot_choose_what_is_imported(folder):
    change_rdf(
        folder,
        put("antigravity", "weights", "pytorch_state_dict", "architecture", "import_from"),
    )
    read_bundle(folder).load_module()
    assert "antigravity" not in sys.modules


def test_an_unknown_network_is_refused(folder):
    change_rdf(folder, put("os.system", "config", "livestain", "network", "name"))
    with pytest.raises(BundleError, match=r"'os\.system'.*there are: .*unet2d"):
        read_bundle(folder).load_module()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"depht": 3}, "depht"),
        ({"width": -4}, "unet2d"),
        ({"width": 8}, "does not fit the network"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(folder, kwargs, message):
    def change(rdf):
        rdf["config"]["livestain"]["network"]["kwargs"] |= kwargs

    change_rdf(folder, change)
    with pytest.raises(BundleError, match=message):
        read_bundle(folder).load_module()


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def test_weights_that_hold_code_are_refused_and_not_executed(folder, tmp_path):
    target = tmp_path / "exploded"
    torch.save({"network.head.weight": Bomb(target)}, tmp_path / "zip.pt")
    for data in ((tmp_path / "zip.pt").read_bytes(), pickle.dumps(Bomb(target)), b"", b"PK"):
        replace_weights(folder, data)
        bundle = read_bundle(folder)
        with pytest.raises(BundleError, match=r"weights\.pt is refused: .*other than tensors"):
            bundle.load_module()
        assert not target.exists()


def test_weights_that_are_no_state_dict_are_refused(folder, tmp_path):
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    replace_weights(folder, (tmp_path / "tensor.pt").read_bytes())
    with pytest.raises(BundleError, match="does not fit the network"):
        read_bundle(folder).load_module()


def test_a_file_changed_after_reading_is_found_when_it_is_used(folder):
    bundle = read_bundle(folder)
    (folder / "weights.pt").write_bytes(b"something else")
    with pytest.raises(BundleError, match=r"weights\.pt does not have the SHA-256"):
        bundle.load_module()


def test_test_tensors_of_another_kind_are_refused(folder):
    np.save(folder / "test_input.npy", np.zeros((3, 48, 64)))

    def rehash(rdf):
        digest = hashlib.sha256((folder / "test_input.npy").read_bytes()).hexdigest()
        rdf["inputs"][0]["test_tensor"]["sha256"] = digest

    change_rdf(folder, rehash)
    with pytest.raises(BundleError, match=r"test_input\.npy holds float64 \(3, 48, 64\); expected"):
        read_bundle(folder).test_tensors()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test_input": np.zeros((3, 48, 64), np.float32)}, "float32.*expected uint16"),
        ({"test_input": np.zeros((1, 48, 64), np.uint16)}, r"expected uint16 \(3, y, x\)"),
        ({"test_input": np.zeros((3, 47, 64), np.uint16)}, "multiples of 4"),
        ({"name": "Not A Name"}, "not a valid bioimage.io model.*id"),
        ({"title": "x"}, "not a valid bioimage.io model.*name"),
        ({"licence": "mine"}, "not a valid bioimage.io model.*license"),
    ],
)
def test_what_cannot_be_a_bundle_is_refused_and_leaves_nothing(
    tmp_path, network, description, planes, words, change, message
):
    given = {
        "network": network,
        "description": description,
        "test_input": planes,
        "onnx": False,
        **words,
        **change,
    }
    with pytest.raises(BundleError, match=message):
        write_bundle(tmp_path / "b", **given)
    assert not list(tmp_path.iterdir())


def test_a_network_that_is_not_the_described_one_is_refused(
    tmp_path, network, description, planes, words
):
    given = {"network": network, "test_input": planes, "onnx": False, **words}
    other = description.network.model_copy(update={"kwargs": {"width": 4}})
    with pytest.raises(BundleError, match="does not fit the network"):
        write_bundle(
            tmp_path / "b", description=description.model_copy(update={"network": other}), **given
        )
    one = description.model_copy(update={"outputs": description.outputs[:1]})
    with pytest.raises(BundleError, match="outputs expect"):
        write_bundle(tmp_path / "b", description=one, **given)
    for value in (0.0, float("nan")):
        broken = copy.deepcopy(network)
        torch.nn.init.constant_(broken.head.weight, value)
        with pytest.raises(BundleError, match="constant, or has NaN"):
            write_bundle(tmp_path / "b", description=description, **(given | {"network": broken}))
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten_by_accident(tmp_path, network, description, planes, words):
    given = {
        "network": network,
        "description": description,
        "test_input": planes,
        "onnx": False,
        **words,
    }
    folder = tmp_path / "b"
    folder.mkdir()
    first = write_bundle(folder, **given)
    with pytest.raises(BundleError, match=r"not empty.*or overwrite"):
        write_bundle(folder, **given)
    second = write_bundle(folder, overwrite=True, **(given | {"card": "# Another\n"}))
    assert first.sha256 != second.sha256
    assert read_bundle(folder) == second
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    precious = tmp_path / "thesis"
    precious.mkdir()
    (precious / "thesis.txt").write_text("words")
    with pytest.raises(BundleError, match="since it is no bundle"):
        write_bundle(precious, overwrite=True, **given)
    with pytest.raises(BundleError, match="is a file"):
        write_bundle(precious / "thesis.txt", **given)


def test_without_the_extra_the_message_says_how_to_install_it(
    tmp_path, network, description, planes, words, monkeypatch
):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(LivestainError, match=r'pip install "livestain\[train\]"'):
        write_bundle(
            tmp_path / "b", network=network, description=description, test_input=planes, **words
        )
    assert not list(tmp_path.iterdir())


def test_reading_and_checking_cost_no_torch(written):
    program = (
        "import sys; from livestain.bundle import check_fit, find_bundle;"
        "bundle = find_bundle(sys.argv[1]); check_fit(bundle.description, kind='brightfield');"
        "print(sorted({'torch', 'bioimageio', 'onnx', 'scipy'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(written.path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "[]"
