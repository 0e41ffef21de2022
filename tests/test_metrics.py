"""Metrics against other people's implementations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage, stats

from livestain.metrics import (
    CONTROL_SIGMA_PX,
    frame_bootstrap,
    frame_of_file,
    interval95,
    no_learning_control,
    pearson,
)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["uint8", "uint16", "float32"]))
def test_pearson_is_scipys(seed, dtype):
    rng = np.random.default_rng(seed)
    a = (rng.random((9, 7)) * 250).astype(dtype)
    b = (rng.random((9, 7)) * 250).astype(dtype)
    assert pearson(a, b) == pytest.approx(stats.pearsonr(a.ravel(), b.ravel()).statistic, abs=1e-6)


def test_pearson_is_torchmetrics():
    torch = pytest.importorskip("torch")
    torchmetrics = pytest.importorskip("torchmetrics")
    rng = np.random.default_rng(4)
    for dtype in ("uint8", "uint16", "float32"):
        a = rng.random((31, 17)) * 250
        b = (a + 40 * rng.standard_normal(a.shape)).clip(0).astype(dtype)
        metric = torchmetrics.PearsonCorrCoef()
        metric.update(*(torch.from_numpy(x.astype(np.float32).ravel()) for x in (a, b)))
        assert pearson(a, b) == pytest.approx(metric.compute().item(), abs=1e-5)


def test_pearson_of_uint8_does_not_wrap():
    a = np.array([[0, 255], [0, 255]], np.uint8)
    assert pearson(a, a) == pytest.approx(1)
    assert pearson(a, 255 - a) == pytest.approx(-1)


def test_a_constant_plane_says_nothing():
    assert pearson(np.zeros((4, 4)), np.arange(16).reshape(4, 4)) == 0.0


def test_unequal_shapes_are_refused():
    with pytest.raises(ValueError, match=r"equal shape; given \(2, 3\) and \(3, 2\)"):
        pearson(np.zeros((2, 3)), np.zeros((3, 2)))


def test_the_control_is_the_blurred_deviation_from_the_median():
    plane = np.zeros((101, 101), np.uint8)
    plane[50, 50] = 200
    spread = no_learning_control(plane)
    assert spread.sum() == pytest.approx(200, rel=1e-3)
    # A Gaussian falls to exp(-1/2) of its peak at one sigma.
    sigma = int(CONTROL_SIGMA_PX)
    assert spread[50, 50 + sigma] / spread[50, 50] == pytest.approx(np.exp(-0.5), rel=0.01)


def test_dark_and_bright_deviations_count_alike():
    rng = np.random.default_rng(0)
    plane = rng.normal(100, 5, (64, 64))
    mirrored = 2 * np.median(plane) - plane
    np.testing.assert_allclose(no_learning_control(plane), no_learning_control(mirrored))
    assert ndimage.variance(no_learning_control(plane)) < ndimage.variance(plane)


def test_the_bootstrap_draws_frames_not_images():
    values = np.array([[0.0], [0.0], [0.0], [1.0]])
    by_frame = frame_bootstrap(values, ["x", "x", "x", "y"])
    # Both frames once, or one of them twice.
    assert set(np.round(by_frame.ravel(), 6)) == {0.0, 0.25, 1.0}
    assert by_frame.std() > frame_bootstrap(values, list("abcd")).std()
    np.testing.assert_array_equal(by_frame[:, 0], frame_bootstrap(values[:, 0], [7, 7, 7, (1, 2)]))


def test_the_bootstrap_of_independent_images_is_scipys():
    values = np.random.default_rng(1).normal(0.6, 0.1, 40)
    low, high = interval95(frame_bootstrap(values, range(40)))
    theirs = stats.bootstrap(
        (values,), np.mean, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert (low, high) == (
        pytest.approx(theirs.low, abs=0.003),
        pytest.approx(theirs.high, abs=0.003),
    )


@pytest.mark.parametrize(
    ("stem", "frame"),
    [("t004_z012_07", "t004_z012"), ("t4_z0", "t4_z0"), ("img_000001", "img_000001")],
)
def test_crops_of_one_frame_have_one_label(stem, frame):
    assert frame_of_file(stem) == frame
