"""Adding another tool's model: what is mapped, bounded, and never asked of an address."""

from __future__ import annotations

import shutil
import zipfile

import numpy as np
import onnx
import pytest
import torch
import yaml
from foreign_cases import copy_changed, picture, write_foreign

from livestain.bundle import read_bundle
from livestain.bundle.add import add_model
from livestain.bundle.fit import check_fit
from livestain.bundle.foreign import Given
from livestain.bundle.foreign_statistics import Raw
from livestain.bundle.zipped import unzip
from livestain.errors import BundleError, SettingsError
from livestain.inference import Stainer

FLOAT = {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}
SCALE = {"id": "scale_linear", "kwargs": {"gain": 1 / 255, "offset": 0.0}}


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    """A model of 8-bit values; not to be changed."""
    return write_foreign(
        tmp_path_factory.mktemp("foreign") / "eight", dtype="uint8", pre=[SCALE, FLOAT]
    )


@pytest.fixture
def changed(eight, tmp_path):
    """Return a function that gives a copy of the model whose rdf.yaml another function has changed."""

    return lambda how: copy_changed(eight, tmp_path / "changed", how)


def test_counts_that_the_model_would_cut_off_are_refused(eight, tmp_path):
    bundle = add_model(eight, into=tmp_path)
    check_fit(bundle.description, most=255)
    with pytest.raises(BundleError, match=r"up to 4095.*0 to 255.*--input-range LOW HIGH \(0 4095"):
        check_fit(bundle.description, most=4095)


def test_a_declared_range_counts_too(changed, tmp_path):
    def declare(rdf):
        rdf["inputs"][0]["data"] = {"type": "float32", "range": [0.0, 1.0]}

    described = read_bundle(add_model(changed(declare), into=tmp_path / "models").path).description
    assert described.network.takes == (0.0, 1.0)
    with pytest.raises(BundleError, match="values of 0 to 1:"):
        check_fit(described, most=255)


def test_counts_of_a_range_are_mapped_onto_the_models(eight, tmp_path):
    """A camera of 12 bits that sees the test input's values times 16 + 100: the test output comes."""
    plain = add_model(eight, into=tmp_path)
    bundle = add_model(
        eight, into=tmp_path, name="mapped", given=Given(input_range=(100, 100 + 16 * 255))
    )
    check_fit(bundle.description, most=65535)
    values, expected = plain.test_tensors()
    counts = (values.astype(np.uint16) * 16 + 100)[0]
    with Stainer(bundle, device="cpu") as stainer:  # which has held it to its own test output
        np.testing.assert_allclose(stainer.stain(counts), expected[0], atol=1e-5)
        dark = stainer.stain(np.zeros_like(counts))
    with Stainer(plain, device="cpu") as stainer:
        np.testing.assert_allclose(stainer.stain(np.zeros_like(counts)), dark, atol=1e-5)


@pytest.mark.parametrize("given", [(0, 70000), (9, 9), (5, 2)])
def test_a_range_that_is_none_is_refused(eight, tmp_path, given):
    with pytest.raises(BundleError, match="LOW HIGH"):
        add_model(eight, into=tmp_path, given=Given(input_range=given))


def test_a_range_for_a_model_without_limits_is_refused(changed, tmp_path):
    def plain(rdf):
        rdf["inputs"][0]["data"] = {"type": "float32"}

    with pytest.raises(BundleError, match="leave --input-range out"):
        add_model(changed(plain), into=tmp_path / "models", given=Given(input_range=(0, 4095)))


def test_addresses_of_data_and_papers_are_no_files_and_are_not_asked(
    changed, tmp_path, monkeypatch
):
    def name(rdf):
        rdf["training_data"] = {"name": "cells", "source": "https://example.org/cells.zip"} | {
            key: rdf[key] for key in ("description", "authors", "cite", "license")
        }
        rdf["training_data"] |= {"type": "dataset", "format_version": "0.3.0"}
        rdf["cite"] = [{"text": "somebody", "url": "https://example.org/paper"}]
        rdf["git_repo"] = "https://example.org/code"

    def asked(*args, **kwargs):
        raise AssertionError(f"asked {args}")

    for function in ("request", "get", "head"):
        monkeypatch.setattr(f"httpx.{function}", asked)
    bundle = add_model(changed(name), into=tmp_path / "models")
    assert "rdf.yaml" not in bundle.files
    assert not any(":" in file for file in bundle.files)
    again = add_model(bundle.path, into=tmp_path / "others")
    assert again.files == bundle.files


def test_what_cannot_be_is_refused_and_nothing_is_dropped():
    for key, value in {"past": -1, "z": 0, "pixel_size_um": 0.0, "z_step_um": float("inf")}.items():
        with pytest.raises(SettingsError, match=key):
            Given.parse({key: value}, where="said")
    assert Given(past=0).past == 0


def test_the_formats_halo_is_no_reach(changed, tmp_path):
    def halo(rdf):
        for axis in rdf["outputs"][0]["axes"][2:]:
            axis["halo"] = 1

    description = add_model(changed(halo), into=tmp_path / "models").description
    assert description.input.halo is None


def test_a_stack_below_the_smallest_is_refused(tmp_path):
    folder = write_foreign(
        tmp_path / "model", axes_in="bczyx", dtype="uint16", pre=[FLOAT], predict=False
    )
    rdf = yaml.safe_load((folder / "rdf.yaml").read_text())
    rdf["inputs"][0]["axes"][2]["size"] = {"min": 6, "step": 2}
    (folder / "rdf.yaml").write_text(yaml.safe_dump(rdf))
    description = add_model(folder, into=tmp_path / "models").description
    check_fit(description, n_z=6)
    with pytest.raises(BundleError, match="has 4 z-planes, but the model takes 6 and more"):
        check_fit(description, n_z=4)


def test_numbers_in_a_nodes_attribute_come_from_listed_files_alone(eight, tmp_path, monkeypatch):
    folder = shutil.copytree(eight, tmp_path / "model")
    net = onnx.load(folder / "weights.onnx")
    weights = net.graph.initializer[0]
    raw = weights.raw_data
    constant = onnx.helper.make_node("Constant", [], [weights.name], value=weights)
    held = constant.attribute[0].t
    held.ClearField("raw_data")
    held.data_location = held.EXTERNAL
    held.external_data.add(key="location", value="secret")
    del net.graph.initializer[0]
    net.graph.node.insert(0, constant)
    (folder / "weights.onnx").write_bytes(net.SerializeToString())
    rdf = yaml.safe_load((folder / "rdf.yaml").read_text())
    del rdf["weights"]["onnx"]["sha256"]
    (folder / "rdf.yaml").write_text(yaml.safe_dump(rdf))
    (tmp_path / "secret").write_bytes(raw)
    monkeypatch.chdir(tmp_path)  # where ONNX Runtime would look
    bundle = add_model(folder, into=tmp_path / "models")
    with pytest.raises(BundleError, match="has no file 'secret'"):
        Stainer(bundle, device="cpu")


def test_percentiles_of_counts_and_of_other_values_are_the_same():
    """A histogram of whole counts and selection give the same bits; numpy says which."""
    planes = picture((2, 3, 33, 41)).astype(np.float32)
    x = torch.from_numpy(planes)
    for dims in ((2, 3), (1, 2, 3)):
        for q in (0.0, 0.018, 0.5, 0.998, 1.0):
            for linear in (False, True):
                counted = Raw(x, whole=True).quantile(q, dims, linear=linear)
                assert torch.equal(counted, Raw(x).quantile(q, dims, linear=linear))
                method = "linear" if linear else "inverted_cdf"
                wanted = np.quantile(planes, q, axis=dims, keepdims=True, method=method)
                np.testing.assert_allclose(counted.numpy(), wanted, rtol=1e-6)


@pytest.mark.parametrize("how", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_DEFLATED])
def test_a_damaged_zip_is_told_as_one(tmp_path, how):
    path = tmp_path / "model.zip"
    text = b"".join(b"%d " % i for i in range(5000))
    with zipfile.ZipFile(path, "w", how) as archive:
        archive.writestr("rdf.yaml", text)
    data = bytearray(path.read_bytes())
    data[60:200] = bytes(140)
    path.write_bytes(data)
    with pytest.raises(BundleError, match=r"cannot be unpacked.*Download it again"):
        unzip(path, tmp_path / "out")


def test_an_empty_zip_holds_no_model(tmp_path):
    path = tmp_path / "model.zip"
    zipfile.ZipFile(path, "w").close()
    with pytest.raises(BundleError, match=r"holds no rdf\.yaml"):
        add_model(path, into=tmp_path / "models")
