"""Backends: what is wrong is refused by name, and folding changes nothing but speed."""

import shutil

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from livestain.bundle import read_bundle
from livestain.bundle.files import RDF, SEAL, seal, sha256
from livestain.errors import BundleError
from livestain.inference import Stainer, backend_names, backends, register_backend
from livestain.inference.fold import fold_batch_norm


class Faulty:
    """A backend of a kind that happens: wrong numbers, NaN, an error while loading or running."""

    precision = "fp32"

    def __init__(self, name, fault):
        self.name = name
        self.fault = fault

    def unready(self, network, device):
        return None

    def load(self, network, device):
        if self.fault == "load":
            raise ImportError("no such runtime")

        def predict(x):
            y = network.module(x)
            if self.fault == "run":
                raise RuntimeError("unsupported\noperation")
            if self.fault == "nan":
                y[..., 3, 5] = float("nan")
            if self.fault == "shape":
                return y[:, :1]
            return y * 1.1 if self.fault == "wrong" else y

        return predict


@pytest.fixture
def faulty(monkeypatch):
    monkeypatch.setattr(backends, "_BACKENDS", dict(backends._BACKENDS))

    def register(fault):
        register_backend(Faulty("faulty", fault))

    return register


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("wrong", "of its standard deviation; the limit for fp32 is 0.0001"),
        ("nan", "differs from the test output by inf"),
        ("shape", "ValueError: gives (1, 1, 64, 48)"),
        ("load", "ImportError: no such runtime"),
        ("run", "RuntimeError: unsupported operation"),
    ],
)
def test_a_faulty_backend_is_refused_by_name_and_eager_used(
    bundle, reference, make_counts, faulty, fault, reason
):
    faulty(fault)
    assert "faulty" in backend_names()
    planes = make_counts(40, 40)
    with Stainer(bundle, device="cpu", backend="faulty") as stainer:
        assert stainer.backend == "eager"
        assert list(stainer.refused) == ["faulty"]
        assert reason in stainer.refused["faulty"]
        np.testing.assert_allclose(stainer.stain(planes), reference(planes), atol=1e-6)


def test_a_backend_of_ones_own_is_used_if_it_is_right(bundle, faulty):
    faulty("none")
    with Stainer(bundle, device="cpu", backend="faulty") as stainer:
        assert (stainer.backend, stainer.refused) == ("faulty", {})


def test_a_bundle_that_fails_its_own_test_tensors_is_refused(bundle, tmp_path):
    folder = shutil.copytree(bundle.path, tmp_path / "copy")
    path = folder / "test_output.npy"
    np.save(path, np.load(path)[:, ::-1])
    rdf = yaml.safe_load((folder / RDF).read_text("utf-8"))
    rdf["outputs"][0]["test_tensor"]["sha256"] = sha256(path.read_bytes())
    (folder / RDF).write_text(yaml.safe_dump(rdf), "utf-8")
    (folder / SEAL).write_text(seal((folder / RDF).read_bytes()), "utf-8")
    before = torch.get_num_threads()
    with pytest.raises(
        BundleError, match=r"fails its own test tensors on cpu: folded: .*; eager: "
    ):
        Stainer(read_bundle(folder), device="cpu", threads=1)
    assert torch.get_num_threads() == before


def settled(network):
    torch.manual_seed(5)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias, -1, 1)
    for _ in range(5):
        network(torch.randn(4, 6, 16, 16) * 3 + 1)
    return network.eval()


@pytest.mark.parametrize(
    "first",
    [
        nn.Conv2d(6, 6, 3, padding=1),
        nn.Conv2d(6, 6, 3, padding=1, bias=False, groups=3),
        nn.ConvTranspose2d(6, 4, 2, stride=2),
        nn.ConvTranspose2d(6, 6, 2, stride=2),  # equal channels: folded wrongly by some
        nn.ConvTranspose2d(6, 6, 2, stride=2, groups=2),
        nn.utils.parametrizations.weight_norm(nn.Conv2d(6, 6, 3)),
    ],
)
def test_folding_changes_nothing(first):
    network = settled(nn.Sequential(first, nn.BatchNorm2d(first.out_channels), nn.ReLU()))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    x = torch.randn(2, 6, 16, 16)
    with torch.inference_mode():
        wanted = network(x)
        torch.testing.assert_close(fold_batch_norm(network)(x), wanted, rtol=1e-4, atol=1e-5)
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key])


def test_folding_leaves_no_norm_in_the_unet(bundle):
    folded = fold_batch_norm(bundle.load_module().network)
    assert not [m for m in folded.modules() if isinstance(m, nn.BatchNorm2d)]


def test_only_a_norm_right_after_its_convolution_is_folded():
    class Between(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(6, 6, 3, padding=1)
            self.norm = nn.BatchNorm2d(6)

        def forward(self, x):
            return self.norm(self.conv(x).relu())

    network = settled(nn.Sequential(Between(), nn.ReLU(), nn.BatchNorm2d(6)))
    x = torch.randn(1, 6, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(fold_batch_norm(network)(x), network(x))
