"""Models that other tools wrote, run as virtual channels; bioimageio.core says what they should predict."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from foreign_cases import core_predict, own_axes, picture, plain_axes, write_foreign

from livestain.bundle import find_bundle, verify_bundle
from livestain.bundle.add import add_model
from livestain.bundle.foreign import Given
from livestain.inference import Stainer

FLOAT = {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}


def step(name, **kwargs):
    return {"id": name, "kwargs": kwargs}


MEAN = step("zero_mean_unit_variance", axes=["y", "x"])
TWO = {"channels": ("phase", "dic"), "outputs": ("nuclei", "actin")}

CASES = {
    "plain": {"pre": [MEAN, FLOAT]},
    "TorchScript": {"pre": [MEAN, FLOAT], "form": "torchscript"},
    "channels last": {"axes_in": "byxc", "pre": [MEAN, FLOAT], **TWO},
    "channels last, TorchScript": {
        "axes_in": "byxc",
        "pre": [MEAN, FLOAT],
        "form": "torchscript",
        **TWO,
    },
    "only y and x": {"axes_in": "yx", "dtype": "uint8", "pre": [MEAN, FLOAT]},
    "channels together": {
        "pre": [step("zero_mean_unit_variance", axes=["channel", "y", "x"]), FLOAT],
        **TWO,
    },
    "all axes": {"pre": [step("zero_mean_unit_variance"), FLOAT], **TWO},
    "percentiles": {
        "dtype": "uint8",
        "pre": [
            step("scale_range", axes=["y", "x"], min_percentile=2.0, max_percentile=99.8),
            step("clip", min=0.0, max=1.0),
            FLOAT,
        ],
        "post": [step("scale_linear", gain=3.0, offset=-1.0), {"id": "sigmoid"}],
    },
    "percentiles of the stack": {
        "axes_in": "bzcyx",
        "pre": [step("scale_range", axes=["z", "y", "x"], max_percentile=99.0), FLOAT],
    },
    "clipped at percentiles": {
        "dtype": "float32",
        "pre": [step("clip", axes=["y", "x"], min_percentile=5.0, max_percentile=99.0), MEAN],
    },
    "fixed, by channel": {
        "pre": [
            FLOAT,
            step("fixed_zero_mean_unit_variance", mean=[900, 1000], std=[300, 200], axis="channel"),
            FLOAT,
        ],
        "post": [
            step("scale_linear", gain=[2.0, 3.0], offset=0.5, axis="channel"),
            step("softmax"),
            step("clip", min=0.1, max=0.8),
        ],
        **TWO,
    },
    # Statistics are of the tensor as it came in, whatever was done to it before.
    "one step after the other": {
        "dtype": "float32",
        "pre": [step("scale_linear", gain=0.01, offset=1.0), MEAN],
    },
    "8 bits into the network": {
        "pre": [step("scale_linear", gain=0.01), step("ensure_dtype", dtype="uint8")],
        "elem": "UINT8",
    },
    "old operators": {"pre": [MEAN, FLOAT], "axes_in": "ybx", "opset": 11},
    "whole stack": {"axes_in": "bczyx", "pre": [MEAN, FLOAT]},
    "whole stack, TorchScript": {
        "axes_in": "zbyxc",
        "pre": [MEAN, FLOAT],
        "form": "torchscript",
        **TWO,
    },
    "whole stack of 5": {"axes_in": "bczyx", "depth": 5, "pre": [MEAN, FLOAT]},
    "one plane of 5, TorchScript": {
        "axes_in": "bczyx",
        "axes_out": "bcyx",
        "depth": 5,
        "pre": [MEAN, FLOAT],
        "form": "torchscript",
    },
    "one plane of 5": {"axes_in": "bczyx", "axes_out": "bcyx", "depth": 5, "pre": [MEAN, FLOAT]},
}


@pytest.mark.parametrize("case", CASES)
def test_a_foreign_model_predicts_what_its_own_library_does(case, tmp_path):
    options = CASES[case]
    letters = options.get("axes_in", "bcyx")
    folder = write_foreign(tmp_path / "model", **options)
    given = Given(kinds=("brightfield",), outputs=("nuclei",)) if letters in ("yx", "ybx") else None
    bundle = add_model(folder, into=tmp_path / "models", name="added", given=given)
    found = find_bundle(bundle.path)
    assert found.sha256 == bundle.sha256
    window = found.description.input.window
    sides = ((window.depth or 4,) if window.whole_stack else (5,) if window.n_z > 1 else ()) + (
        40,
        60,
    )
    channels = len(found.description.input.kinds)
    dtype = np.uint8 if options.get("dtype") == "uint8" else np.uint16
    planes = picture((channels, *sides), dtype, seed=8)
    with Stainer(found, device="cpu") as stainer:
        predicted = stainer.stain(planes.reshape(-1, *sides[-2:]))
        assert stainer.backend in ("onnxruntime", "folded")
    theirs = core_predict(folder / "rdf.yaml", own_axes(planes, letters))[0]
    wanted = plain_axes(theirs, options.get("axes_out", letters))
    assert predicted.shape == wanted.shape
    np.testing.assert_allclose(predicted, wanted, atol=2e-5 * wanted.std())
    # What is stored has room for it.
    for output, values in zip(found.description.outputs, predicted, strict=True):
        counts = (values - output.offset) / output.scale
        assert 0 < counts.min()
        assert counts.max() < 65535


@pytest.mark.parametrize("form", ["onnx", "torchscript"])
def test_frames_of_any_size_are_padded_and_cut(form, tmp_path):
    folder = write_foreign(tmp_path / "model", pre=[MEAN, FLOAT], form=form)
    planes = picture((1, 37, 50))
    with Stainer(folder, device="cpu") as stainer:
        predicted = stainer.stain(planes)
    assert predicted.shape == (1, 37, 50)
    # Away from what was added at the bottom and the right it is what a frame on the grid gives.
    near = core_predict(folder / "rdf.yaml", planes[None, :, :36, :48])[0][0]
    assert np.corrcoef(predicted[0, 2:30, 2:40].ravel(), near[0, 2:30, 2:40].ravel())[0, 1] > 0.9999


def test_a_model_that_says_enough_needs_not_be_added(tmp_path):
    folder = write_foreign(
        tmp_path / "as-it-is",
        pre=[MEAN, FLOAT],
        channels=("gray",),
        tags=["bright-field", "denoising"],
        axis_options={"scale": 62.5, "unit": "nanometer", "step": 16, "halo": 4},
    )
    bundle = find_bundle(folder)
    spec = bundle.description.input
    assert (spec.kind, spec.pixel_size_um, spec.divisor, spec.halo) == (
        "brightfield",
        0.0625,
        16,
        None,
    )
    assert bundle.description.outputs[0].name == "nuclei"
    assert bundle.licence == "MIT"
    verify_bundle(folder)


def test_binary_outputs_are_zero_and_one(tmp_path):
    folder = write_foreign(
        tmp_path / "model",
        pre=[MEAN, FLOAT],
        post=[step("binarize", threshold=0.2)],
        predict=False,
    )
    rdf = yaml.safe_load((folder / "rdf.yaml").read_text())
    rdf["outputs"][0]["data"] = {"type": "bool", "values": [False, True]}
    np.save(folder / "test_output.npy", np.zeros((1, 1, 32, 48), bool) | (np.arange(48) > 20))
    del rdf["outputs"][0]["test_tensor"]["sha256"]
    (folder / "rdf.yaml").write_text(yaml.safe_dump(rdf))
    planes = np.load(folder / "test_input.npy")
    theirs = core_predict(folder / "rdf.yaml", planes)[0]
    np.save(folder / "test_output.npy", theirs)
    bundle = add_model(folder, into=tmp_path / "models")
    with Stainer(bundle, device="cpu") as stainer:
        predicted = stainer.stain(planes[0])
    assert set(np.unique(predicted)) == {0.0, 1.0}
    assert (predicted[0] == theirs[0, 0]).mean() > 0.999


def test_statistics_of_the_output_are_of_the_output(tmp_path):
    # bioimageio.core cannot take them; numpy can.
    options = {"pre": [MEAN, FLOAT], "predict": False}
    plain = write_foreign(tmp_path / "plain", pre=[MEAN, FLOAT])
    folder = write_foreign(tmp_path / "model", post=[MEAN], **options)
    raw = np.load(plain / "test_output.npy").astype(np.float64)
    wanted = (raw - raw.mean()) / raw.std()
    np.save(folder / "test_output.npy", wanted.astype(np.float32))
    rdf = yaml.safe_load((folder / "rdf.yaml").read_text())
    del rdf["outputs"][0]["test_tensor"]["sha256"]
    (folder / "rdf.yaml").write_text(yaml.safe_dump(rdf))
    bundle = add_model(folder, into=tmp_path / "models")
    with Stainer(bundle, device="cpu") as stainer:
        assert stainer.difference < 1e-5


def test_channels_can_be_z_planes_or_time_points(tmp_path):
    names = tuple(f"c{i}" for i in range(5))
    folder = write_foreign(tmp_path / "model", channels=names, pre=[MEAN, FLOAT])
    into = tmp_path / "models"
    common = {"kinds": ("phase",)}
    stack = add_model(folder, into=into, name="z", given=Given(z=5, z_step_um=0.5, **common))
    assert stack.description.input.window.n_z == 5
    assert stack.description.input.z_step_um == 0.5
    times = add_model(folder, into=into, name="t", given=Given(past=4, **common))
    assert times.description.input.window.past == 4
    planes = picture((5, 40, 60), seed=5)
    with Stainer(stack, device="cpu") as stainer:
        predicted = stainer.stain(planes)
    wanted = core_predict(folder / "rdf.yaml", planes[None])[0][0]
    np.testing.assert_allclose(predicted, wanted, atol=2e-5 * wanted.std())


def test_several_output_tensors_follow_one_another(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    folder = write_foreign(tmp_path / "model", axes_in="byxc", pre=[MEAN, FLOAT], **TWO)
    model = onnx.load(folder / "weights.onnx")
    first = model.graph.output[0].name
    model.graph.node.append(helper.make_node("Neg", [first], ["second"]))
    model.graph.output.append(
        helper.make_tensor_value_info("second", TensorProto.FLOAT, [None] * 4)
    )
    onnx.save(model, folder / "weights.onnx")
    rdf = yaml.safe_load((folder / "rdf.yaml").read_text())
    del rdf["weights"]["onnx"]["sha256"]
    again = yaml.safe_load(yaml.safe_dump(rdf["outputs"][0]))
    again["id"] = "second"
    again["axes"][3]["channel_names"] = ["lipids", "lysosomes"]
    again["postprocessing"] = [step("scale_linear", gain=2.0)]
    again["test_tensor"] = {"source": "second_test_output.npy"}
    np.save(folder / "second_test_output.npy", -2 * np.load(folder / "test_output.npy"))
    rdf["outputs"].append(again)
    (folder / "rdf.yaml").write_text(yaml.safe_dump(rdf))
    bundle = add_model(folder, into=tmp_path / "models")
    names = [output.name for output in bundle.description.outputs]
    assert names == ["nuclei", "actin", "lipids", "lysosomes"]
    planes = picture((2, 40, 60), seed=5)
    with Stainer(bundle, device="cpu") as stainer:
        predicted = stainer.stain(planes)
    one, two = core_predict(folder / "rdf.yaml", own_axes(planes, "byxc"))
    wanted = np.concatenate([plain_axes(one, "byxc"), plain_axes(two, "byxc")])
    np.testing.assert_allclose(predicted, wanted, atol=2e-5)


def test_onnx_weights_in_a_file_of_their_own(tmp_path):
    import hashlib

    import onnx

    folder = write_foreign(tmp_path / "model", pre=[MEAN, FLOAT])
    model = onnx.load(folder / "weights.onnx")
    onnx.save(
        model,
        folder / "weights.onnx",
        save_as_external_data=True,
        location="weights.data",
        size_threshold=0,
    )
    rdf = yaml.safe_load((folder / "rdf.yaml").read_text())
    rdf["weights"]["onnx"] |= {
        "sha256": hashlib.sha256((folder / "weights.onnx").read_bytes()).hexdigest(),
        "external_data": {"source": "weights.data"},
    }
    rdf["format_version"] = "0.5.7"
    (folder / "rdf.yaml").write_text(yaml.safe_dump(rdf))
    bundle = add_model(folder, into=tmp_path / "models")
    assert "weights.data" in bundle.files
    with Stainer(bundle, device="cpu") as stainer:
        assert stainer.difference < 1e-5


def test_format_0_4_is_brought_into_0_5(tmp_path):
    folder = write_foreign(tmp_path / "new", pre=[MEAN, FLOAT])
    old = {
        "format_version": "0.4.10",
        "type": "model",
        "name": "An old model",
        "description": "Of the tests",
        "authors": [{"name": "somebody"}],
        "cite": [{"text": "nobody", "doi": "10.1234/abc"}],
        "license": "MIT",
        "documentation": "README.md",
        "tags": ["phase-contrast"],
        "timestamp": "2020-01-01T00:00:00",
        "inputs": [
            {
                "name": "raw",
                "axes": "bcyx",
                "data_type": "uint16",
                "data_range": [0, 65535],
                "shape": {"min": [1, 1, 16, 16], "step": [0, 0, 16, 16]},
                "preprocessing": [
                    {
                        "name": "zero_mean_unit_variance",
                        "kwargs": {"axes": "yx", "mode": "per_sample"},
                    }
                ],
            }
        ],
        "outputs": [
            {
                "name": "predicted",
                "axes": "bcyx",
                "data_type": "float32",
                "data_range": ["-inf", "inf"],
                "shape": {
                    "reference_tensor": "raw",
                    "scale": [1, 1, 1, 1],
                    "offset": [0, 0, 0, 0],
                },
            }
        ],
        "test_inputs": ["test_input.npy"],
        "test_outputs": ["test_output.npy"],
        "weights": {"onnx": {"source": "weights.onnx", "opset_version": 17}},
    }
    (folder / "rdf.yaml").write_text(yaml.safe_dump(old))
    given = Given(pixel_size_um=0.2, outputs=("actin",))
    bundle = add_model(folder, into=tmp_path / "models", given=given)
    assert bundle.description.input.kind == "phase"
    assert bundle.description.input.divisor == 16
    with Stainer(bundle, device="cpu") as stainer:
        assert stainer.difference < 1e-5
