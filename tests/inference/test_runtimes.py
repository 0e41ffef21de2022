"""The backends that are there compute what eager computes, whatever shapes come in turn."""

import shutil

import numpy as np
import onnx
import pytest
import torch
import yaml
from torch import nn

from livestain.bundle import StainModule, read_bundle
from livestain.bundle.files import RDF, SEAL, seal, sha256
from livestain.bundle.onnx_export import export_onnx
from livestain.bundle.onnx_network import INPUT, cut_network, network_onnx
from livestain.bundle.parity import relative_difference
from livestain.errors import BundleError, LivestainError
from livestain.inference import Stainer
from livestain.inference.backends import backend_names, get_backend, onnx_runtime, open_vino, plain
from livestain.inference.network import Network, network_of

CPU = torch.device("cpu")
ON_CPU = ["eager", "folded", "folded-bf16", "onnxruntime", "openvino"]


def needs(name):
    if name.startswith("openvino"):
        pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def network(onnx_bundle):
    return network_of(onnx_bundle, onnx_bundle.load_module())


def wanted(network, x):
    with torch.inference_mode():
        return network.module(x)


@pytest.mark.parametrize("name", ON_CPU)
def test_frames_of_several_shapes_in_turn(onnx_bundle, make_counts, name):
    needs(name)
    frames = [make_counts(h, w)[:1] for h, w in ((64, 64), (41, 130), (7, 3), (64, 64))]
    with (
        Stainer(onnx_bundle, device="cpu", backend="eager") as eager,
        Stainer(onnx_bundle, device="cpu", backend=name) as stainer,
    ):
        if name == "folded-bf16":
            # Random weights predict planes that hardly vary, which it may be too coarse for.
            assert stainer.backend in (name, "eager")
        else:
            assert (stainer.backend, stainer.refused) == (name, {})
        found = [stainer.stain(frame) for frame in frames]
        for frame, each in zip(frames, found, strict=True):
            limit = 0.05 if name == "folded-bf16" else 1e-4
            assert relative_difference(each[None], eager.stain(frame)[None]) < limit


@pytest.mark.parametrize("name", ["folded", "onnxruntime", "openvino"])
def test_a_prediction_stays_when_the_next_is_made_and_the_input_too(network, name):
    needs(name)
    first, second = torch.randn(1, 1, 32, 48), torch.randn(2, 1, 32, 48)
    given = first.clone()
    with torch.inference_mode():
        predict = get_backend(name).load(network, CPU)
        kept = predict(first)
        # A batch, and memory whose rows are not side by side, as tiles are cut.
        wide = torch.randn(2, 1, 64, 96)
        wide[..., 16:48, 24:72] = second
        found = predict(wide[..., 16:48, 24:72])
    for each, x in ((kept, first), (found, second)):
        assert relative_difference(each.numpy(), wanted(network, x).numpy()) < 1e-4
    assert torch.equal(first, given)


def test_what_is_not_ready_says_why(network, monkeypatch):
    monkeypatch.setattr(open_vino, "find_spec", lambda name: None)
    monkeypatch.setattr(plain, "cpu_has_bf16", lambda: False)

    def why(name, network=network):
        return get_backend(name).unready(network, CPU)

    assert {name: why(name) for name in backend_names()} == {
        "eager": None,
        "folded": None,
        "onnxruntime": None,
        "folded-tf32": "needs a CUDA device",
        "folded-fp16": "needs a CUDA device",
        **dict.fromkeys(
            ("cudagraph", "cudagraph-tf32", "cudagraph-fp16", "cudagraph-bf16"),
            "needs a CUDA device",
        ),
        **dict.fromkeys(
            ("folded-bf16", "inductor-bf16"),
            "this CPU has no bfloat16 arithmetic (AVX512-BF16 or AMX) and would emulate it",
        ),
        "inductor": "not compiled for this model and device yet: livestain bench --tune",
        "onnxruntime-int8": "the bundle has no calibrated int8 network",
        **dict.fromkeys(
            ("openvino", "openvino-bf16", "openvino-int8"),
            'OpenVINO is not installed: pip install "livestain[openvino]"',
        ),
    }
    for name in ("openvino", "cudagraph", "folded-fp16", "inductor", "onnxruntime-int8"):
        with pytest.raises(LivestainError):
            get_backend(name).load(network, CPU)


def without_marks(onnx_bundle, folder):
    """A bundle as older versions wrote it."""
    shutil.copytree(onnx_bundle.path, folder)
    model = onnx.load(folder / "weights.onnx")
    for node in model.graph.node:
        node.input[:] = ["plain" if each == INPUT else each for each in node.input]
        node.output[:] = ["plain" if each == INPUT else each for each in node.output]
    del model.graph.value_info[:]
    onnx.save(model, folder / "weights.onnx")
    rdf = yaml.safe_load((folder / RDF).read_text("utf-8"))
    rdf["weights"]["onnx"]["sha256"] = sha256((folder / "weights.onnx").read_bytes())
    (folder / RDF).write_text(yaml.safe_dump(rdf), "utf-8")
    (folder / SEAL).write_text(seal((folder / RDF).read_bytes()), "utf-8")
    return read_bundle(folder)


def test_an_older_bundle_runs_on_torch_and_says_what_the_others_lack(onnx_bundle, tmp_path):
    old = without_marks(onnx_bundle, tmp_path / "old")
    with Stainer(old, device="cpu", backend="onnxruntime") as stainer:
        assert stainer.backend == "eager"
        assert stainer.refused == {
            "onnxruntime": "the bundle's ONNX does not mark its network: export the model again"
        }
    with pytest.raises(BundleError, match=r"without its normalisation: .* Export the model again"):
        network_onnx(old)


def test_a_network_that_is_there_as_onnx_alone(network):
    alone = Network(None, network.onnx, None, 2, "none")
    assert get_backend("onnxruntime").unready(alone, CPU) is None
    for name in ("eager", "folded"):
        assert "only ONNX" in get_backend(name).unready(alone, CPU)
        with pytest.raises(LivestainError, match="Use onnxruntime or openvino"):
            get_backend(name).load(alone, CPU)


@pytest.mark.parametrize("name", ["onnxruntime-int8", "openvino-int8"])
def test_a_calibrated_network_of_integers_is_near_that_of_floats(tmp_path, name, monkeypatch):
    needs(name)
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Planes(CalibrationDataReader):
        def __init__(self):
            rng = np.random.default_rng(1)
            self.left = [{INPUT: rng.normal(size=(1, 1, 32, 32)).astype("f4")} for _ in range(4)]

        def get_next(self):
            return self.left.pop() if self.left else None

    # With settled normalisation: what hardly varies about a mean is lost in 256 steps.
    network = trap()
    export_onnx(StainModule(network.module), torch.rand(1, 1, 32, 32), tmp_path / "weights.onnx")
    quantize_static(
        cut_network(onnx.load(tmp_path / "weights.onnx")),
        tmp_path / "int8.onnx",
        Planes(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
    )
    whole = Network(network.module, None, (tmp_path / "int8.onnx").read_bytes, 2, "none")
    for sums in (False, True):
        monkeypatch.setattr(onnx_runtime, "cpu_sums_int8", lambda sums=sums: sums)
        why = get_backend(name).unready(whole, CPU)
        if name == "onnxruntime-int8" and not sums:
            assert "has no VNNI" in why
        else:
            assert why is None
    x = torch.randn(1, 1, 48, 64)
    with torch.inference_mode():
        found = get_backend(name).load(whole, CPU)(x)
    expected = wanted(network, x)
    assert 1e-6 < relative_difference(found.numpy(), expected.numpy()) < 0.15


def trap():
    """As many channels in as out of a transposed convolution: inductor's own folding is wrong there."""
    torch.manual_seed(5)
    network = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()),
        nn.MaxPool2d(2),
        nn.Sequential(nn.ConvTranspose2d(6, 6, 2, stride=2), nn.BatchNorm2d(6), nn.ReLU()),
        nn.Conv2d(6, 1, 1),
    )
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias, -1, 1)
    for _ in range(5):
        network(torch.randn(4, 1, 16, 16) * 3 + 1)
    return Network(network.eval(), None, None, 2, "trap")


def test_the_trap_of_transposed_convolutions_does_not_catch_folding():
    network, x = trap(), torch.randn(1, 1, 32, 32)
    with torch.inference_mode():
        found = get_backend("folded").load(network, CPU)(x)
    assert relative_difference(found.numpy(), wanted(network, x).numpy()) < 1e-5


def has_compiler():
    return any(shutil.which(each) for each in ("g++", "clang++", "cl"))


@pytest.mark.slow
@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
def test_nor_what_is_compiled(cache):
    from livestain.inference.backends.compiled import package_path, packages_folder
    from livestain.inference.tuning import _compile

    network, x = trap(), torch.randn(1, 1, 32, 32)
    backend = get_backend("inductor")
    folder = packages_folder(network, CPU, "fp32")
    folder.mkdir(parents=True)
    assert (
        _compile(network.module, CPU, "fp32", (1, 1, 32, 32), package_path(folder, x.shape)) < 1e-4
    )
    assert backend.unready(network, CPU) is None
    with torch.inference_mode():
        predict = backend.load(network, CPU)
        found = predict(x)
        other = torch.randn(1, 1, 16, 48)  # a shape that was not compiled
        found_other = predict(other)
    assert relative_difference(found.numpy(), wanted(network, x).numpy()) < 1e-5
    assert relative_difference(found_other.numpy(), wanted(network, other).numpy()) < 1e-5


@pytest.mark.slow
@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
def test_tuning_makes_a_candidate_and_is_not_done_twice(bundle, cache, make_counts):
    from livestain.inference.tuning import tune

    told = []
    done = tune(bundle, "cpu", [(1, 32, 40)], tell=told.append)
    done = [each for each in done if each.backend == "inductor"]
    assert [each.shape for each in done] == [(1, 2, 64, 48), (1, 2, 32, 40)]
    assert told[0] == "tiny: inductor for 1 x 2 x 64 x 48"
    again = tune(bundle, "cpu", [(1, 32, 40)])
    assert all(each.seconds == 0 for each in again)
    with (
        Stainer(bundle, device="cpu", backend="inductor") as stainer,
        Stainer(bundle, device="cpu", backend="eager") as eager,
    ):
        assert stainer.backend == "inductor"
        for shape in ((32, 40), (30, 37), (80, 16)):
            planes = make_counts(*shape)
            assert (
                relative_difference(stainer.stain(planes)[None], eager.stain(planes)[None]) < 1e-4
            )


def test_without_a_compiler_tuning_says_so(bundle, cache, monkeypatch):
    from torch._inductor import cpp_builder
    from torch._inductor.exc import InvalidCxxCompiler

    from livestain.inference.tuning import tune

    def none():
        raise InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", none)
    with pytest.raises(LivestainError, match=r"no C\+\+ compiler.*install g\+\+ or clang"):
        tune(bundle, "cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", [n for n in backend_names() if n.startswith(("cuda", "folded"))])
def test_graphs_and_precisions_of_a_gpu(network, name):
    device = torch.device("cuda:0")
    backend = get_backend(name)
    if (why := backend.unready(network, device)) is not None:
        pytest.skip(why)
    limit = {"fp32": 1e-4, "tf32": 1e-2}.get(backend.precision, 0.05)
    with torch.inference_mode():
        predict = backend.load(network, device)
        # More shapes than graphs are kept for, and the first again.
        sides = [(32, 32), (32, 64), (64, 32), (64, 64), (16, 16), (96, 32), (32, 32)]
        inputs = [torch.randn(1, 1, *each, device=device) for each in sides]
        found = [predict(x) for x in inputs]
        for x, y in zip(inputs, found, strict=True):
            expected = network.module(x.cpu()).numpy()
            assert relative_difference(y.cpu().numpy(), expected) < limit
