"""Percentiles: numpy's nearest-rank ones, whichever way they are found, in ONNX Runtime too."""

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from livestain.bundle import NormalisationSettings, Normalise, StainModule
from livestain.bundle.onnx_export import export_onnx
from livestain.bundle.percentiles import percentiles
from livestain.inference.padded import stain_padded

METHOD = "inverted_cdf"


class Same(nn.Module):
    """A 2-D network that gives its input."""

    dims, divisor, halo = 2, 1, 0

    def forward(self, x):
        return x


def frames(shape, seed=0, dtype=np.uint16):
    """Counts of dim frames with a few pixels far brighter."""
    rng = np.random.default_rng(seed)
    level = rng.uniform(100, 3000, (*shape[:2], 1, 1))
    found = rng.normal(level, 40, shape).clip(0, 60000)
    found[rng.random(shape) > 0.999] = 60000
    return (found / (1 if dtype == np.uint16 else 240)).astype(dtype)


def by_numpy(looked_at, axes, low=1.0, high=99.8):
    return (
        np.percentile(looked_at, q, axis=axes, method=METHOD, keepdims=True) for q in (low, high)
    )


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 400),
    st.sampled_from([0, 0.01, 1, 25, 50, 99.8, 99.99, 100]),
    st.sampled_from([np.uint8, np.uint16, np.float32]),
    st.integers(0, 2**32 - 1),
)
def test_the_smallest_count_that_enough_do_not_exceed(n, percent, dtype, seed):
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, rng.integers(2, 250), (3, n)).astype(dtype)
    (found,) = percentiles(torch.from_numpy(rows), (percent,))
    assert found.dtype == torch.float32
    for row, value in zip(rows, found.tolist(), strict=True):
        # In whole numbers, where numpy's own rounds q * n.
        enough = np.array([100_000 * int((row <= v).sum()) for v in np.unique(row)])
        wanted = np.unique(row)[enough >= n * round(1000 * percent)][0]
        assert value == wanted


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize(("shape", "step"), [((300, 203), (4, 3)), ((257, 512), (4, 4))])
def test_a_frame_is_scaled_between_numpys_percentiles(shape, step, dtype):
    counts = frames((2, 3, *shape), dtype=np.uint16 if dtype == np.float32 else dtype)
    low, high = by_numpy(counts[..., :: step[0], :: step[1]].astype(float), (2, 3))
    found = Normalise(NormalisationSettings(statistic="percentile"))(
        torch.from_numpy(counts.astype(dtype))
    )
    wanted = ((counts - low) / np.maximum(high - low, 0.5)).clip(-10, 10)
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (5, 90), (63, 63), (127, 127), (128, 300)])
def test_at_least_64_rows_and_columns_are_looked_at_where_there_are_as_many(shape):
    counts = torch.from_numpy(frames((1, 1, *shape)))
    left = Normalise(NormalisationSettings(statistic="percentile")).sample(counts)
    for had, has in zip(shape, left.shape[-2:], strict=True):
        assert min(had, 64) <= has <= had
        assert has == had or had >= 128


def test_a_window_has_percentiles_of_all_its_planes():
    counts = frames((2, 6, 130, 140))
    found = Normalise(NormalisationSettings(statistic="percentile", scope="window"), sources=2)(
        torch.from_numpy(counts)
    )
    stacks = counts.reshape(2, 2, 3, 130, 140)
    low, high = by_numpy(stacks[..., ::2, ::2].astype(float), (2, 3, 4))
    wanted = ((stacks - low) / (high - low)).clip(-10, 10).reshape(counts.shape)
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-5)


def test_a_few_bright_pixels_change_nothing():
    counts = frames((1, 1, 256, 256))
    counts[counts > 50000] = 1000
    spotted = counts.copy()
    spotted[0, 0, 100:104, 100:104] = 65535
    normalise = Normalise(NormalisationSettings(statistic="percentile", high=99.0, subsample=1))
    plain, found = (normalise(torch.from_numpy(given)) for given in (counts, spotted))
    away = torch.ones(256, 256, dtype=torch.bool)
    away[100:104, 100:104] = False
    torch.testing.assert_close(found[0, 0][away], plain[0, 0][away], atol=0.05, rtol=0)


def test_frozen_percentiles_are_those_of_the_training_data():
    counts = torch.from_numpy(frames((1, 2, 70, 70)))
    how = {"kind": "frozen", "statistic": "percentile", "low_counts": 100, "high_counts": 900}
    found = Normalise(NormalisationSettings(**how))(counts)
    np.testing.assert_allclose(
        found.numpy(), ((counts.numpy() - 100.0) / 800).clip(-10, 10), atol=1e-5
    )


def test_padding_is_not_looked_at():
    """Half of the padded frame is reflected from the bright edge; the statistics must not see it."""
    counts = frames((1, 1, 66, 70))
    counts[..., 40:, :] = 9000
    module = StainModule(Same(), NormalisationSettings(statistic="percentile", low=50, high=99))
    module.network.divisor = 64
    low, high = by_numpy(counts.astype(float), (2, 3), 50, 99)
    found = stain_padded(module.eval(), torch.from_numpy(counts)).numpy()
    np.testing.assert_allclose(found, ((counts - low) / (high - low)).clip(-10, 10), atol=1e-5)


@pytest.mark.parametrize("level", [0, 255, 65535])
def test_an_empty_or_saturated_frame_gives_zeros(level):
    counts = torch.full((1, 2, 80, 80), level, dtype=torch.int32).to(torch.uint16)
    assert not Normalise(NormalisationSettings(statistic="percentile"))(counts).any()


@pytest.mark.parametrize(("scope", "subsample"), [("plane", None), ("window", 7)])
def test_onnx_runtime_gives_the_same_bits_for_frames_of_any_size(tmp_path, scope, subsample):
    how = {"statistic": "percentile", "scope": scope, "subsample": subsample}
    module = StainModule(Same(), NormalisationSettings(**how)).eval()
    example = torch.from_numpy(frames((1, 3, 64, 96)).astype(np.float32))
    export_onnx(module, example, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    for n, height, width in [(1, 8, 8), (2, 64, 100), (1, 200, 301), (1, 512, 480)]:
        counts = frames((n, 3, height, width), seed=height)
        (found,) = session.run(None, {"counts": counts.astype(np.float32)})
        for these in (counts, counts.astype(np.float32)):
            np.testing.assert_array_equal(found, module(torch.from_numpy(these)).numpy())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_gpu_gives_the_same_bits(dtype):
    counts = torch.from_numpy(frames((2, 3, 300, 420)).astype(dtype))
    normalise = Normalise(NormalisationSettings(statistic="percentile"))
    for here, there in zip(
        normalise.statistics(counts), normalise.statistics(counts.cuda()), strict=True
    ):
        assert there.device.type == "cuda"
        assert torch.equal(here, there.cpu())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("scope", ["plane", "window"])
def test_a_gpu_gives_the_same_mean_and_deviation(scope):
    counts = torch.from_numpy(frames((2, 3, 300, 420)))
    normalise = Normalise(NormalisationSettings(scope=scope))
    torch.testing.assert_close(normalise(counts.cuda()).cpu(), normalise(counts))
