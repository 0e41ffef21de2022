"""The network that is cut out of weights.onnx computes what the network in torch computes."""

import onnx
import onnxruntime
import pytest
import torch
from torch.nn.modules.conv import _ConvNd

from livestain.bundle import StainModule
from livestain.bundle.onnx_export import export_onnx
from livestain.bundle.onnx_network import INPUT, OUTPUT, cut_network, marks_network
from livestain.bundle.parity import relative_difference
from livestain.networks import build_network

CASES = {
    "2-D": ("unet2d", {"in_channels": 1}, {}, (1, 1, 64, 64)),
    "2.5-D with spread, the slim one": (
        "slim2d",
        {"in_channels": 3, "out_channels": 2, "unshuffle": 4},
        {"spread": True},
        (1, 3, 64, 64),
    ),
    "transposed convolutions": ("fnet2d", {"in_channels": 2}, {"sources": 2}, (1, 2, 64, 64)),
    "3-D of five planes filled up to eight, two sources, spread": (
        "unet3d",
        {"in_channels": 2, "out_channels": 2, "depth": 2},
        {"sources": 2, "own_plane": 2, "spread": True},
        (1, 10, 64, 64),
    ),
    "whole stacks of two sources": (
        "fnet3d",
        {"in_channels": 2},
        {"sources": 2},
        (1, 2, 8, 32, 32),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_network_alone_computes_what_torch_computes(case, tmp_path):
    name, kwargs, options, shape = CASES[case]
    torch.manual_seed(0)
    network = build_network(name, **{"width": 4, "depth": 1} | kwargs)
    for layer in network.modules():
        if isinstance(layer, _ConvNd):  # some networks' own weights predict next to nothing
            torch.nn.init.kaiming_normal_(layer.weight)
    module = StainModule(network, **options).eval()
    counts = torch.randint(0, 4000, shape).float()
    export_onnx(module, counts, tmp_path / "weights.onnx")
    model = onnx.load(tmp_path / "weights.onnx")
    assert marks_network(model)

    whole = onnxruntime.InferenceSession(tmp_path / "weights.onnx")
    alone = onnxruntime.InferenceSession(cut_network(model).SerializeToString())
    assert [each.name for each in alone.get_inputs()] == [INPUT]
    assert [each.name for each in alone.get_outputs()] == [OUTPUT]
    # Other sides and another batch than those of the export.
    counts = torch.randint(0, 4000, (3, *shape[1:-2], 48, 80)).float()
    with torch.inference_mode():
        x = module.prepare(counts)
        (found,) = alone.run(None, {INPUT: x.numpy()})
        expected = network(x).numpy()
        assert expected.std() > 0.01
        assert relative_difference(found, expected) < 1e-4
        (stain,) = whole.run(None, {"counts": counts.numpy()})
        assert relative_difference(stain, module(counts).numpy()) < 1e-4


def test_a_network_that_asks_for_its_input_s_sides_gets_its_own(tmp_path):
    """Sides that the exporter reads of the counts, whose axes are others for a 3-D network."""

    class Sized(torch.nn.Module):
        dims, divisor, divisor_z = 3, 1, 4

        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv3d(1, 2, 3, padding=1)

        def forward(self, x):
            n, _, z, height, width = x.shape
            y = self.conv(x).reshape(n, 2 * z, height * width)
            return (y - y.mean(dim=-1, keepdim=True)).reshape(n, 2, z, height, width)

    torch.manual_seed(0)
    module = StainModule(Sized(), own_plane=1).eval()
    counts = torch.randint(0, 4000, (1, 3, 16, 24)).float()
    export_onnx(module, counts, tmp_path / "weights.onnx")
    alone = onnxruntime.InferenceSession(
        cut_network(onnx.load(tmp_path / "weights.onnx")).SerializeToString()
    )
    x = torch.randn(2, 1, 4, 20, 12)
    (found,) = alone.run(None, {INPUT: x.numpy()})
    with torch.inference_mode():
        assert relative_difference(found, module.network(x).numpy()) < 1e-4


def test_what_is_not_marked_cannot_be_cut(tmp_path):
    module = StainModule(build_network("unet2d", width=4, depth=2)).eval()
    export_onnx(module, torch.rand(1, 1, 32, 32), tmp_path / "weights.onnx")
    model = onnx.load(tmp_path / "weights.onnx")
    for node in model.graph.node:
        node.input[:] = ["plain" if each == INPUT else each for each in node.input]
        node.output[:] = ["plain" if each == INPUT else each for each in node.output]
    with pytest.raises(ValueError, match="does not mark its network"):
        cut_network(model)


def test_the_file_does_not_say_where_it_was_exported(tmp_path):
    """torch's exporter writes stack traces, with the paths of whoever ran it, beside each operator."""
    module = StainModule(build_network("unet2d", width=4, depth=1)).eval()
    export_onnx(module, torch.zeros(1, 1, 32, 32), tmp_path / "whole.onnx")
    assert b"onnx_export.py" not in (tmp_path / "whole.onnx").read_bytes()
    assert b"network_input" in (tmp_path / "whole.onnx").read_bytes()
    assert b"site-packages" not in (tmp_path / "whole.onnx").read_bytes()
    assert b"module.py" not in (tmp_path / "whole.onnx").read_bytes()
