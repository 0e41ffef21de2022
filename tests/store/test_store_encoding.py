"""The encoding of predictions: what is lost, what never happens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from livestain.errors import StoreError
from livestain.store import decode, encode, halve

scales = st.floats(1e-4, 1e3)
offsets = st.floats(-1e4, 1e4)
floats = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=2, max_side=9),
    elements=st.floats(-(2.0**30), 2.0**30, width=32),
)


@given(values=floats, scale=scales, offset=offsets)
def test_encoding_is_the_formula_and_never_zero(values, scale, offset):
    stored = encode(values, scale, offset)
    assert stored.dtype == np.uint16
    assert stored.shape == values.shape
    expected = np.clip(np.rint((values.astype(float) - offset) / scale), 1, 65535)
    np.testing.assert_array_equal(stored, expected)
    assert stored.min() >= 1


@given(values=floats, scale=scales, offset=offsets)
def test_what_fits_comes_back_within_half_a_count(values, scale, offset):
    decoded = decode(encode(values, scale, offset), scale, offset)
    assert decoded.dtype == np.float32
    inside = (values >= offset + scale) & (values <= offset + 65535 * scale)
    rounding = np.finfo(np.float32).eps * (np.abs(values) + 65535 * scale + abs(offset))
    assert (np.abs(decoded - values)[inside] <= (scale / 2 + rounding)[inside]).all()


@given(
    stored=arrays(np.uint16, (3, 4), elements=st.integers(0, 65535)), scale=scales, offset=offsets
)
def test_zero_is_not_predicted_and_the_rest_survives_a_round_trip(stored, scale, offset):
    decoded = decode(stored, scale, offset)
    np.testing.assert_array_equal(np.isnan(decoded), stored == 0)
    # In double precision: a float32 cannot always tell neighbouring counts apart at a far offset.
    values = stored.astype(float) * scale + offset
    there = stored > 0
    np.testing.assert_array_equal(encode(values, scale, offset)[there], stored[there])


@pytest.mark.parametrize("place", [0, 63, 64, 99])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_is_an_error_with_its_count(bad, place):
    values = np.zeros((100, 7), np.float32)
    values[place, 2:4] = bad
    with pytest.raises(StoreError, match="2 values of 700 that are NaN or infinite"):
        encode(values, 1.0, 0.0)


@given(plane=arrays(np.uint16, array_shapes(min_dims=2, max_dims=2, max_side=8)))
def test_halving_keeps_within_the_range_of_what_it_averages(plane):
    half = halve(plane)
    assert half.shape == ((plane.shape[0] + 1) // 2, (plane.shape[1] + 1) // 2)
    for y, x in np.ndindex(half.shape):
        pixels = plane[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].astype(int)
        assert half[y, x] == int(np.floor(pixels.mean() + 0.5))
