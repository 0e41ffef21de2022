"""What holds for every term: its gradient, its mask, its digits."""

from __future__ import annotations

import pytest
import torch
from loss_cases import TERMS, loss_of, predicts_spread, recipe_with, tensors

from livestain.training.losses.total import RecipeLoss

both = pytest.mark.parametrize("dims", [2, 3])
every_term = pytest.mark.parametrize("term", TERMS)
every_masked_term = pytest.mark.parametrize("term", [t for t in TERMS if t != "distillation"])


def evaluate(term, dims, prediction, target, mask):
    teacher = torch.zeros_like(target) if term == "distillation" else None
    total, terms = RecipeLoss(recipe_with(loss_of(term), dims=dims))(
        prediction, target, mask, teacher
    )
    assert set(terms) == {term}
    assert total.shape == ()
    return total


@both
@every_term
def test_gradient_is_the_numerical_one(term, dims):
    prediction, target, mask = tensors(dims, spread=predicts_spread(term))
    assert torch.autograd.gradcheck(
        lambda x: evaluate(term, dims, x, target, mask),
        prediction.requires_grad_(),
        fast_mode=True,
    )


@both
@every_term
def test_gradient_reaches_every_pixel_that_has_a_target_and_no_other(term, dims):
    prediction, target, mask = tensors(dims, spread=predicts_spread(term))
    prediction.requires_grad_()
    evaluate(term, dims, prediction, target, mask).backward()
    reached = prediction.grad != 0
    n_targets = target.shape[1]
    for half in reached.split(n_targets, dim=1):
        assert half[mask > 0].all()
        # The teacher knows all planes; blurred in depth, a plane without a target shines on others.
        if term != "distillation" and (term, dims) != ("psf_l1", 3):
            assert not half[mask == 0].any()


@both
@every_term
def test_a_plane_without_a_target_changes_nothing(term, dims):
    prediction, target, mask = tensors(dims, spread=predicts_spread(term))
    known = evaluate(term, dims, prediction, target, mask)
    target[mask == 0] = torch.nan
    prediction.requires_grad_()
    unknown = evaluate(term, dims, prediction, target, mask)
    unknown.backward()
    assert unknown.item() == known.item()
    assert torch.isfinite(prediction.grad).all()


@every_masked_term
def test_a_mask_is_the_loss_of_what_remains(term):
    """Against the same data with the sample taken out: the mean is over planes that are there."""
    prediction, target, _ = tensors(2, spread=predicts_spread(term))
    mask = torch.ones(target.shape[:2])
    mask[0] = 0
    masked = evaluate(term, 2, prediction, target, mask)
    assert masked.item() == pytest.approx(
        evaluate(term, 2, prediction[1:], target[1:], mask[1:]).item()
    )


@both
@every_masked_term
def test_nothing_there_is_zero_with_a_graph(term, dims):
    prediction, target, mask = tensors(dims, spread=predicts_spread(term))
    prediction.requires_grad_()
    total = evaluate(term, dims, prediction, target, torch.zeros_like(mask))
    total.backward()
    assert total.item() == 0
    assert (prediction.grad == 0).all()


@every_term
def test_low_precision_is_promoted_before_anything_is_computed(term):
    prediction, target, mask = tensors(2, spread=predicts_spread(term), dtype=torch.float32)
    rounded = prediction.bfloat16()
    total = evaluate(term, 2, rounded, target, mask)
    assert total.dtype == torch.float32
    assert total.item() == evaluate(term, 2, rounded.float(), target, mask).item()


@every_term
def test_an_autocast_around_it_takes_no_digits(term):
    prediction, target, mask = tensors(2, spread=predicts_spread(term), dtype=torch.float32)
    plain = evaluate(term, 2, prediction, target, mask)
    with torch.autocast("cpu", torch.bfloat16):
        assert evaluate(term, 2, prediction, target, mask).item() == plain.item()


@every_term
def test_double_stays_double(term):
    total = evaluate(term, 2, *tensors(2, spread=predicts_spread(term)))
    assert total.dtype == torch.float64


@both
@every_term
def test_no_mask_is_a_full_mask(term, dims):
    prediction, target, mask = tensors(dims, spread=predicts_spread(term))
    full = evaluate(term, dims, prediction, target, torch.ones_like(mask))
    assert evaluate(term, dims, prediction, target, None).item() == pytest.approx(full.item())


@every_term
def test_shapes_that_would_broadcast_are_refused(term):
    prediction, target, mask = tensors(2, spread=predicts_spread(term))
    with pytest.raises(ValueError, match="expected"):
        evaluate(term, 2, prediction, target[:1], mask)
    if term != "distillation":
        with pytest.raises(ValueError, match="one value a plane"):
            evaluate(term, 2, prediction, target, mask[:1])
    with pytest.raises(ValueError, match="channels; expected"):
        evaluate(term, 2, prediction[:, :1], target, mask)
