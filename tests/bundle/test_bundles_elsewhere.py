"""Our bundles in bioimageio.core: other tools get the prediction that live staining gets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from foreign_cases import core_predict

from livestain.bundle import (
    BundleDescription,
    InputSpec,
    NetworkSpec,
    OutputChannel,
    WindowSpec,
    write_bundle,
)
from livestain.networks import build_network

CASES = {
    "2-D": ("unet2d", {"in_channels": 1, "width": 4, "depth": 2}, {}, 1, ("nuclei",)),
    "2.5-D": (
        "unet2d",
        {"in_channels": 3, "width": 4, "depth": 2},
        {"window": WindowSpec(z=3), "z_step_um": 0.5},
        3,
        ("nuclei",),
    ),
    "whole stack": (
        "unet3d",
        {"in_channels": 1, "width": 4, "depth": 1, "depth_z": 1},
        {"window": WindowSpec(z="all"), "z_step_um": 0.5},
        8,
        ("nuclei",),
    ),
    "several outputs": (
        "unet2d",
        {"in_channels": 1, "out_channels": 2, "width": 4, "depth": 2},
        {},
        1,
        ("nuclei", "actin"),
    ),
}


@pytest.fixture(scope="module", params=CASES)
def bundle(request, tmp_path_factory):
    network, kwargs, spec, planes, outputs = CASES[request.param]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        built = build_network(network, **kwargs)
    return write_bundle(
        tmp_path_factory.mktemp("bundles") / "ours",
        network=built,
        description=BundleDescription(
            input=InputSpec(pixel_size_um=0.1, pixel_size_range_um=(0.09, 0.12), **spec),
            outputs=tuple(OutputChannel(name=n, unit="sd", display=(-1, 3)) for n in outputs),
            network=NetworkSpec(name=network, kwargs=kwargs),
        ),
        name="ours",
        title="A bundle of the tests",
        licence="BSD-3-Clause",
        card="# Card\n",
        test_input=np.random.default_rng(0).integers(0, 4000, (planes, 32, 48), np.uint16),
    )


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["pytorch_state_dict", "onnx"])
def test_another_tool_gets_the_same_test_output(bundle, weights):
    counts, expected = bundle.test_tensors()
    (found,) = core_predict(bundle.path / "rdf.yaml", counts.astype(np.float32), weights)
    np.testing.assert_allclose(found, expected, atol=1e-4 * expected.std())
