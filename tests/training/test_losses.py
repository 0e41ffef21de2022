"""Losses of single pixels and correlations, against values worked out by hand or by other libraries."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from torchmetrics.functional import mean_absolute_error, mean_squared_error, pearson_corrcoef

from livestain.metrics import pearson
from livestain.training.losses import pointwise as losses
from livestain.training.losses.cycle import cycle_loss, identity_loss

A = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
B = torch.tensor([[[[1.0, 0.0], [3.0, 8.0]]]])


def two(shape, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    a = rng.standard_normal(shape).astype(dtype)
    return a, (a + rng.standard_normal(shape)).astype(dtype)


def test_by_hand():
    assert losses.mse(A, B).item() == pytest.approx((0 + 4 + 0 + 16) / 4)
    assert losses.l1(A, B).item() == pytest.approx((0 + 2 + 0 + 4) / 4)
    # a - mean: -1.5 -.5 .5 1.5; b - mean: -2 -3 0 5; products: 3 + 1.5 + 0 + 7.5 = 12
    assert losses.one_minus_pearson(A, B).item() == pytest.approx(1 - 12 / (5 * 38) ** 0.5)


def test_mean_is_over_planes_that_are_there():
    a = torch.cat([A, A], dim=1)
    b = torch.cat([B, A + 1], dim=1)
    assert losses.mse(a, b).item() == pytest.approx((5 + 1) / 2)
    assert losses.mse(a, b, torch.tensor([[1.0, 0.0]])).item() == pytest.approx(5)
    assert losses.l1(a, b, torch.tensor([[0.0, 1.0]])).item() == pytest.approx(1)


@pytest.mark.parametrize("shape", [(3, 2, 8, 7), (2, 2, 4, 8, 7)])
def test_errors_are_those_of_torchmetrics(shape):
    a, b = map(torch.from_numpy, two(shape))
    assert losses.mse(a, b).item() == pytest.approx(mean_squared_error(a, b).item(), rel=1e-6)
    # It takes tensors that lie in one piece.
    assert losses.l1(a, b).item() == pytest.approx(
        mean_absolute_error(a.flatten(), b.flatten()).item(), rel=1e-6
    )


def test_pearson_is_that_of_scipy_torchmetrics_and_of_the_live_metric():
    a, b = two((3, 2, 16, 12))
    ours = losses.pearson_by_plane(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    for n, c in np.ndindex(3, 2):
        x, y = a[n, c].ravel(), b[n, c].ravel()
        assert ours[n, c] == pytest.approx(scipy.stats.pearsonr(x, y).statistic, abs=1e-5)
        theirs = pearson_corrcoef(torch.from_numpy(x), torch.from_numpy(y)).item()
        assert ours[n, c] == pytest.approx(theirs, abs=1e-5)
        assert pearson(a[n, c], b[n, c]) == pytest.approx(theirs, abs=1e-5)


def test_pearson_of_a_stack_is_over_all_of_its_planes_that_are_there():
    a, b = two((2, 1, 4, 6, 5))
    # Planes of different brightness: the mean of planes' correlations is then another number.
    b += 3 * np.arange(4, dtype=np.float32)[:, None, None]
    mask = np.ones((2, 1, 4), np.float32)
    mask[0, 0, 1:3] = 0
    ours = losses.pearson_by_plane(*map(torch.from_numpy, (a, b, mask)))
    for n in range(2):
        there = mask[n, 0] > 0
        theirs = scipy.stats.pearsonr(a[n, 0, there].ravel(), b[n, 0, there].ravel()).statistic
        assert ours[n, 0].item() == pytest.approx(theirs, abs=1e-5)


def test_a_stack_without_any_target_is_left_out_of_the_mean():
    a, b = map(torch.from_numpy, two((2, 1, 3, 6, 5)))
    mask = torch.tensor([[[0.0, 0, 0]], [[1, 1, 0]]])
    assert losses.one_minus_pearson(a, b, mask).item() == pytest.approx(
        1 - losses.pearson_by_plane(a[1:, :, :2], b[1:, :, :2]).item()
    )


def test_pearson_is_blind_to_brightness_and_contrast():
    assert losses.one_minus_pearson(7 + 3 * A, B) == pytest.approx(
        losses.one_minus_pearson(A, B).item(), abs=1e-6
    )


def test_constant_planes_give_a_finite_gradient():
    flat = torch.zeros_like(A, requires_grad=True)
    losses.one_minus_pearson(flat, B).backward()
    assert torch.isfinite(flat.grad).all()


def test_pearson_of_bright_dim_planes_keeps_its_digits():
    """Camera counts far from 0: variances must not be differences of squares."""
    a, b = two((1, 1, 32, 32))
    ours = losses.pearson_by_plane(torch.from_numpy(a) + 30000, torch.from_numpy(b) + 30000)
    expected = scipy.stats.pearsonr(a.ravel(), b.ravel()).statistic
    # float32 itself rounds counts of 30,000 to 0.002.
    assert ours.item() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("loss", [cycle_loss, identity_loss])
def test_cycle_and_identity_by_hand(loss):
    assert loss(A, B).item() == pytest.approx(6 / 4)
    two_channels = torch.cat([A, A], dim=1), torch.cat([B, A], dim=1)
    assert loss(*two_channels).item() == pytest.approx(6 / 8)
    assert loss(*two_channels, torch.tensor([[1.0, 0.0]])).item() == pytest.approx(6 / 4)


@pytest.mark.parametrize("loss", [cycle_loss, identity_loss])
def test_cycle_and_identity_gradient(loss):
    a, b = map(torch.from_numpy, two((2, 1, 5, 4), dtype=np.float64))
    assert torch.autograd.gradcheck(lambda x: loss(x, b), a.requires_grad_())
