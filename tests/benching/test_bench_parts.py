"""The clock, the memory gauge and the budget that the measurements rest on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from livestain.benching.asking import ask
from livestain.benching.budget import Budget
from livestain.benching.peak import PeakMemory
from livestain.benching.results import Measurement
from livestain.benching.settings import Job
from livestain.benching.timed import Timed
from livestain.bundle import read_bundle
from livestain.inference import Stainer, register_backend
from livestain.inference.backends import get_backend

MB = 2**20


@pytest.mark.parametrize("kernel", [True, False])
def test_a_peak_is_seen_after_the_memory_is_given_back(monkeypatch, kernel):
    if not kernel:  # as on Windows and macOS
        monkeypatch.setattr("livestain.benching.peak._reset_kernels_peak", lambda: False)
    with PeakMemory() as peak:
        held = np.ones(200 * MB, np.uint8)
        # Long enough for a thread that looks every two milliseconds, however busy the machine is.
        total = sum(int(held.sum()) for _ in range(10))
        del held
    assert total == 10 * 200 * MB
    assert 190 * MB < peak.above < 300 * MB


def test_a_peak_of_nothing_is_small():
    with PeakMemory():
        pass
    with PeakMemory() as peak:
        pass
    assert peak.above < 20 * MB


def test_the_clock_changes_no_prediction_and_sees_every_call(tiny_bundle):
    plain = get_backend("folded")
    planes = np.random.default_rng(1).integers(0, 4000, (1, 40, 50), np.uint16)
    with Stainer(tiny_bundle, device="cpu", backend="folded") as stainer:
        expected = stainer.stain_counts(planes)
    timed = Timed(plain)
    register_backend(timed)
    try:
        with Stainer(read_bundle(tiny_bundle), device="cpu", backend="folded") as stainer:
            assert stainer.backend == "folded"
            assert timed.loaded[1] > timed.loaded[0] > 0
            assert timed.calls, "the test input went through the clock"
            timed.calls.clear()
            found = stainer.stain_counts(planes)
    finally:
        register_backend(plain)
    np.testing.assert_array_equal(found, expected)
    ((began, ended),) = timed.calls
    assert ended > began


def test_without_minutes_nothing_is_left_out():
    budget = Budget(None)
    budget.note("model", "folded", 512, 1e9)
    assert budget.refuses("model", "folded", 2048) is None
    assert budget.left_s > 60


def test_what_would_take_longer_than_what_is_left_is_not_begun():
    budget = Budget(1.0)
    assert budget.refuses("model", "folded", 1024) is None
    budget.note("model", "folded", 512, 20.0)  # four times as many pixels: 80 s
    assert "1 minutes did not suffice" in budget.refuses("model", "folded", 1024)
    assert budget.refuses("model", "openvino", 1024) is None
    assert budget.refuses("another", "folded", 1024) is None
    assert budget.left_s <= 60


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["eager", "folded", "cudagraph-bf16"])
def test_a_gpu_is_measured_with_what_overlaps(tiny_bundle, backend):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    job = Job(
        kind="measure",
        began=0.0,
        bundle=str(tiny_bundle),
        backend=backend,
        device="cuda",
        size=256,
        seconds=0.2,
    )
    found = Measurement.model_validate(ask(job))
    assert found.device == "cuda:0"
    assert found.cuda_mb > 0
    assert found.overlapped_per_second > 0
    assert all(spread.p50 >= 0 for spread in found.stages.values())
