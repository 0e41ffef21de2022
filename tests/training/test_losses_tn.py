"""The TN weight of Somani 2021, against its equation by numpy's piecewise lines and its own properties."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from livestain.errors import SettingsError
from livestain.training.losses.settings import TNSettings
from livestain.training.losses.tn import tn_l1, tn_weight

PLAIN = TNSettings(clamp=False)


def dim(shape, seed=0):
    """Few bright pixels on a dark ground, as fluorescence: mean + 3 std lies below the maximum."""
    return np.random.default_rng(seed).gamma(0.3, 1.0, shape)


def bright(shape, seed=0):
    """Much foreground: mean + 3 std lies above the maximum."""
    return np.random.default_rng(seed).uniform(0.0, 1.0, shape)


def equation_1(f, mean=None, std=None, low=None, high=None):
    """The printed equation, without any of our options; masks of the three intervals."""
    mean = f.mean() if mean is None else mean
    std = f.std() if std is None else std
    low, high = f.min() if low is None else low, f.max() if high is None else high
    first, second = mean + std, mean + 3 * std
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.select(
            [f <= first, f <= second],
            [0.2 * (f - low) / (first - low), 0.2 + 0.5 * (f - first) / (second - first)],
            0.7 + 0.3 * (f - second) / (high - second),
        )


def weight(f, how=PLAIN, mask=None):
    mask = None if mask is None else torch.as_tensor(mask)
    return tn_weight(torch.as_tensor(f), mask, how).numpy()


def test_loss_by_hand():
    # Nine pixels of 0 and one of 10: mean 1, std 3, M1 = 4, M2 = 10 = the maximum.
    target = torch.tensor([0.0] * 9 + [10.0]).view(1, 1, 2, 5)
    # Weight 0 at the minimum, 0.7 at M2; an error of 2 everywhere.
    assert tn_l1(target - 2, target, None, TNSettings()).item() == pytest.approx(0.1 * 0.7 * 2)
    with_floor = TNSettings(floor=0.1)
    assert tn_l1(target - 2, target, None, with_floor).item() == pytest.approx(
        (0.9 * 0.1 + 0.1 * 0.7) * 2
    )
    # Mean weight 0.07, so that the normalised loss has the scale of the L1 of 2.
    assert tn_l1(target - 2, target, None, TNSettings(normalise=True)).item() == pytest.approx(2)


@pytest.mark.parametrize("image", [dim, bright])
@pytest.mark.parametrize("shape", [(2, 3, 16, 15), (2, 2, 3, 8, 9)])
def test_scope_plane_is_the_equation_of_each_plane_or_stack(image, shape):
    f = image(shape)
    ours = weight(f)
    for n, t in np.ndindex(*shape[:2]):
        np.testing.assert_allclose(ours[n, t], equation_1(f[n, t]), atol=1e-12)


def test_scope_batch_is_the_equation_of_each_target_over_all_planes():
    f = dim((3, 2, 16, 15))
    f[:, 1] *= 100
    ours = weight(f, TNSettings(scope="batch", clamp=False))
    for t in range(2):
        np.testing.assert_allclose(ours[:, t], equation_1(f[:, t]), atol=1e-12)


@pytest.mark.parametrize("scope", ["plane", "batch"])
def test_planes_without_a_target_enter_no_statistic(scope):
    f = dim((2, 1, 4, 8, 7))
    mask = np.ones((2, 1, 4))
    mask[0, 0, 1] = mask[1, 0, :3] = 0
    f[mask == 0] = 1e6
    ours = weight(f, TNSettings(scope=scope, clamp=False), mask)
    there = mask > 0
    if scope == "batch":
        np.testing.assert_allclose(ours[there], equation_1(f[there]), atol=1e-12)
    else:
        for n in range(2):
            there_n = there[n, 0]
            np.testing.assert_allclose(
                ours[n, 0, there_n], equation_1(f[n, 0, there_n]), atol=1e-12
            )


def test_scope_data_takes_given_statistics_for_all_targets_or_for_each():
    f = dim((2, 2, 8, 9))
    one = {"mean": 0.3, "std": 0.5, "minimum": 0.0, "maximum": float(f.max())}
    ours = weight(f, TNSettings(scope="data", **one))
    np.testing.assert_allclose(ours, equation_1(f, 0.3, 0.5, 0.0, f.max()), atol=1e-12)
    each = {name: (value, value + 0.1) for name, value in one.items()}
    ours = weight(f, TNSettings(scope="data", **each))
    expected = equation_1(f[:, 1].clip(0.1), 0.4, 0.6, 0.1, f.max() + 0.1)
    np.testing.assert_allclose(ours[:, 1], expected, atol=1e-12)


def test_values_beyond_those_of_the_data_weigh_as_its_ends():
    how = TNSettings(scope="data", mean=0.0, std=1.0, minimum=-1.0, maximum=5.0)
    ends = weight(np.array([-9.0, -1.0, 5.0, 9.0]).reshape(1, 1, 2, 2), how)
    np.testing.assert_allclose(ends.ravel(), [0, 0, 1, 1])
    # Also where M2 = 3 lies beyond the maximum.
    how = TNSettings(scope="data", mean=0.0, std=1.0, minimum=-1.0, maximum=2.0, clamp=False)
    ends = weight(np.array([-9.0, 1.0, 2.0, 9.0]).reshape(1, 1, 2, 2), how)
    np.testing.assert_allclose(ends.ravel(), [0, 0.2, 0.45, 0.45])


def test_statistics_of_the_data_are_needed_one_for_all_or_one_for_each():
    f = torch.rand(1, 3, 4, 4)
    with pytest.raises(SettingsError, match="without mean"):
        tn_weight(f, None, TNSettings(scope="data"))
    two = {"mean": (0, 0), "std": (1, 1), "minimum": (0, 0), "maximum": (1, 1)}
    with pytest.raises(SettingsError, match="2 values for 3 targets"):
        tn_weight(f, None, TNSettings(scope="data", **two))
    for wrong in ({"scope": "plane", "mean": 1.0}, {"scope": "data", "mean": 1.0}):
        with pytest.raises(ValidationError, match="given together"):
            TNSettings(**wrong)


def test_a_maximum_below_m2_weighs_seven_tenths_if_clamped_and_less_if_not():
    f = bright((1, 1, 20, 20))
    assert f.max() < f.mean() + 3 * f.std()
    assert weight(f, TNSettings(clamp=True)).max() == pytest.approx(0.7)
    assert weight(f).max() == pytest.approx(equation_1(f).max())
    assert weight(f).max() < 0.6
    mostly = np.ones((1, 1, 10, 10))
    mostly[..., :2, :5] = 0  # 90 % foreground: even M1 lies above the maximum
    assert mostly.max() < mostly.mean() + mostly.std()
    assert weight(mostly, TNSettings(clamp=True)).max() == pytest.approx(0.2)
    assert weight(mostly).max() == pytest.approx(0.2 / (0.9 + 0.3))


@pytest.mark.parametrize("how", [PLAIN, TNSettings(), TNSettings(floor=0.2)])
@pytest.mark.parametrize("value", [0.0, 0.1, -3.3])
def test_a_constant_plane_weighs_as_its_minimum(how, value):
    flat = np.full((1, 1, 7, 9), value, np.float32)
    assert (weight(flat, how) == np.float32(how.floor)).all()
    assert (weight(flat, how.model_copy(update={"normalise": True})) == 1).all()


images = st.lists(st.floats(-100, 100, width=32), min_size=12, max_size=12).map(
    lambda values: np.array(values).reshape(1, 1, 3, 4)
)
hows = st.builds(TNSettings, floor=st.floats(0, 0.9), clamp=st.booleans())


@settings(deadline=None, max_examples=60)
@given(images, hows)
def test_weights_lie_between_floor_and_one_and_rise_with_the_target(f, how):
    w = weight(f, how).ravel()
    assert w.min() >= how.floor
    assert w.max() <= 1 + 1e-12
    rising = np.argsort(f.ravel(), kind="stable")
    assert (np.diff(w[rising]) >= -1e-12).all()


@settings(deadline=None, max_examples=30)
@given(st.floats(-5, 5), st.floats(0.1, 3), st.floats(0.01, 10), st.floats(-10, 10), st.booleans())
def test_pieces_meet(mean, std, below, above, clamp):
    """At M1, M2 and the ends a step to either side changes little, wherever the maximum lies."""
    low, high = mean - below, mean + max(above, 0.5 * std)
    how = TNSettings(scope="data", mean=mean, std=std, minimum=low, maximum=high, clamp=clamp)
    for knot in (low, mean + std, mean + 3 * std, high):
        step = 1e-9
        near = np.array([[[[knot - step, knot, knot + step]]]])
        assert np.ptp(weight(near, how)) < 1e-4


@settings(deadline=None, max_examples=30)
@given(images, st.sampled_from(["plane", "batch"]), st.floats(0, 0.9))
def test_normalised_weights_have_mean_one(f, scope, floor):
    f = np.concatenate([f, 2 * f + 1, f[::-1] ** 2])
    w = weight(f, TNSettings(scope=scope, floor=floor, normalise=True))
    over = (2, 3) if scope == "plane" else (0, 2, 3)
    np.testing.assert_allclose(w.mean(axis=over), 1)


def test_weights_carry_no_gradient():
    target = torch.as_tensor(dim((1, 1, 5, 5))).requires_grad_()
    assert not tn_weight(target, None, TNSettings()).requires_grad
