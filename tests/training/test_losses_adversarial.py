"""The scores of a discriminator, by hand and by other libraries."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from kornia.losses import binary_focal_loss_with_logits
from torch.nn import functional

from livestain.training.losses.adversarial import AdversarialKind, AdversarialLoss, dice
from livestain.training.losses.settings import Adversarial

KINDS = get_args(AdversarialKind)
every_kind = pytest.mark.parametrize("kind", KINDS)
sides = pytest.mark.parametrize("real", [True, False])


def logits(shape=(3, 1, 4, 5), scale=2.0):
    generator = torch.Generator().manual_seed(0)
    return scale * torch.randn(shape, dtype=torch.float64, generator=generator)


def odds(p):
    return math.log(p / (1 - p))


def test_the_settings_offer_these_and_no_other():
    assert set(get_args(Adversarial.model_fields["loss"].annotation)) == set(KINDS)


@pytest.mark.parametrize(
    ("kind", "real", "fake"),
    [
        # The probabilities of real are 0.2 and 0.6.
        ("bce", -(math.log(0.2) + math.log(0.6)) / 2, -(math.log(0.8) + math.log(0.4)) / 2),
        ("jaccard", 1 - 0.8 / 2, 1 - 1.2 / 2),
        (
            "dice_bce",
            1 - 2 * 0.8 / (0.04 + 0.36 + 2) - (math.log(0.2) + math.log(0.6)) / 2,
            1 - 2 * 1.2 / (0.64 + 0.16 + 2) - (math.log(0.8) + math.log(0.4)) / 2,
        ),
        (
            "focal",
            -0.25 * (0.8**2 * math.log(0.2) + 0.4**2 * math.log(0.6)) / 2,
            -0.75 * (0.2**2 * math.log(0.8) + 0.6**2 * math.log(0.4)) / 2,
        ),
    ],
)
def test_by_hand(kind, real, fake):
    given = torch.tensor([[odds(0.2), odds(0.6)]], dtype=torch.float64)
    loss = AdversarialLoss(kind)
    assert loss(given, True).item() == pytest.approx(real)
    assert loss(given, False).item() == pytest.approx(fake)


def test_least_squares_by_hand_is_of_bare_outputs():
    given = torch.tensor([[3.0, -1.0]])
    assert AdversarialLoss("mse")(given, True).item() == pytest.approx((4 + 4) / 2)
    assert AdversarialLoss("mse")(given, False).item() == pytest.approx((9 + 1) / 2)


@sides
def test_cross_entropy_is_that_of_torch(real):
    x = logits()
    theirs = functional.binary_cross_entropy_with_logits(x, torch.full_like(x, float(real)))
    assert AdversarialLoss("bce")(x, real).item() == pytest.approx(theirs.item())


@sides
def test_focal_is_that_of_kornia(real):
    x = logits()
    # It lets alpha be of the positive class alone; of the other it is ours to give.
    theirs = binary_focal_loss_with_logits(
        x, torch.full_like(x, float(real)), alpha=0.25, gamma=2.0, reduction="mean"
    )
    assert AdversarialLoss("focal")(x, real).item() == pytest.approx(theirs.item())


@every_kind
@sides
def test_gradient_is_the_numerical_one(kind, real):
    loss = AdversarialLoss(kind)
    assert torch.autograd.gradcheck(lambda x: loss(x, real), logits().requires_grad_())


@every_kind
@sides
def test_every_verdict_is_pushed_towards_the_truth(kind, real):
    """Also for an all-fake batch, for which the one-class Dice and Jaccard are constant."""
    # Between fake and real also for least squares, whose aims are 0 and 1 of the bare output.
    x = torch.sigmoid(logits()).requires_grad_()
    AdversarialLoss(kind)(x, real).backward()
    assert (torch.sign(-x.grad) == (1 if real else -1)).all()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("mse", "focal")])
def test_real_and_fake_mirror_each_other(kind):
    loss, x = AdversarialLoss(kind), logits()
    assert loss(x, True).item() == pytest.approx(loss(-x, False).item())


@every_kind
@sides
def test_right_is_better_than_unsure_is_better_than_wrong(kind, real):
    loss, truth = AdversarialLoss(kind), (1.0 if real else -1.0)
    # Least squares wants 1 and 0 of the bare output, the others large logits.
    right, wrong = (float(real), float(not real)) if kind == "mse" else (20 * truth, -20 * truth)
    unsure = 0.5 if kind == "mse" else 0.0
    values = [loss(torch.full((2, 1, 3, 3), v), real).item() for v in (right, unsure, wrong)]
    assert values == sorted(values)
    assert values[0] == pytest.approx(0, abs=1e-6)
    assert values[0] < values[1] < values[2]


@every_kind
@sides
def test_extreme_logits_stay_finite(kind, real):
    x = torch.tensor([[1e4, -1e4]], requires_grad=True)
    value = AdversarialLoss(kind)(x, real)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(x.grad).all()


@every_kind
def test_low_precision_is_promoted(kind):
    x = logits().bfloat16()
    value = AdversarialLoss(kind)(x, True)
    assert value.dtype == torch.float32
    assert value.item() == AdversarialLoss(kind)(x.float(), True).item()
    assert AdversarialLoss(kind)(logits(), True).dtype == torch.float64


def test_dice_is_of_each_sample():
    x = logits()
    assert dice(x, True).item() == pytest.approx(
        sum(dice(sample[None], True).item() for sample in x) / 3
    )


@every_kind
def test_any_shape_of_verdicts(kind):
    assert AdversarialLoss(kind)(torch.zeros(4, 1), True).shape == ()
    assert AdversarialLoss(kind)(torch.zeros(2, 1, 3, 4, 5), False).shape == ()
