"""Augmentation: what moves together, what does not move, and that a sample's number alone decides."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve, gaussian_filter

from livestain.training.augment import Augment
from livestain.training.parts import Augmentation

EVERYTHING = Augmentation(
    affine=0.5,
    scale=(0.8, 1.25),
    gain=(0.5, 2.0),
    brightness=0.5,
    gamma=(0.5, 2.0),
    blur=0.5,
    defocus=0.5,
    noise=0.3,
    flip_depth=True,
)


def batch(n=6, size=24, depth=None, seed=0, teacher=True):
    """Source, target and teacher are the same picture."""
    torch.manual_seed(seed)
    shape = (n, 1, size, size) if depth is None else (n, 1, depth, size, size)
    picture = torch.randn(shape)
    mask = torch.ones(shape[:2] if depth is None else shape[:3])
    made = {"source": picture, "target": picture.clone(), "mask": mask}
    return made | ({"teacher": picture.clone()} if teacher else {})


@pytest.mark.parametrize("depth", [None, 3])
def test_geometry_moves_all_alike_and_intensity_the_source_alone(depth):
    given = batch(depth=depth)
    moved = Augment(Augmentation(affine=0.7, scale=(0.8, 1.25), flip_depth=True))(given, 0)
    assert torch.equal(moved["source"], moved["target"])
    assert torch.equal(moved["source"], moved["teacher"])
    assert not torch.equal(moved["source"], given["source"])
    still = EVERYTHING.model_copy(update={"flip": False, "affine": 0.0, "flip_depth": False})
    changed = Augment(still)(given, 0)
    assert torch.equal(changed["target"], given["target"])
    assert torch.equal(changed["teacher"], given["teacher"])
    assert not torch.allclose(changed["source"], given["source"], atol=0.01)


def test_in_a_stack_every_plane_moves_alike_and_masks_follow_the_depth():
    plane = torch.randn(8, 1, 1, 16, 16)
    stack = plane.expand(-1, -1, 3, -1, -1) + torch.arange(3.0)[:, None, None]
    mask = torch.tensor([1.0, 0.0, 0.0]).expand(8, 1, 3)
    given = {"source": stack, "target": stack, "mask": mask}
    settings = Augmentation(affine=0.5, scale=(0.8, 1.25), flip_depth=True)
    moved = Augment(settings, seed=3)(given, 0)
    flipped = 0
    for source, own in zip(moved["source"], moved["mask"], strict=True):
        steps = torch.diff(source[0], dim=0)
        torch.testing.assert_close(steps.abs(), torch.ones_like(steps), atol=1e-4, rtol=0)
        downwards = bool(steps[0, 0, 0] < 0)
        assert own[0].tolist() == ([0, 0, 1] if downwards else [1, 0, 0])
        flipped += downwards
    assert 0 < flipped < 8


def test_flips_are_the_eight_of_the_square_and_about_equally_often():
    x = torch.arange(16.0).reshape(1, 1, 4, 4).expand(800, 1, 4, 4)
    moved = Augment(Augmentation())({"source": x, "target": x, "mask": torch.ones(800, 1)}, 0)
    seen, counts = np.unique(moved["source"].flatten(1).numpy(), axis=0, return_counts=True)
    square = [np.rot90(x[0, 0].numpy(), k) for k in range(4)]
    square += [image.T for image in square]
    assert {tuple(image) for image in seen} == {tuple(image.flatten()) for image in square}
    assert counts.min() > 65


@pytest.mark.parametrize("depth", [None, 2])
def test_a_sample_depends_on_its_number_and_not_on_its_batch(depth):
    whole = batch(depth=depth)
    augment = Augment(EVERYTHING, seed=1)
    together = augment(whole, 100)
    halves = [
        augment({key: value[part] for key, value in whole.items()}, 100 + part.start)
        for part in (slice(0, 3), slice(3, 6))
    ]
    for key, value in together.items():
        torch.testing.assert_close(value, torch.cat([half[key] for half in halves]))
    other = Augment(EVERYTHING, seed=2)(whole, 100)
    assert not torch.equal(other["source"], together["source"])


def test_the_given_batch_stays_as_it_is_and_nothing_can_be_asked_for():
    given = batch()
    before = {key: value.clone() for key, value in given.items()}
    Augment(EVERYTHING)(given, 0)
    assert all(torch.equal(given[key], value) for key, value in before.items())
    nothing = Augment(Augmentation(flip=False))(given, 0)
    assert all(torch.equal(nothing[key], value) for key, value in before.items())


def test_blur_is_scipys():
    settings = Augmentation(flip=False, blur=1.0, blur_sigma_px=(1.0, 1.0))
    given = batch()
    blurred = Augment(settings)(given, 0)["source"][0, 0].numpy()
    expected = gaussian_filter(given["source"][0, 0].numpy(), 1.0, mode="mirror", radius=3)
    np.testing.assert_allclose(blurred, expected, atol=1e-5)


def test_defocus_spreads_a_point_over_a_disc():
    radius = 2.0
    settings = Augmentation(flip=False, defocus=1.0, defocus_radius_px=(radius, radius))
    point = torch.zeros(1, 1, 15, 15)
    point[0, 0, 7, 7] = 1.0
    spot = Augment(settings)({"source": point, "target": point, "mask": torch.ones(1, 1)}, 0)[
        "source"
    ][0, 0].numpy()
    assert spot.sum() == pytest.approx(1, abs=1e-6)
    y, x = np.mgrid[-7:8, -7:8]
    distance = np.hypot(y, x)
    assert (spot[distance > radius + 0.5] == 0).all()
    inside = spot[distance < radius - 0.5]
    np.testing.assert_allclose(inside, inside[0], rtol=1e-5)
    # As wide as a disc: its second moment is r^2 / 4 along each axis.
    assert (spot * y**2).sum() == pytest.approx(radius**2 / 4, rel=0.2)
    noise = batch(teacher=False)
    both = Augment(settings)(noise, 0)["source"][0, 0].numpy()
    expected = convolve(noise["source"][0, 0].numpy(), spot[4:11, 4:11], mode="mirror")
    np.testing.assert_allclose(both, expected, atol=1e-5)


def test_gamma_stays_between_the_crops_own_limits():
    given = batch()
    source = Augment(Augmentation(flip=False, gamma=(0.5, 2.0)))(given, 0)["source"]
    x = given["source"]
    assert torch.allclose(source.amin(dim=(1, 2, 3)), x.amin(dim=(1, 2, 3)), atol=1e-5)
    assert torch.allclose(source.amax(dim=(1, 2, 3)), x.amax(dim=(1, 2, 3)), atol=1e-5)
    assert not torch.allclose(source, x, atol=0.01)


def test_noise_is_white_and_gain_within_its_limits():
    flat = torch.zeros(64, 1, 32, 32)
    given = {"source": flat, "target": flat, "mask": torch.ones(64, 1)}
    noisy = Augment(Augmentation(flip=False, noise=0.5))(given, 7)["source"]
    deviations = noisy.std(dim=(1, 2, 3))
    assert deviations.max() < 0.55
    assert deviations.mean() == pytest.approx(0.25, abs=0.05)
    beside = (noisy[..., 1:] * noisy[..., :-1]).mean() / noisy.square().mean()
    assert abs(beside) < 0.02
    ones = {**given, "source": flat + 1}
    gains = Augment(Augmentation(flip=False, gain=(0.5, 2.0)))(ones, 0)["source"][:, 0, 0, 0]
    assert 0.5 <= gains.min() < 0.7
    assert 1.5 < gains.max() <= 2.0
