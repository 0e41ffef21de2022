"""What is no virtual channel is refused in a sentence, and nothing that a model brings is executed."""

from __future__ import annotations

import json
import pickle
import shutil
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from foreign_cases import copy_changed, write_foreign

from livestain.bundle import find_bundle
from livestain.bundle.add import add_model
from livestain.bundle.foreign import Given
from livestain.bundle.zipped import unzip
from livestain.errors import BundleError, SettingsError

FLOAT = {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model that can be run; not to be changed."""
    return write_foreign(tmp_path_factory.mktemp("foreign") / "model", pre=[FLOAT], predict=False)


@pytest.fixture
def changed(model, tmp_path):
    """Return a function that gives a copy of the model whose rdf.yaml another function has changed."""

    return lambda how: copy_changed(model, tmp_path / "changed", how)


def axis(rdf, name, side="inputs"):
    return next(a for a in rdf[side][0]["axes"] if a.get("id", a["type"]) == name)


def no_scale(rdf):
    for side in ("inputs", "outputs"):
        for name in "yx":
            axis(rdf, name, side).pop("scale")
            axis(rdf, name, side).pop("unit")


def step(rdf, name, side="inputs", **kwargs):
    key = "preprocessing" if side == "inputs" else "postprocessing"
    rdf[side][0][key].append({"id": name, "kwargs": kwargs})


def another_input(rdf):
    rdf["inputs"].append({**json.loads(json.dumps(rdf["inputs"][0])), "id": "mask"})


def keras(rdf):
    rdf["weights"] = {"keras_hdf5": {**rdf["weights"]["onnx"], "tensorflow_version": "2.1"}}


def state_dict(rdf):
    entry = {k: v for k, v in rdf["weights"]["onnx"].items() if k != "opset_version"}
    entry["architecture"] = {"import_from": "os", "callable": "system", "kwargs": {}}
    rdf["weights"] = {"pytorch_state_dict": {**entry, "pytorch_version": "2.11"}}


REFUSED = {
    "what kind of channel goes in.*models add .* --kind brightfield": lambda rdf: axis(
        rdf, "channel"
    ).update(channel_names=["gray"]),
    "the pixel size.* --pixel-size UM": no_scale,
    "what its outputs show.* --output NAME": lambda rdf: axis(rdf, "channel", "outputs").update(
        channel_names=["channel0"]
    ),
    "takes planes of 256 pixels in y alone": lambda rdf: axis(rdf, "y").update(size=256),
    "20 plus multiples of 16": lambda rdf: axis(rdf, "x").update(size={"min": 20, "step": 16}),
    "2 input tensors": another_input,
    "axes batch, channel, y, time": lambda rdf: axis(rdf, "x").update(type="time", id="time"),
    "another size in y than its input": lambda rdf: axis(rdf, "y", "outputs").update(scale=0.25),
    "another size in x than its input.*sides": lambda rdf: axis(rdf, "x", "outputs").update(
        size=32
    ),
    "step custom .*no fixed function": lambda rdf: step(rdf, "custom"),
    "stardist_postprocessing .*no fixed function": lambda rdf: step(
        rdf, "stardist_postprocessing", "outputs"
    ),
    "scale_mean_variance needs statistics of another tensor": lambda rdf: step(
        rdf, "scale_mean_variance", "outputs", reference_tensor="raw"
    ),
    "scale_range needs statistics of another tensor": lambda rdf: step(
        rdf, "scale_range", "outputs", reference_tensor="raw"
    ),
    "whole data set": lambda rdf: step(rdf, "zero_mean_unit_variance", axes=["batch", "y", "x"]),
    "names the axis 'w'": lambda rdf: step(rdf, "zero_mean_unit_variance", axes=["w"]),
    "arguments that livestain does not know.*gamma": lambda rdf: step(rdf, "scale_linear", gamma=2),
    "keras_hdf5 alone.*without the code": keras,
    "pytorch_state_dict alone.*never imports code": state_dict,
    "not a bioimage.io model of format 0.5": lambda rdf: rdf.pop("outputs"),
    "gives no SHA-256 for weights.onnx.*models add": lambda rdf: rdf["weights"]["onnx"].pop(
        "sha256"
    ),
    "old format 0.4.10.*models add": lambda rdf: rdf.update(format_version="0.4.10"),
    "expected files inside the bundle": lambda rdf: rdf["weights"]["onnx"].update(
        source="../weights.onnx"
    ),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_a_channel_is_told_in_a_sentence(words, changed):
    with pytest.raises(BundleError, match=f"(?s){words}"):
        find_bundle(changed(REFUSED[words]))


def test_missing_facts_are_told_together_and_can_be_given(changed, tmp_path):
    def bare(rdf):
        no_scale(rdf)
        axis(rdf, "channel").update(channel_names=["gray"])
        axis(rdf, "channel", "outputs").update(channel_names=["out"])
        rdf["tags"] = ["brightfield", "fluorescence"]  # which of them goes in?

    folder = changed(bare)
    with pytest.raises(BundleError) as told:
        find_bundle(folder)
    for words in ("--kind", "--pixel-size", "--output", "channel goes in, the pixel size"):
        assert words in str(told.value)
    given = Given(kinds=("dic",), pixel_size_um=0.2, outputs=("nuclei",))
    bundle = add_model(folder, into=tmp_path / "models", given=given)
    spec = find_bundle(bundle.path).description.input
    assert (spec.kind, spec.pixel_size_um, spec.pixel_size_range_um) == ("dic", 0.2, (0.16, 0.25))


def test_what_is_given_must_fit_the_model(model, tmp_path):
    into = tmp_path / "models"
    with pytest.raises(SettingsError, match="1 outputs, but 2 names"):
        add_model(model, into=into, given=Given(outputs=("a", "b")))
    with pytest.raises(SettingsError, match="2 kinds of channels are given; it has 1 sources"):
        add_model(model, into=into, given=Given(z=1, z_step_um=0.5, kinds=("dic", "phase")))
    with pytest.raises(SettingsError, match="no multiple of 3"):
        add_model(model, into=into, given=Given(z=3, z_step_um=0.5))
    assert not list(into.iterdir())


def test_a_changed_file_is_found(model, changed, tmp_path):
    folder = changed(lambda rdf: None)
    data = bytearray((folder / "weights.onnx").read_bytes())
    data[-1] ^= 1
    (folder / "weights.onnx").write_bytes(data)
    with pytest.raises(BundleError, match=r"weights\.onnx does not have the SHA-256"):
        find_bundle(folder)
    with pytest.raises(BundleError, match=r"weights\.onnx does not have the SHA-256"):
        add_model(folder, into=tmp_path / "models")


def test_no_address_is_fetched(changed, tmp_path):
    folder = changed(
        lambda rdf: rdf["weights"]["onnx"].update(source="https://example.org/weights.onnx")
    )
    with pytest.raises(BundleError, match="packaged model"):
        add_model(folder, into=tmp_path / "models")


class _Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("form", ["torchscript", "onnx"])
def test_a_pickle_in_the_place_of_weights_is_not_executed(form, tmp_path):
    done = tmp_path / "executed"
    folder = write_foreign(tmp_path / "model", pre=[FLOAT], form=form, predict=False)
    weights = folder / ("weights.pt" if form == "torchscript" else "weights.onnx")
    weights.write_bytes(pickle.dumps(_Hostile(done)))
    rdf = yaml.safe_load((folder / "rdf.yaml").read_text())
    del rdf["weights"][form]["sha256"]
    (folder / "rdf.yaml").write_text(yaml.safe_dump(rdf))
    bundle = add_model(folder, into=tmp_path / "models")
    words = "no TorchScript" if form == "torchscript" else "no ONNX network"
    with pytest.raises(BundleError, match=words):
        bundle.load_module().onnx()
    assert not done.exists()


def test_a_test_tensor_that_is_a_pickle_is_refused(tmp_path):
    done = tmp_path / "executed"
    folder = write_foreign(tmp_path / "model", pre=[FLOAT], predict=False)
    np.save(folder / "test_output.npy", np.array([_Hostile(done)], object), allow_pickle=True)
    rdf = yaml.safe_load((folder / "rdf.yaml").read_text())
    del rdf["outputs"][0]["test_tensor"]["sha256"]
    (folder / "rdf.yaml").write_text(yaml.safe_dump(rdf))
    with pytest.raises(BundleError, match="not a plain numpy array"):
        add_model(folder, into=tmp_path / "models")
    assert not done.exists()


def test_onnx_weights_come_from_no_file_that_is_not_listed(model, tmp_path):
    import onnx

    folder = shutil.copytree(model, tmp_path / "model")
    (tmp_path / "secret").write_bytes(b"\0" * 4096)
    net = onnx.load(folder / "weights.onnx")
    tensor = net.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = tensor.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    (folder / "weights.onnx").write_bytes(net.SerializeToString())
    rdf = yaml.safe_load((folder / "rdf.yaml").read_text())
    del rdf["weights"]["onnx"]["sha256"]
    (folder / "rdf.yaml").write_text(yaml.safe_dump(rdf))
    bundle = add_model(folder, into=tmp_path / "models")
    with pytest.raises(BundleError, match=r"has no file '\.\./secret'"):
        bundle.load_module().onnx()


def zipped(path, files, **more):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        for name, mode in more.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, "/etc/passwd")
    return path


@pytest.mark.parametrize(
    "name", ["../out.txt", "/out.txt", "a/../../out.txt", "..\\out.txt", "C:out.txt"]
)
def test_a_zip_writes_nowhere_but_into_its_folder(name, tmp_path):
    inside = tmp_path / "deep" / "inside"
    with pytest.raises(BundleError, match="leads out of the folder"):
        unzip(zipped(tmp_path / "m.zip", {"rdf.yaml": "a: 1", name: "x"}), inside)
    assert [p.name for p in tmp_path.rglob("*out.txt*")] == []


def test_odd_zips_are_refused(tmp_path):
    link = zipped(tmp_path / "link.zip", {}, link=stat.S_IFLNK | 0o777)
    with pytest.raises(BundleError, match="a link"):
        unzip(link, tmp_path / "link")
    large = zipped(tmp_path / "large.zip", {"rdf.yaml": b"\0" * 3_000_000})
    with pytest.raises(BundleError, match=r"unpacks to more than 0\.002 GB"):
        unzip(large, tmp_path / "large", largest=2_000_000)
    many = zipped(tmp_path / "many.zip", {f"{i}": "" for i in range(1001)})
    with pytest.raises(BundleError, match="holds 1001 files"):
        unzip(many, tmp_path / "many")
    (tmp_path / "no.zip").write_bytes(b"PK nothing")
    with pytest.raises(BundleError, match="cannot be unpacked"):
        unzip(tmp_path / "no.zip", tmp_path / "no")
    broken = bytearray(large.read_bytes())
    broken[60] ^= 255
    (tmp_path / "broken.zip").write_bytes(broken)
    with pytest.raises(BundleError, match="Download it again"):
        unzip(tmp_path / "broken.zip", tmp_path / "broken")


def test_a_failed_addition_leaves_nothing_and_nothing_is_overwritten_by_accident(model, tmp_path):
    into = tmp_path / "models"

    def fails(bundle):
        raise BundleError("no")

    with pytest.raises(BundleError, match="no"):
        add_model(model, into=into, check=fails)
    assert not list(into.iterdir())
    first = add_model(model, into=into, name="mine")
    with pytest.raises(BundleError, match="--overwrite"):
        add_model(model, into=into, name="mine", given=Given(outputs=("actin",)))
    again = add_model(
        model, into=into, name="mine", given=Given(outputs=("actin",)), overwrite=True
    )
    assert first.sha256 != again.sha256
    assert find_bundle(into / "mine").description.outputs[0].name == "actin"
    (into / "papers").mkdir()
    with pytest.raises(BundleError, match="is no model"):
        add_model(model, into=into, name="papers", overwrite=True)
    with pytest.raises(BundleError, match="no name of a model"):
        add_model(model, into=into, name="../else")
    with pytest.raises(BundleError, match="There is no"):
        add_model(tmp_path / "nowhere", into=into)
    with pytest.raises(BundleError, match=r"holds no rdf\.yaml"):
        add_model(into / "papers", into=into)


def test_no_training_starts_from_another_tools_network(model):
    from torch import nn

    from livestain.training.recipe import Recipe, find_recipe
    from livestain.training.starting import weights_of_start

    recipe = Recipe.from_yaml(find_recipe("debug")).model_copy(update={"start": str(model)})
    with pytest.raises(SettingsError, match="another tool's network"):
        weights_of_start(recipe, nn.Identity())
