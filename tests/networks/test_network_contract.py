"""What every network must do: keep sides, train, run in bf16 and channels-last, fold."""

import subprocess
import sys

import pytest
import torch
from network_cases import SMALL, planes, small
from torch import nn

from livestain.inference.fold import fold_batch_norm
from livestain.networks import (
    build_network,
    discriminator_names,
    network_dims,
    network_names,
)

EVERY = pytest.mark.parametrize("name", network_names())
# Where every batch normalisation stands right after a convolution in a Sequential.
FOLDS_WHOLLY = {
    *("fnet2d", "fnet3d", "hsu_unet", "pix2pix_unet256", "slim2d", "unet2d", "unet3d"),
}


def batch_norms(network):
    return [m for m in network.modules() if isinstance(m, nn.BatchNorm2d | nn.BatchNorm3d)]


def test_an_unknown_name_is_answered_with_the_known_ones():
    assert set(network_names()) == set(SMALL)
    message = (
        r"No network is called 'unet4d' \(did you mean 'unet.d'\?\); there are: care2d, .*unext2, "
        "patchgan70"
    )
    with pytest.raises(KeyError, match=message):
        build_network("unet4d")
    with pytest.raises(KeyError, match=message):
        network_dims("unet4d")
    with pytest.raises(TypeError, match="wdith"):
        build_network("unet2d", wdith=8)


def test_asking_for_names_and_dims_imports_no_network():
    code = (
        "import sys; from livestain.networks import network_dims, network_names;"
        "assert [network_dims(n) for n in network_names()];"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


@pytest.mark.parametrize("name", [*network_names(), *discriminator_names()])
def test_the_registry_tells_the_dims_that_the_network_has(name):
    with torch.device("meta"):
        network = build_network(name)
    assert network.dims == network_dims(name)
    assert hasattr(network, "divisor_z") == hasattr(network, "halo_z")
    assert hasattr(network, "divisor_z") == (network.dims == 3)


@EVERY
@pytest.mark.parametrize("steps", [1, 3])
def test_output_has_the_sides_of_the_input_and_its_own_channels(name, steps):
    network = small(name, in_channels=3, out_channels=2).eval()
    least = 2 if name == "resnet9" else 1  # it reflects a pixel at a quarter of the resolution
    x = planes(network, channels=3, steps=max(steps, least))
    with torch.inference_mode():
        assert network(x).shape == (2, 2, *x.shape[2:])


@EVERY
def test_gradient_reaches_every_parameter(name):
    network = small(name).eval()  # in training a batch norm cancels the bias before it
    network(planes(network)).square().mean().backward()
    without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


@EVERY
def test_a_few_training_steps_lower_the_loss(name):
    network = small(name).train()
    x = planes(network)
    target = 1 - x / 2
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    losses = []
    for _ in range(25):
        loss = nn.functional.mse_loss(network(x), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


@EVERY
def test_bf16_gives_about_the_same_and_finite_gradients(name):
    network = small(name).eval()
    x = planes(network)
    exact = network(x).detach()
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(x)
    assert (rough.float() - exact).std() < 0.05 * exact.std()
    rough.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    # The live path converts the weights too.
    with torch.inference_mode():
        converted = network.bfloat16()(x.bfloat16())
    assert converted.dtype == torch.bfloat16
    assert (converted.float() - exact).std() < 0.05 * exact.std()


@EVERY
def test_channels_last_gives_the_same(name):
    network = small(name).eval()
    x = planes(network)
    layout = torch.channels_last if network.dims == 2 else torch.channels_last_3d
    with torch.inference_mode():
        plain = network(x)
        last = network.to(memory_format=layout)(x.contiguous(memory_format=layout))
    torch.testing.assert_close(last, plain, rtol=1e-4, atol=1e-4)


@EVERY
def test_folding_changes_nothing_and_leaves_no_norm_where_all_can_be_folded(name):
    network = small(name).eval()
    x = planes(network)
    folded = fold_batch_norm(network)
    with torch.inference_mode():
        before, after = network(x), folded(x)
    assert (after - before).abs().max() < 1e-4 * before.std()
    had, left = len(batch_norms(network)), len(batch_norms(folded))
    if name in FOLDS_WHOLLY:
        assert had > 0
        assert left == 0
    elif name.startswith("gvtnet"):
        assert 0 < left < had  # those before a convolution stay
    else:
        assert had == 0
