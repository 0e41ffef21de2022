"""Normalisation: what the network sees is finite and about standard, whatever the camera gives."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from livestain.bundle import NormalisationSettings, Normalise


def normalise(counts, **kwargs):
    return Normalise(NormalisationSettings(**kwargs))(torch.as_tensor(counts)).numpy()


def test_each_plane_by_itself_is_its_z_score(planes):
    given = planes.astype(np.float32)[None]
    wanted = (given - given.mean((2, 3), keepdims=True)) / given.std((2, 3), keepdims=True)
    np.testing.assert_allclose(normalise(given), wanted, atol=1e-4)


def test_planes_of_a_window_together_keep_their_differences(planes):
    given = planes.astype(np.float32)[None].copy()
    given[0, 1] += 500
    np.testing.assert_allclose(
        normalise(given, scope="window"), (given - given.mean()) / given.std(), atol=1e-4
    )


def test_frozen_statistics_are_those_of_the_training_data(planes):
    given = planes.astype(np.float32)[None]
    found = normalise(given, kind="frozen", mean=8000, std=200)
    np.testing.assert_allclose(found, ((given - 8000) / 200).clip(-10, 10), atol=1e-4)


@pytest.mark.parametrize("level", [0, 1, 255, 65535])
@pytest.mark.parametrize("scope", ["plane", "window"])
def test_an_empty_or_saturated_plane_gives_zeros(level, scope):
    found = normalise(np.full((1, 2, 32, 40), level, np.float32), scope=scope)
    np.testing.assert_allclose(found, 0, atol=0.05)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from([np.uint8, np.uint16]),
    st.integers(0, 2**32 - 1),
)
def test_any_counts_give_finite_numbers_within_the_clip(height, width, dtype, seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, np.iinfo(dtype).max, (1, 2, height, width), endpoint=True, dtype=dtype)
    found = normalise(counts, clip=3)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert np.abs(found).max() <= 3


@pytest.mark.parametrize(
    "given",
    [
        {"kind": "frozen"},
        {"kind": "frozen", "mean": 3},
        {"kind": "frame", "mean": 3},
        {"kind": "frame", "std": 3},
        {"kind": "frozen", "mean": float("nan"), "std": 1},
        {"floor": 0},
        {"kind": "frozen", "statistic": "percentile"},
        {"kind": "frozen", "statistic": "percentile", "mean": 3, "std": 1},
        {"kind": "frozen", "statistic": "percentile", "low_counts": 9, "high_counts": 9},
        {"kind": "frozen", "mean": 3, "std": 1, "low_counts": 9},
        {"statistic": "percentile", "low": 50, "high": 50},
        {"statistic": "percentile", "high": 100.1},
        {"statistic": "percentile", "subsample": 0},
        {"kind": "frame", "sees_past": 1},
    ],
)
def test_half_given_statistics_are_refused(given):
    with pytest.raises(ValidationError):
        NormalisationSettings(**given)
