"""A small network with settled batch normalisation, and a bundle of it, written once."""

import shutil

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from livestain.bundle import (
    BundleDescription,
    InputSpec,
    NetworkSpec,
    NormalisationSettings,
    OutputChannel,
    WindowSpec,
    write_bundle,
)
from livestain.networks import build_network

KWARGS = {"in_channels": 3, "out_channels": 2, "width": 4, "depth": 2}


@pytest.fixture(scope="session")
def network():
    torch.manual_seed(7)
    network = build_network("unet2d", **KWARGS)
    for _ in range(20):
        network(torch.randn(4, 3, 32, 32))
    return network.eval()


@pytest.fixture(scope="session")
def description():
    return BundleDescription(
        input=InputSpec(
            kind="brightfield",
            pixel_size_um=0.1,
            pixel_size_range_um=(0.08, 0.13),
            z_step_um=0.5,
            window=WindowSpec(z=3),
        ),
        normalisation=NormalisationSettings(scope="window"),
        outputs=(
            OutputChannel(name="mitochondria", scale=0.01, offset=-300, display=(-1, 1)),
            OutputChannel(name="nuclei", unit="sd", display=(0, 2), color="00FFFF"),
        ),
        network=NetworkSpec(name="unet2d", kwargs=KWARGS),
    )


@pytest.fixture(scope="session")
def planes():
    """Raw counts (3, 48, 64): something with structure, bright, and a little noise."""
    rng = np.random.default_rng(3)
    blobs = gaussian_filter(rng.normal(size=(3, 48, 64)), (0, 3, 3)) * 4000
    return (8000 + blobs + rng.normal(scale=40, size=blobs.shape)).astype(np.uint16)


@pytest.fixture(scope="session")
def words():
    return {
        "name": "test-bundle",
        "title": "A bundle of the tests",
        "licence": "BSD-3-Clause",
        "card": "# Card\n\nMade by the tests from noise. Größe: 48 by 64.\n",
        "recipe_yaml": "steps: 0\n",
    }


@pytest.fixture(scope="session")
def written(tmp_path_factory, network, description, planes, words):
    """The bundle, with ONNX; not to be changed."""
    folder = tmp_path_factory.mktemp("models") / "test-bundle"
    return write_bundle(
        folder, network=network, description=description, test_input=planes, **words
    )


@pytest.fixture
def folder(written, tmp_path):
    """A copy of the bundle that may be damaged."""
    return shutil.copytree(written.path, tmp_path / "copy")
