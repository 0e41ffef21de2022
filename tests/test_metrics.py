"""Metrics against other people's implementations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage, stats

from livestain.metrics import CONTROL_SIGMA_PX, no_learning_control, pearson


@given(st.integers(0, 2**32 - 1), st.sampled_from(["uint8", "uint16", "float32"]))
def test_pearson_is_scipys(seed, dtype):
    rng = np.random.default_rng(seed)
    a = (rng.random((9, 7)) * 250).astype(dtype)
    b = (rng.random((9, 7)) * 250).astype(dtype)
    assert pearson(a, b) == pytest.approx(stats.pearsonr(a.ravel(), b.ravel()).statistic, abs=1e-6)


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
