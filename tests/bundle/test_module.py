"""`StainModule` and `Normalise`: shapes, sources, own planes, spreads, and statistics of wholes."""

import numpy as np
import pytest
import torch
from torch import nn

from livestain.bundle import NormalisationSettings, Normalise, StainModule


class Shift(nn.Module):
    """A 3-D network whose output is the input of the plane before, plus the sum over sources."""

    dims = 3
    divisor, divisor_z, halo, halo_z = 2, 4, None, 1

    def forward(self, x):
        assert x.ndim == 5
        assert x.shape[2] % self.divisor_z == 0
        return torch.roll(x, 1, dims=2) + x.sum(dim=1, keepdim=True)


class Same(nn.Module):
    """A 2-D network that gives its input."""

    dims, divisor, halo = 2, 1, 0

    def forward(self, x):
        return x


def z_score(x, axes):
    return (x - x.mean(axes, keepdims=True)) / x.std(axes, keepdims=True)


@pytest.fixture
def counts():
    """Raw counts (2, 6, 8, 10): two, of two sources with three planes each, unlike in level."""
    rng = np.random.default_rng(1)
    level = np.array([100, 120, 140, 5000, 5600, 6200]).reshape(1, 6, 1, 1)
    return (level * rng.uniform(0.5, 1.5, (2, 6, 8, 10))).astype(np.uint16)


def test_each_source_has_statistics_of_its_own(counts):
    given = torch.from_numpy(counts.astype(np.float32))
    stacks = counts.reshape(2, 2, 3, 8, 10).astype(float)
    wanted = {"plane": z_score(stacks, (3, 4)), "window": z_score(stacks, (2, 3, 4))}
    for scope, expected in wanted.items():
        found = Normalise(NormalisationSettings(scope=scope), sources=2)(given).numpy()
        np.testing.assert_allclose(found, expected.reshape(counts.shape), atol=1e-4)
    together = Normalise(NormalisationSettings(scope="window"))(given).numpy()
    np.testing.assert_allclose(together, z_score(counts.astype(float), (1, 2, 3)), atol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [{"scope": "plane"}, {"scope": "window"}, {"kind": "frozen", "mean": 900, "std": 400}],
    ids=str,
)
def test_a_crop_is_normalised_by_the_statistics_of_the_whole(counts, settings):
    normalise = Normalise(NormalisationSettings(**settings), sources=2)
    given = torch.from_numpy(counts)
    mean, std = normalise.statistics(given)
    assert mean.shape == std.shape == (2, 6, 1, 1)
    assert mean.dtype == std.dtype == torch.float32
    crop = np.s_[:, 3:5, 2:7, 4:9]
    found = normalise.apply(given[crop], mean[:, 3:5], std[:, 3:5])
    assert torch.equal(found, normalise(given)[crop])


def test_a_whole_stack_goes_in_and_comes_out_with_or_without_an_axis_of_its_own(counts):
    module = StainModule(Shift(), sources=1)
    given = torch.from_numpy(counts[:, :4])
    found = module(given)
    assert (module.whole_stack, module.divisor_z, module.halo, module.halo_z) == (True, 4, None, 1)
    x = z_score(counts[:, :4].astype(float), (2, 3))
    np.testing.assert_allclose(found[:, 0], np.roll(x, 1, axis=1) + x, atol=1e-4)
    assert torch.equal(module(given[:, None]), found)


def test_the_own_plane_of_a_window_that_is_filled_up_by_its_last_plane(counts):
    """Three planes for a network of four: plane 0 sees the last of the filled-up depth before it."""
    for own in (0, 1, 2):
        module = StainModule(Shift(), sources=2, own_plane=own)
        x = z_score(counts.astype(float), (2, 3)).reshape(2, 2, 3, 8, 10)
        expected = x[:, :, (own - 1) % 3] + x[:, :, own].sum(axis=1, keepdims=True)
        np.testing.assert_allclose(module(torch.from_numpy(counts)), expected, atol=1e-4)


def test_spreads_come_out_positive_and_in_their_unit(counts):
    module = StainModule(Same(), spread=True)
    found = module(torch.from_numpy(counts)).numpy()
    x = z_score(counts.astype(float), (2, 3))
    np.testing.assert_allclose(found[:, :3], x[:, :3], atol=1e-4)
    np.testing.assert_allclose(found[:, 3:], np.exp(x[:, 3:]), rtol=1e-3)


def test_weights_may_be_drawn_through_the_module():
    """`nn.Module.apply` is torch's; that of `Normalise` must not stand in its way."""
    seen = []
    StainModule(Same()).apply(seen.append)
    assert len(seen) == 2
