"""Counts in, counts out: what a Stainer encodes itself is what a store would have encoded."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from livestain.encoding import encode_into
from livestain.errors import StoreError
from livestain.inference import Stainer
from livestain.inference.encoding import encode_on_cpu, encode_on_device
from livestain.store import encode

anything = arrays(
    np.float32,
    array_shapes(min_dims=4, max_dims=5, max_side=4),
    elements=st.floats(width=32, allow_nan=True, allow_infinity=True),
)


def on_device(predicted, encodings):
    """The device's form, on the CPU."""
    given = [torch.tensor(each, dtype=torch.float64) for each in encodings]
    counts = torch.empty(predicted.shape, dtype=torch.uint16)
    told = torch.empty((*predicted.shape[:-2], 4), dtype=torch.float64)
    encode_on_device(predicted, given, counts, told)
    return counts.numpy(), told.numpy()


@settings(deadline=None)
@given(values=anything, scale=st.floats(1e-4, 1e3), offset=st.floats(-1e4, 1e4))
def test_both_forms_give_what_a_store_encodes(values, scale, offset):
    encodings = tuple((scale * (n + 1), offset - n) for n in range(values.shape[1]))
    counts, told = on_device(torch.from_numpy(values), encodings)
    for n, one in enumerate(values):
        found = encode_on_cpu(torch.from_numpy(one), encodings)
        np.testing.assert_array_equal(counts[n], found.counts)
        np.testing.assert_array_equal(told[n, ..., 2:], found.told[..., 2:])
        for at in np.ndindex(one.shape[:-2]):
            bad = np.count_nonzero(~np.isfinite(one[at]))
            assert found.told[at][3] == bad
            if bad:
                assert ((found.counts[at] == 0) == ~np.isfinite(one[at])).all()
                with pytest.raises(StoreError, match=f"{bad} values of {one[at].size} that are"):
                    found.plane(*at)
            else:
                wanted = encode(one[at], *encodings[at[0]])
                np.testing.assert_array_equal(found.plane(*at).counts, wanted)
                rounding = 1e-6 + 1e-9 * float(np.abs(one[at]).max())
                np.testing.assert_allclose(told[n][at], found.told[at], rtol=1e-6, atol=rounding)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_told_of_a_plane_is_of_its_values_before_they_are_encoded(dtype):
    values = np.random.default_rng(0).normal(3, 2, (300, 700)).astype(dtype)
    values[:, :7] = -50  # below what can be stored
    out = np.empty(values.shape, np.uint16)
    told = encode_into(out, values, 0.001, -20.0)
    assert told.mean == pytest.approx(values.mean(dtype=float), abs=1e-9)
    assert told.std == pytest.approx(values.std(dtype=float), abs=1e-9)
    assert (told.clipped, told.bad) == (0.01, 0)
    constant = encode_into(out, np.full(values.shape, 41.3, dtype), 0.001, -20.0)
    assert constant.std < 1e-9


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"z": 3},
        {"network": "care3d", "z": "all", "depth": 1},
        {"network": "care3d", "past": 2, "depth": 1},
    ],
)
@pytest.mark.parametrize("pixel_size_um", [0.1, 0.115])
def test_counts_are_the_encoded_prediction_to_the_last_bit(bundle_of, given, pixel_size_um):
    with Stainer(bundle_of(**given), device="cpu", pixel_size_um=pixel_size_um) as stainer:
        window = stainer.bundle.description.input.window
        n = 5 if window.whole_stack else window.n_planes
        planes = np.random.default_rng(2).integers(0, 4000, (n, 61, 83), np.uint16)
        planes.setflags(write=False)
        predicted = stainer.stain(planes)
        found = stainer.stain_counts(planes)
        kept = found.copy()
        turned = stainer.stain(planes[:, ::-1])
        measured = stainer.stain_measured(planes[:, ::-1])
        np.testing.assert_array_equal(found, kept, "an array of its own")
        # Another encoding, such as that of a camera of 8 bits.
        coarse = stainer.stain_counts(planes, ((0.05, -5.0),))
    assert found.dtype == np.uint16
    assert found.shape == predicted.shape
    for at in np.ndindex(predicted.shape[:-2]):
        np.testing.assert_array_equal(found[at], encode(predicted[at], 0.001, -20.0))
        np.testing.assert_array_equal(coarse[at], encode(predicted[at], 0.05, -5.0))
    at = (0, 4) if window.whole_stack else (0,)
    last = measured.plane(*at)
    assert last.counts.shape == (61, 83)
    assert last.mean == pytest.approx(turned[at].mean(dtype=float), abs=1e-9)
    assert last.std == pytest.approx(turned[at].std(dtype=float), abs=1e-9)


def test_each_output_has_its_own_encoding(bundle, make_counts):
    planes = make_counts(40, 56)
    encodings = ((0.001, -3.0), (0.02, 1.0))
    with Stainer(bundle, device="cpu") as stainer:
        assert stainer.encodings == ((1.0, 0.0), (1.0, 0.0)), "as the bundle says"
        predicted = stainer.stain(planes)
        found = stainer.stain_counts(planes, encodings)
    for values, stored, encoding in zip(predicted, found, encodings, strict=True):
        np.testing.assert_array_equal(stored, encode(values, *encoding))


class Failing(Stainer):
    """A Stainer whose model fails on a part of what it predicts, as a network that overflows does."""

    def compute(self, counts):
        predicted = super().compute(counts)
        predicted[:, 1, 3, 5:7] = float("nan")
        return predicted


def test_a_prediction_that_is_not_finite_never_becomes_a_pixel(bundle, make_counts):
    with Failing(bundle, device="cpu") as stainer:
        with pytest.raises(StoreError, match="2 values of 4096 that are NaN or infinite"):
            stainer.stain_counts(make_counts(32, 64))
        measured = stainer.stain_measured(make_counts(32, 64))
        assert measured.plane(0).counts.all(), "the other output is a prediction as any"
        with pytest.raises(StoreError, match="2 values of 2048 that are NaN or infinite"):
            measured.plane(1)
