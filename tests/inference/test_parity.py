"""Every shipped bundle by every backend that is there: the test output, to what its precision allows."""

from pathlib import Path

import pytest
import torch

from livestain.bundle import read_bundle
from livestain.bundle.parity import relative_difference
from livestain.inference import Stainer, backend_names
from livestain.inference.backends import get_backend
from livestain.inference.network import network_of
from livestain.inference.proving import parity_limit

MODELS = sorted(path.parent for path in Path(__file__).parents[2].glob("models/**/rdf.yaml"))
DEVICES = ["cpu", *(["cuda:0"] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", backend_names())
@pytest.mark.parametrize("folder", MODELS, ids=lambda path: path.name)
def test_a_shipped_bundle_by_a_backend(folder, name, device):
    bundle = read_bundle(folder)
    backend = get_backend(name)
    why = backend.unready(network_of(bundle, bundle.load_module()), torch.device(device))
    # Emulated on this CPU it is slow, and yet it has to be right.
    emulated = name == "folded-bf16" and why is not None and "would emulate it" in why
    if why is not None and not emulated:
        pytest.skip(why)
    with Stainer(bundle, device=device, backend=name) as stainer:
        assert (stainer.backend, stainer.refused) == (name, {})
        assert stainer.difference <= parity_limit(name, bundle.description)


@pytest.mark.parametrize("name", ["folded", "onnxruntime", "openvino"])
def test_a_bundle_that_is_written_now(onnx_bundle, make_counts, name):
    if name == "openvino":
        pytest.importorskip("openvino")
    planes = make_counts(50, 70)[:1]
    with (
        Stainer(onnx_bundle, device="cpu", backend=name) as stainer,
        Stainer(onnx_bundle, device="cpu", backend="eager") as eager,
    ):
        assert (stainer.backend, stainer.refused) == (name, {})
        assert stainer.difference <= 1e-4
        assert relative_difference(stainer.stain(planes)[None], eager.stain(planes)[None]) <= 1e-4
