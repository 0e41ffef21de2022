"""A bundle of a small network with settled batch normalisation, written once."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from livestain.bundle import (
    BundleDescription,
    InputSpec,
    NetworkSpec,
    OutputChannel,
    WindowSpec,
    read_bundle,
    write_bundle,
)
from livestain.networks import build_network

KWARGS = {"in_channels": 2, "out_channels": 2, "width": 4, "depth": 3}


def counts(height, width, dtype=np.uint16, seed=3):
    """Raw counts (2, y, x): something with structure and a little noise."""
    rng = np.random.default_rng(seed)
    top = np.iinfo(dtype).max
    blobs = gaussian_filter(rng.normal(size=(2, height, width)), (0, 3, 3))
    noise = rng.normal(scale=0.004, size=blobs.shape)
    return np.clip(top * (0.3 + 0.6 * blobs + noise), 0, top).astype(dtype)


@pytest.fixture(scope="session")
def make_counts():
    return counts


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    torch.manual_seed(11)
    network = build_network("unet2d", **KWARGS)
    for _ in range(20):
        network(torch.randn(4, 2, 32, 32))
    description = BundleDescription(
        input=InputSpec(
            pixel_size_um=0.1, pixel_size_range_um=(0.05, 0.2), window=WindowSpec(past=1)
        ),
        outputs=(
            OutputChannel(name="mitochondria", display=(-1, 1)),
            OutputChannel(name="nuclei", display=(-1, 1)),
        ),
        network=NetworkSpec(name="unet2d", kwargs=KWARGS),
        tolerance=0.05,  # random weights forgive bf16 less than trained ones
    )
    return write_bundle(
        tmp_path_factory.mktemp("models") / "tiny",
        network=network,
        description=description,
        test_input=counts(64, 48),
        name="tiny",
        title="A tiny bundle",
        licence="BSD-3-Clause",
        card="# Card\n",
        onnx=False,
    )


@pytest.fixture(scope="session")
def onnx_bundle(bundle_of):
    """A small one with ONNX, which the other runtimes read."""
    return read_bundle(bundle_of(onnx=True))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache folder of the test's own."""
    monkeypatch.setenv("LIVESTAIN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def reference(bundle):
    """What `StainModule` itself predicts, eagerly, from planes whose sides fit the network."""
    module = bundle.load_module()

    def predict(planes):
        with torch.inference_mode():
            return module(torch.from_numpy(planes.astype(np.float32))[None])[0].numpy()

    return predict
