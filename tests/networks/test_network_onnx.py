"""Every network as ONNX, run by ONNX Runtime on another size than it was exported with."""

import contextlib
import io
import logging
import warnings

import numpy as np
import onnxruntime
import pytest
import torch
from network_cases import planes, small

# One of each architecture, in the smallest form that has every kind of its layers: the exporter takes
# seconds, and more with each layer. The other form of a pair is the same code with layers of another
# number of dimensions, and is exported where the recipes are.
CASES = {
    "care2d": {"depth": 1},
    "fnet3d": {},
    # One operator of attention: each takes the exporter seconds, and they differ by a convolution alone.
    "gvtnet2d": {"bottom": False, "up": False},
    "pix2pix_unet256": {"depth": 2},
    "resnet9": {},
    "slim2d": {},
    "unet3d": {"depth": 1},
    "unext2": {"in_channels": 4, "planes": 4, "stem_planes": 2},
}


@contextlib.contextmanager
def quiet():
    """Keep the exporter's remarks on its own innards out of the tests, where a warning fails."""
    registry = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registry.level
    registry.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        registry.setLevel(level)


@pytest.mark.parametrize(("name", "options"), CASES.items())
def test_onnx_runtime_agrees_on_another_size(name, options, tmp_path):
    network = small(name, **options).eval()
    channels = options.get("in_channels", 1)
    example = planes(network, channels)
    free = dict.fromkeys((0, *range(2, example.ndim)), torch.export.Dim.DYNAMIC)
    with quiet():
        torch.onnx.export(
            network,
            (example,),
            tmp_path / "network.onnx",
            dynamo=True,
            verbose=False,
            opset_version=18,
            external_data=False,
            dynamic_shapes=(free,),
        )
    session = onnxruntime.InferenceSession(
        tmp_path / "network.onnx", providers=["CPUExecutionProvider"]
    )
    x = planes(network, channels, n=1, steps=3)
    (got,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.inference_mode():
        expected = network(x).numpy()
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() < 1e-4 * expected.std()
