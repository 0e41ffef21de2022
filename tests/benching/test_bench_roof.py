"""The device's limits, and what a network asks of it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from livestain.benching.results import Roof, Work
from livestain.benching.roof import measure_roof
from livestain.benching.work import count_parameters, count_work
from livestain.bundle import NormalisationSettings, StainModule
from livestain.networks import build_network


class OneConvolution(nn.Module):
    """A network of which everybody can count the work by hand."""

    divisor = 8

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 5, 3, padding=1)

    def forward(self, x):
        return self.layer(x)


def test_work_is_what_a_hand_counts_on_the_padded_frame():
    work = count_work(StainModule(OneConvolution(), NormalisationSettings()), (3, 60, 41))
    pixels = 64 * 48
    assert work.macs == pixels * 3 * 5 * 9
    assert work.moved == pixels * 3 + pixels * 5 + 3 * 5 * 9 + 5


def test_a_stack_is_filled_up_to_what_a_3d_network_takes():
    network = build_network("unet3d", in_channels=1, width=2, depth=1, depth_z=1)
    module = StainModule(network, NormalisationSettings())
    one = count_work(module, (module.divisor_z + 1, 16, 16))
    same = count_work(module, (2 * module.divisor_z, 16, 16))
    assert one == same
    assert count_parameters(module) == sum(p.numel() for p in network.parameters())


def test_the_module_is_not_changed_by_counting():
    module = StainModule(OneConvolution(), NormalisationSettings())
    count_work(module, (3, 16, 16))
    assert module.network.layer.weight.device.type == "cpu"
    assert not module.network.layer._forward_hooks


class Foreign(nn.Module):
    """A network that computes elsewhere, as one in ONNX does."""

    def forward(self, x):
        return torch.from_numpy(x.numpy() * 2)


def test_what_is_no_torch_network_has_no_count():
    module = StainModule(Foreign(), NormalisationSettings())
    assert count_work(module, (1, 16, 16)) is None
    assert count_parameters(module) is None


def test_the_roof_is_the_tighter_of_the_two_limits():
    roof = Roof(gemm_gflops={"fp32": 100.0, "int8": 400.0}, copy_gb_s=10.0)
    # 5 GMAC are 10 GFLOP: 100 ms. 1e8 numbers of 4 bytes: 40 ms.
    assert roof.least_ms(Work(macs=5 * 10**9, moved=10**8), "fp32") == pytest.approx(100.0)
    assert roof.least_ms(Work(macs=10**9, moved=10**8), "fp32") == pytest.approx(40.0)
    assert roof.least_ms(Work(macs=5 * 10**9, moved=10**8), "int8") == pytest.approx(25.0)
    assert roof.least_ms(Work(macs=1, moved=1), "bf16") is None


def test_rates_are_those_of_a_working_computer(monkeypatch):
    from livestain.benching import roof as room

    monkeypatch.setattr(room, "_SIDES", (256,))
    monkeypatch.setattr(room, "_COPY_BYTES", 2**22)
    found = measure_roof(torch.device("cpu"), ("fp32", "int8"))
    assert found.notes == {}
    assert all(rate > 0.01 for rate in found.gemm_gflops.values())
    assert set(found.gemm_gflops) == {"fp32", "int8"}
    assert found.copy_gb_s > 0.01
    assert found.to_device_gb_s is None


@pytest.mark.gpu
def test_a_gpu_has_the_ways_there_and_back():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    before = torch.backends.cuda.matmul.allow_tf32
    found = measure_roof(torch.device("cuda:0"), ("fp32", "tf32", "bf16", "fp16", "int8"))
    assert torch.backends.cuda.matmul.allow_tf32 == before
    assert found.to_device_gb_s > 0.1
    assert found.from_device_gb_s > 0.1
    assert found.gemm_gflops["bf16"] > found.gemm_gflops["fp32"]
