"""Losses against values worked out by hand or by another library, and their gradients."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from torchmetrics.functional import pearson_corrcoef

from livestain.metrics import pearson
from livestain.training.losses import pointwise as losses
from livestain.training.losses.settings import LossWeights

A = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
B = torch.tensor([[[[1.0, 0.0], [3.0, 8.0]]]])


def test_by_hand():
    assert losses.mse(A, B).item() == pytest.approx((0 + 4 + 0 + 16) / 4)
    assert losses.l1(A, B).item() == pytest.approx((0 + 2 + 0 + 4) / 4)
    # a - mean: -1.5 -.5 .5 1.5; b - mean: -2 -3 0 5; products: 3 + 1.5 + 0 + 7.5 = 12
    assert losses.one_minus_pearson(A, B).item() == pytest.approx(1 - 12 / (5 * 38) ** 0.5)


def test_weighted_sum_and_terms_left_out():
    total, terms = losses.loss_terms(A, B, LossWeights(mse=0.5, l1=2.0))
    assert total.item() == pytest.approx(0.5 * 5 + 2 * 1.5)
    assert set(terms) == {"mse", "l1"}
    assert terms["mse"].item() == pytest.approx(5)


def test_low_precision_predictions_are_summed_in_float32():
    total, _ = losses.loss_terms(A.bfloat16(), B, LossWeights(mse=1.0))
    assert total.dtype == torch.float32


def test_pearson_is_that_of_scipy_torchmetrics_and_of_the_live_metric():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((3, 2, 16, 12)).astype(np.float32)
    b = (a + rng.standard_normal(a.shape)).astype(np.float32)
    ours = losses.pearson_by_plane(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    for n, c in np.ndindex(3, 2):
        x, y = a[n, c].ravel(), b[n, c].ravel()
        assert ours[n, c] == pytest.approx(scipy.stats.pearsonr(x, y).statistic, abs=1e-5)
        theirs = pearson_corrcoef(torch.from_numpy(x), torch.from_numpy(y)).item()
        assert ours[n, c] == pytest.approx(theirs, abs=1e-5)
        assert pearson(a[n, c], b[n, c]) == pytest.approx(theirs, abs=1e-5)


def test_pearson_is_blind_to_brightness_and_contrast():
    assert losses.one_minus_pearson(7 + 3 * A, B) == pytest.approx(
        losses.one_minus_pearson(A, B).item(), abs=1e-6
    )


@pytest.mark.parametrize("loss", [losses.mse, losses.l1, losses.one_minus_pearson])
def test_gradient_is_the_numerical_one(loss):
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn((2, 2, 2, 5, 4), dtype=torch.float64, generator=generator)
    assert torch.autograd.gradcheck(lambda x: loss(x, b), a.requires_grad_())


def test_constant_planes_give_a_finite_gradient():
    flat = torch.zeros_like(A, requires_grad=True)
    losses.one_minus_pearson(flat, B).backward()
    assert torch.isfinite(flat.grad).all()
