"""The PSF-aware loss: its blur against scipy, its widths against the diffraction integral."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.ndimage import gaussian_filter
from scipy.special import j0

from livestain.training.losses.psf import blur, psf_l1, psf_sigma_um
from livestain.training.losses.settings import PSFSettings

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("sigma", [0.1, 0.7, 1.3, 6.0])
def test_blur_of_planes_is_that_of_scipy(sigma):
    planes = RNG.standard_normal((2, 3, 20, 17))
    theirs = gaussian_filter(planes, (0, 0, sigma, sigma), mode="nearest")
    np.testing.assert_allclose(blur(torch.from_numpy(planes), sigma).numpy(), theirs, atol=1e-12)


@pytest.mark.parametrize("depth", [1, 5, 12])
def test_blur_of_stacks_is_that_of_scipy_also_where_the_kernel_is_deeper(depth):
    stacks = RNG.standard_normal((2, 2, depth, 9, 11))
    ours = blur(torch.from_numpy(stacks), 0.9, 1.7).numpy()
    theirs = gaussian_filter(stacks, (0, 0, 1.7, 0.9, 0.9), mode="nearest")
    np.testing.assert_allclose(ours, theirs, atol=1e-12)
    by_plane = blur(torch.from_numpy(stacks), 0.9).numpy()
    theirs = gaussian_filter(stacks, (0, 0, 0, 0.9, 0.9), mode="nearest")
    np.testing.assert_allclose(by_plane, theirs, atol=1e-12)


def test_a_blur_in_depth_needs_a_depth():
    with pytest.raises(ValueError, match="depth"):
        blur(torch.zeros(1, 1, 8, 8), 1.0, 1.0)


@pytest.mark.parametrize(("na", "index"), [(0.1, 1.0), (0.75, 1.0), (1.42, 1.515)])
def test_widths_are_those_of_the_spot_at_its_peak(na, index):
    """Against the scalar Debye integral of the paper, whose second derivatives are taken numerically."""
    wavelength = 0.52
    alpha, k = np.arcsin(na / index), 2 * np.pi * index / wavelength

    def intensity(r, z):
        def part(wave):
            return quad(
                lambda a: np.sqrt(np.cos(a)) * j0(k * r * np.sin(a)) * wave(a) * np.sin(a),
                0,
                alpha,
                epsabs=1e-13,
            )[0]

        return part(lambda a: np.cos(k * z * np.cos(a))) ** 2 + (
            part(lambda a: np.sin(k * z * np.cos(a))) ** 2
        )

    sigma, sigma_z = psf_sigma_um(
        PSFSettings(na=na, wavelength_um=wavelength, refractive_index=index)
    )
    peak = intensity(0, 0)
    for width, place in ((sigma, lambda d: (d, 0)), (sigma_z, lambda d: (0, d))):
        step = 0.03 * width
        # A Gaussian's logarithm falls by (step / width)^2 / 2.
        fall = -np.log(intensity(*place(step)) / peak)
        assert width == pytest.approx(step / np.sqrt(2 * fall), rel=1e-3)


def test_small_apertures_have_the_paraxial_widths():
    """Zhang 2007, table: sqrt(2) / (k NA) and 2 sqrt(6) n / (k NA^2), with k in vacuum."""
    k = 2 * np.pi / 0.6
    sigma, sigma_z = psf_sigma_um(PSFSettings(na=0.05, wavelength_um=0.6, refractive_index=1.33))
    assert sigma == pytest.approx(np.sqrt(2) / (k * 0.05), rel=1e-3)
    assert sigma_z == pytest.approx(2 * np.sqrt(6) * 1.33 / (k * 0.05**2), rel=1e-3)


def test_stated_widths_are_taken():
    assert psf_sigma_um(PSFSettings(sigma_um=0.12)) == (0.12, None)
    assert psf_sigma_um(PSFSettings(sigma_um=0.12, sigma_z_um=0.3)) == (0.12, 0.3)
    assert psf_sigma_um(PSFSettings(na=1.0, wavelength_um=0.5, sigma_z_um=0.4))[1] == 0.4


def test_loss_is_zero_for_the_sharp_image_of_which_the_target_is_a_picture():
    sharp = np.zeros((1, 1, 21, 21))
    sharp[..., 10, 10] = 1.0
    target = torch.from_numpy(gaussian_filter(sharp, (0, 0, 1.5, 1.5), mode="nearest"))
    sharp = torch.from_numpy(sharp)
    assert psf_l1(sharp, target, None, 1.5).item() == pytest.approx(0, abs=1e-12)
    # The target itself is too blurred to be the prediction: the second blur shows.
    twice = gaussian_filter(target.numpy(), (0, 0, 1.5, 1.5), mode="nearest")
    assert psf_l1(target, target, None, 1.5).item() == pytest.approx(
        np.abs(twice - target.numpy()).mean()
    )


def test_gradient_of_one_blurred_pixel_is_spread_like_the_psf():
    """What the generator gets: its transpose, here the symmetric kernel itself."""
    prediction = torch.zeros(1, 1, 15, 15, dtype=torch.float64, requires_grad=True)
    blur(prediction, 1.2)[..., 7, 7].sum().backward()
    point = np.zeros((15, 15))
    point[7, 7] = 1.0
    np.testing.assert_allclose(
        prediction.grad[0, 0].numpy(), gaussian_filter(point, 1.2, mode="nearest"), atol=1e-12
    )
