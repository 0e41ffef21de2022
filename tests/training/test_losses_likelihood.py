"""Likelihoods against torch.distributions."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Laplace, Normal

from livestain.training.losses.likelihood import (
    LOG_SPREAD_MAX,
    LOG_SPREAD_MIN,
    gaussian_nll,
    laplace_nll,
)

BOTH = pytest.mark.parametrize(
    ("loss", "distribution"), [(gaussian_nll, Normal), (laplace_nll, Laplace)]
)


def tensors(shape=(3, 2, 6, 5)):
    generator = torch.Generator().manual_seed(0)
    mean, log_spread, target = torch.randn((3, *shape), dtype=torch.float64, generator=generator)
    return mean, log_spread, target


@BOTH
@pytest.mark.parametrize("shape", [(3, 2, 6, 5), (2, 2, 3, 6, 5)])
def test_is_minus_the_mean_log_probability(loss, distribution, shape):
    mean, log_spread, target = tensors(shape)
    expected = -distribution(mean, log_spread.exp()).log_prob(target)
    assert loss(mean, log_spread, target).item() == pytest.approx(expected.mean().item())
    mask = torch.zeros(shape[:-2])
    mask[0] = 1
    assert loss(mean, log_spread, target, mask).item() == pytest.approx(expected[0].mean().item())


def test_by_hand():
    zero = torch.zeros(1, 1, 1, 1)
    # error 2, spread 1
    assert gaussian_nll(zero, zero, zero + 2).item() == pytest.approx(
        2 + 0.5 * math.log(2 * math.pi)
    )
    assert laplace_nll(zero, zero, zero + 2).item() == pytest.approx(2 + math.log(2))


@BOTH
def test_the_best_spread_is_that_of_the_errors(loss, distribution):
    """Standard deviation for a Gaussian, mean absolute error for Laplace: there the slope is 0."""
    _, _, error = tensors((1, 1, 40, 40))
    best = error.square().mean().sqrt() if distribution is Normal else error.abs().mean()
    for factor, sign in ((0.9, -1), (1.0, 0), (1.1, 1)):
        log_spread = torch.log(factor * best).requires_grad_()
        loss(torch.zeros_like(error), log_spread.expand_as(error), error).backward()
        slope = log_spread.grad.item()
        assert abs(slope) < 1e-9 if sign == 0 else slope * sign > 0.05


@BOTH
@pytest.mark.parametrize("log_spread", [LOG_SPREAD_MIN - 3, LOG_SPREAD_MAX + 3])
def test_a_spread_out_of_range_is_clamped_and_led_back(loss, distribution, log_spread):
    mean, _, target = tensors()
    given = torch.full_like(mean, log_spread, requires_grad=True)
    value = loss(mean, given, target)
    edge = min(max(log_spread, LOG_SPREAD_MIN), LOG_SPREAD_MAX)
    expected = -distribution(mean, math.exp(edge)).log_prob(target).mean()
    assert value.item() == pytest.approx(expected.item() + 9)
    value.backward()
    # Descent goes towards the range.
    assert (torch.sign(-given.grad) == math.copysign(1, edge - log_spread)).all()


@BOTH
@pytest.mark.parametrize("log_spread", [-1e4, 1e4])
def test_a_wild_spread_stays_finite_in_float32(loss, distribution, log_spread):
    mean, _, target = (t.float() for t in tensors())
    mean.requires_grad_()
    value = loss(mean, torch.full_like(target, log_spread), target)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(mean.grad).all()


@BOTH
def test_gradient_to_both_is_the_numerical_one(loss, distribution):
    mean, log_spread, target = tensors((2, 1, 4, 3))
    # In the range, and beyond both its ends.
    log_spread = 8 * log_spread
    assert (log_spread < LOG_SPREAD_MIN).any()
    assert (log_spread > LOG_SPREAD_MAX).any()
    target = mean + 0.01 * target
    assert torch.autograd.gradcheck(
        lambda m, s: loss(m, s, target), (mean.requires_grad_(), log_spread.requires_grad_())
    )
