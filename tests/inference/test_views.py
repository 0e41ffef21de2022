"""Eight views of the same planes, averaged: by hand, by a symmetric network, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from livestain.bundle import BundleDescription, InputSpec, NetworkSpec, OutputChannel, write_bundle
from livestain.errors import SettingsError
from livestain.inference import Stainer, stain_views
from livestain.networks import build_network

KWARGS = {"in_channels": 1, "out_channels": 1, "width": 4, "depth": 2}


def by_turns(predict, planes):
    """Predict from quarter turns of the planes and of their mirror image: another way to the same eight."""
    found = []
    for turns in range(4):
        for mirror in (False, True):
            view = np.rot90(planes[..., ::-1] if mirror else planes, turns, axes=(-2, -1))
            back = np.rot90(predict(np.ascontiguousarray(view)), -turns, axes=(-2, -1))
            found.append(back[..., ::-1] if mirror else back)
    return found


@pytest.mark.parametrize("shape", [(64, 64), (48, 80), (61, 50)])
def test_eight_views_are_those_by_hand(bundle, make_counts, shape):
    planes = make_counts(*shape)
    with Stainer(bundle, device="cpu") as stainer:
        by_hand = by_turns(stainer.stain, planes)
        found = stain_views(stainer.stain, planes, 8)
        once = stain_views(stainer.stain, planes, 1)
        np.testing.assert_array_equal(once, stainer.stain(planes))
    assert found.dtype == np.float32
    assert found.shape == (2, *shape)
    np.testing.assert_allclose(found, np.mean(by_hand, axis=0), atol=1e-5)
    # Random weights see each view otherwise: it is no average of equals.
    assert np.abs(found - once).max() > 0.05


def test_the_average_turns_with_the_planes(bundle, make_counts):
    planes = make_counts(48, 80)
    turned = np.rot90(planes, axes=(-2, -1)).copy()
    with Stainer(bundle, device="cpu") as stainer:
        one, other = (stain_views(stainer.stain, view, 8) for view in (planes, turned))
    np.testing.assert_allclose(np.rot90(one, axes=(-2, -1)), other, atol=1e-5)


def test_whole_stacks_keep_the_order_of_their_planes(bundle_of):
    stack = np.random.default_rng(0).integers(0, 4000, (8, 32, 48), np.uint16)
    with Stainer(bundle_of(network="unet3d", z="all"), device="cpu") as stainer:
        found = stain_views(stainer.stain, stack, 8)
        by_hand = by_turns(stainer.stain, stack)
    assert found.shape == (1, 8, 32, 48)
    np.testing.assert_allclose(found, np.mean(by_hand, axis=0), atol=1e-5)


def _symmetric(kernels):
    """Return kernels (..., y, x) that look the same in all eight views."""
    turned = [torch.rot90(kernels, turns, (-2, -1)) for turns in range(4)]
    return torch.stack([view for one in turned for view in (one, one.flip(-1))]).mean(dim=0)


def test_a_symmetric_network_gains_nothing(tmp_path, make_counts):
    """Its prediction of a turned plane is its turned prediction, so that eight views are one."""
    torch.manual_seed(2)
    network = build_network("unet2d", **KWARGS)
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim == 4:
                weight.copy_(_symmetric(weight))
        for _ in range(20):  # settles batch normalisation
            network(torch.randn(4, 1, 32, 32))
    made = write_bundle(
        tmp_path / "symmetric",
        network=network,
        description=BundleDescription(
            input=InputSpec(pixel_size_um=0.1, pixel_size_range_um=(0.05, 0.2)),
            outputs=(OutputChannel(name="mitochondria", display=(-1, 1)),),
            network=NetworkSpec(name="unet2d", kwargs=KWARGS),
        ),
        test_input=make_counts(64, 48)[:1],
        name="symmetric",
        title="A symmetric bundle",
        licence="BSD-3-Clause",
        card="# Card\n",
        onnx=False,
    )
    planes = make_counts(64, 96)[:1]
    with Stainer(made, device="cpu") as stainer:
        once, eight = (stain_views(stainer.stain, planes, views) for views in (1, 8))
    assert once.std() > 0.05
    np.testing.assert_allclose(eight, once, atol=1e-4)


@pytest.mark.parametrize("views", [0, 2, 4])
def test_other_numbers_of_views_are_refused(views):
    with pytest.raises(SettingsError, match=rf"number of views is {views}; expected 1, .* or 8"):
        stain_views(np.asarray, np.zeros((1, 8, 8), np.uint16), views)
