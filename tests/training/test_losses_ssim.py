"""MS-SSIM against scikit-image scale by scale, and against torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.optimize import minimize
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from livestain.training.losses.settings import SSIMSettings
from livestain.training.losses.structural import (
    ms_ssim_by_plane,
    one_minus_ms_ssim,
    smallest_side,
)

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def images(side, seed=0, noise=0.5):
    """A z-scored target with negative values, and a prediction like it, (2, 1, side, side)."""
    rng = np.random.default_rng(seed)
    target = np.stack([gaussian_filter(rng.standard_normal((side, side)), s) for s in (1.5, 4)])
    target /= target.std(axis=(1, 2), keepdims=True)
    rough = gaussian_filter(rng.standard_normal(target.shape), (0, 1, 1))
    return (0.8 * target + noise * rough / rough.std())[:, None], target[:, None]


def by_skimage(x, y, how):
    """The same by another library: K1 is so large that the luminance is 1 where it is not wanted."""
    x, y = ((image - how.low) / (how.high - how.low) for image in (x, y))
    product = 1.0
    weights = np.array(WEIGHTS[: how.scales]) / sum(WEIGHTS[: how.scales])
    for n, weight in enumerate(weights):
        if n:
            x, y = (
                image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]
                .reshape(image.shape[0] // 2, 2, image.shape[1] // 2, 2)
                .mean(axis=(1, 3))
                for image in (x, y)
            )
        _, similarity = structural_similarity(
            x,
            y,
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            full=True,
            **({} if n == how.scales - 1 else {"K1": 1e6}),
        )
        # Its map goes to the border of the image; ours has whole windows alone.
        product *= max(similarity[5:-5, 5:-5].mean(), 0) ** weight
    return product


@pytest.mark.parametrize(("scales", "side"), [(1, 11), (1, 40), (3, 61), (5, 176), (5, 203)])
def test_each_plane_is_that_of_scikit_image(scales, side):
    x, y = images(side)
    how = SSIMSettings(low=-3.0, high=5.0, scales=scales)
    ours = ms_ssim_by_plane(torch.from_numpy(x), torch.from_numpy(y), how)
    for n in range(2):
        assert ours[n, 0].item() == pytest.approx(by_skimage(x[n, 0], y[n, 0], how), abs=1e-7)


def test_near_that_of_torchmetrics_which_mirrors_the_border_at_the_coarsest_scale():
    x, y = map(torch.from_numpy, images(192))
    how = SSIMSettings(low=-3.0, high=5.0)
    ours = ms_ssim_by_plane(x, y, how)[:, 0]
    theirs = multiscale_structural_similarity_index_measure(
        (x + 3) / 8, (y + 3) / 8, data_range=1.0, reduction="none"
    )
    torch.testing.assert_close(ours, theirs, atol=0.02, rtol=0)
    assert 0.3 < ours.min() < 0.95


def test_a_stack_is_the_mean_of_its_planes():
    x, y = map(torch.from_numpy, images(44))
    how = SSIMSettings(scales=3)
    planes = ms_ssim_by_plane(x, y, how)
    stack = ms_ssim_by_plane(x.transpose(0, 1)[None], y.transpose(0, 1)[None], how)
    assert stack.shape == (1, 1, 2)
    torch.testing.assert_close(stack.flatten(), planes.flatten())
    mask = torch.tensor([[[0.0, 1.0]]])
    loss = one_minus_ms_ssim(x.transpose(0, 1)[None], y.transpose(0, 1)[None], mask, how)
    assert loss.item() == pytest.approx(1 - planes[1].item())


def test_equal_planes_score_one_also_constant_ones():
    _, y = map(torch.from_numpy, images(44))
    for image in (y, torch.full_like(y, -1.0)):
        ours = ms_ssim_by_plane(image, image, SSIMSettings(scales=3))
        torch.testing.assert_close(ours, torch.ones_like(ours))


def test_a_range_is_stated_so_that_a_brighter_copy_scores_less():
    _, y = map(torch.from_numpy, images(44))
    how = SSIMSettings(scales=3)
    assert ms_ssim_by_plane(y, y, how).min() > ms_ssim_by_plane(3 * y, y, how).max()
    # In a range ten times as wide, the same error is a smaller one.
    wide = SSIMSettings(low=-20, high=80, scales=3)
    assert ms_ssim_by_plane(y + 1, y, wide).min() > ms_ssim_by_plane(y + 1, y, how).max()


@pytest.mark.parametrize("start", ["opposite", "constant", "unrelated"])
def test_bad_starts_have_a_finite_value_and_gradient(start):
    """Contrast-structure at or below 0, where a power has no value or no finite slope."""
    x, y = map(torch.from_numpy, images(44))
    x = {"opposite": -y, "constant": torch.zeros_like(y), "unrelated": y.flip(-1)}[start]
    x = x.clone().requires_grad_()
    loss = one_minus_ms_ssim(x, y, None, SSIMSettings(scales=3))
    loss.backward()
    assert 0 < loss.item() <= 1
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("scales", [2, 3, 5])
def test_gradient_through_all_scales_is_the_numerical_one(scales):
    how = SSIMSettings(scales=scales)
    x, y = (torch.from_numpy(image[:1]) for image in images(smallest_side(scales), noise=0.3))
    assert (
        float(one_minus_ms_ssim(x, y, None, how)) < 0.9
    )  # no scale is clamped, and so none is flat
    assert torch.autograd.gradcheck(
        lambda x: one_minus_ms_ssim(x, y, None, how), x.requires_grad_(), fast_mode=True
    )


def test_minimising_it_finds_the_target():
    """From a constant, as an untrained network predicts."""
    target = torch.from_numpy(images(30)[1])

    def value_and_slope(flat):
        x = torch.from_numpy(flat).view_as(target).requires_grad_()
        loss = one_minus_ms_ssim(x, target, None, SSIMSettings(scales=2))
        loss.backward()
        return loss.item(), x.grad.numpy().ravel()

    start = np.zeros(target.numel())
    assert value_and_slope(start)[0] > 0.5
    found = minimize(value_and_slope, start, jac=True, method="L-BFGS-B", options={"maxiter": 100})
    assert found.fun < 0.01


def test_float32_keeps_dim_planes():
    """Variances of dim planes on a bright ground are not lost in differences of large numbers."""
    x, y = (torch.from_numpy(0.01 * image + 5.0) for image in images(44))
    how = SSIMSettings(low=0.0, high=0.2, scales=3)
    double = ms_ssim_by_plane(x, y, how)
    torch.testing.assert_close(
        ms_ssim_by_plane(x.float(), y.float(), how).double(), double, atol=1e-4, rtol=0
    )


@pytest.mark.parametrize(("scales", "side"), [(1, 11), (2, 22), (3, 44), (4, 88), (5, 176)])
def test_smallest_side_is_where_it_still_computes(scales, side):
    assert smallest_side(scales) == side
    how = SSIMSettings(scales=scales)
    image = torch.zeros(1, 1, side, side)
    assert ms_ssim_by_plane(image, image, how).item() == pytest.approx(1)
    with pytest.raises(ValueError, match=f"takes sides of {side}"):
        ms_ssim_by_plane(image[..., 1:], image[..., 1:], how)
