"""The loss of a recipe: what is summed, and which recipes cannot have theirs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from loss_cases import recipe_with, tensors
from scipy.ndimage import gaussian_filter

from livestain.errors import SettingsError
from livestain.training.losses.total import RecipeLoss, check_loss
from livestain.training.recipe import Recipe, find_recipe, recipe_names

A = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
B = torch.tensor([[[[1.0, 0.0], [3.0, 8.0]]]])


def test_weighted_sum_and_terms_left_out():
    total, terms = RecipeLoss(recipe_with({"mse": 0.5, "l1": 2.0}, targets=1))(A, B)
    assert total.item() == pytest.approx(0.5 * 5 + 2 * 1.5)
    assert set(terms) == {"mse", "l1"}
    assert terms["mse"].item() == pytest.approx(5)


def test_a_term_of_weight_zero_is_not_computed():
    """MS-SSIM would refuse 2 x 2 pixels, and distillation a batch without a teacher."""
    total, _ = RecipeLoss(recipe_with({"mse": 1.0}, targets=1))(A, B)
    assert total.item() == pytest.approx(5)
    with pytest.raises(ValueError, match="176"):
        RecipeLoss(recipe_with({"mse": 1.0, "ms_ssim": 1.0}, targets=1))(A, B)


def test_the_second_half_of_the_channels_are_log_spreads_for_no_other_term():
    loss = RecipeLoss(recipe_with({"laplace": 1.0, "l1": 1.0}, targets=1))
    assert loss.predicts_spread
    prediction = torch.cat([A, torch.zeros_like(A)], dim=1)
    total, terms = loss(prediction, B)
    assert terms["l1"].item() == pytest.approx(1.5)
    assert terms["laplace"].item() == pytest.approx(1.5 + np.log(2))
    assert total.item() == pytest.approx(3 + np.log(2))


def test_distillation_is_to_the_teacher_also_where_a_target_is_missing():
    loss = RecipeLoss(recipe_with({"distillation": 2.0, "l1": 1.0, "teacher": "it"}, targets=1))
    total, terms = loss(A, torch.zeros_like(A), torch.zeros(1, 1), B)
    assert terms["distillation"].item() == pytest.approx(5)
    assert terms["l1"].item() == 0
    assert total.item() == pytest.approx(10)
    with pytest.raises(ValueError, match="teacher"):
        loss(A, B)


def test_psf_is_in_pixels_and_planes_of_the_recipe():
    psf = {"sigma_um": 0.15, "sigma_z_um": 0.6}
    prediction, target, _ = tensors(3)
    total, _ = RecipeLoss(recipe_with({"psf_l1": 1.0, "psf": psf}, dims=3))(prediction, target)
    # 0.1 um a pixel, 0.3 um a plane.
    blurred = gaussian_filter(prediction.numpy(), (0, 0, 2.0, 1.5, 1.5), mode="nearest")
    assert total.item() == pytest.approx(np.abs(blurred - target.numpy()).mean())


@pytest.mark.parametrize("changes", [{"depth_axis": "t"}, {"depth_axis": "both"}])
def test_time_is_not_blurred(changes):
    psf = {"na": 1.4, "wavelength_um": 0.6}
    loss = RecipeLoss(recipe_with({"psf_l1": 1.0, "psf": psf}, dims=3, **changes))
    assert loss.psf_sigma_depth is None
    assert RecipeLoss(recipe_with({"psf_l1": 1.0, "psf": psf}, dims=3)).psf_sigma_depth > 0.3


def test_it_has_no_parameters_and_no_state():
    loss = RecipeLoss(recipe_with({"ms_ssim": 1.0, "psf_l1": 1.0, "psf": {"sigma_um": 0.1}}))
    assert not list(loss.parameters())
    assert not loss.state_dict()


def test_gradient_of_a_mixture_is_the_numerical_one():
    mixture = {
        "gaussian": 1.0,
        "pearson": 0.5,
        "tn_l1": 2.0,
        "ms_ssim": 0.84,
        "ssim": {"scales": 1},
        "psf_l1": 0.3,
        "psf": {"sigma_um": 0.1},
    }
    prediction, target, mask = tensors(2, spread=True)
    loss = RecipeLoss(recipe_with(mixture))
    assert torch.autograd.gradcheck(
        lambda x: loss(x, target, mask)[0], prediction.requires_grad_(), fast_mode=True
    )


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_that_travel_with_the_package_are_sound(name):
    recipe = Recipe.from_yaml(find_recipe(name))
    check_loss(recipe)
    RecipeLoss(recipe)


CYCLE = {"pairing": "unpaired", "cycle": {}}


@pytest.mark.parametrize(
    ("loss", "changes", "words"),
    [
        ({"ms_ssim": 1}, {"crop": 160}, r"160 pixels.*5 scales needs 176.*scales: 4"),
        ({"ms_ssim": 1, "ssim": {"scales": 3}}, {"crop": 32}, r"3 scales needs 44.*scales: 2"),
        (
            {"psf_l1": 1, "psf": {"na": 1.4, "wavelength_um": 520}},
            {"crop": 64},
            r"standard deviation of \d+ pixels; its crop has 64.*micrometres",
        ),
        (
            {"psf_l1": 1, "psf": {"sigma_um": 0.1, "sigma_z_um": 0.3}},
            {"crop": 64},
            r"sigma_z_um, which needs a 3-D network.*Leave it out",
        ),
        (
            {"psf_l1": 1, "psf": {"sigma_um": 0.1, "sigma_z_um": 0.3}},
            {"dims": 3, "depth_axis": "t"},
            "depth_axis: z",
        ),
        ({"mse": 1}, CYCLE, r"has 1 and 2. Set cycle.identity: 0"),
    ],
)
def test_refused(loss, changes, words):
    with pytest.raises(SettingsError, match=words):
        check_loss(recipe_with(loss, **changes))


@pytest.mark.parametrize(
    ("loss", "changes"),
    [
        ({"ms_ssim": 1}, {"crop": 176}),
        ({"mse": 1, "ssim": {"scales": 5}}, {"crop": 32}),
        ({"psf_l1": 1, "psf": {"na": 1.4, "wavelength_um": 0.52}}, {"crop": 32}),
        ({"psf_l1": 1, "psf": {"sigma_um": 0.1, "sigma_z_um": 0.3}}, {"dims": 3}),
        ({"mse": 1}, CYCLE | {"cycle": {"identity": 0.0}}),
        ({"mse": 1}, CYCLE | {"targets": 1}),
        ({"tn_l1": 1, "tn": {"scope": "data"}}, {}),
    ],
)
def test_not_refused(loss, changes):
    check_loss(recipe_with(loss, **changes))
