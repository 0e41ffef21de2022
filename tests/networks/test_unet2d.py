"""The 2-D U-Net: shapes, size, and how far a pixel sees."""

import pytest
import torch
from torch import nn

from livestain.networks import build_network


@pytest.mark.parametrize("depth", [0, 1, 3, 4])
def test_output_has_the_sides_of_the_input(depth):
    network = build_network("unet2d", in_channels=3, out_channels=2, width=2, depth=depth).eval()
    side = network.divisor
    assert side == 2**depth
    with torch.inference_mode():
        assert network(torch.zeros(2, 3, side, 3 * side)).shape == (2, 2, side, 3 * side)


def test_number_of_parameters_is_that_of_the_architecture():
    def double_conv(a, b):
        return 9 * a * b + 2 * b + 9 * b * b + 2 * b

    network = build_network("unet2d", in_channels=1, out_channels=1, width=16, depth=4)
    down = sum(double_conv(a, b) for a, b in [(1, 16), (16, 32), (32, 64), (64, 128), (128, 256)])
    up = sum(double_conv(3 * b, b) for b in [128, 64, 32, 16])
    assert sum(p.numel() for p in network.parameters()) == down + up + 16 + 1


def linearised(depth):
    """A U-Net through which every dependence passes: no unit is dead, no maximum hides others."""
    network = build_network("unet2d", width=2, depth=depth).double().eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
    for block in (*network.down, *network.up):
        for place, layer in enumerate(block):
            if isinstance(layer, nn.ReLU):
                block[place] = nn.Identity()
    network.pool = nn.AvgPool2d(2)
    return network


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_halo_is_exactly_how_far_a_pixel_sees(depth):
    torch.manual_seed(0)
    network = linearised(depth)
    divisor = network.divisor
    side = divisor * ((2 * network.halo + 3 * divisor) // divisor + 1)
    centre = side // 2 // divisor * divisor
    reach = 0
    for shift in range(divisor):  # how far depends on the place on the pooling grid
        x = torch.zeros(1, 1, side, side, dtype=torch.float64, requires_grad=True)
        place = centre + shift
        (gradient,) = torch.autograd.grad(network(x)[0, 0, place, place], x)
        rows = gradient[0, 0].abs().sum(dim=1).nonzero().ravel()
        reach = max(reach, place - int(rows.min()), int(rows.max()) - place)
    assert reach == network.halo


def test_what_lies_beyond_the_halo_changes_nothing():
    torch.manual_seed(1)
    network = build_network("unet2d", width=4, depth=3).eval()
    x = torch.randn(1, 1, 160, 160)
    changed = x.clone()
    changed[..., : 80 - network.halo] += 3.0
    changed[..., 80 + network.halo + 1 :] -= 3.0
    with torch.inference_mode():
        before, after = network(x), network(changed)
    assert torch.equal(before[..., 80], after[..., 80])
    assert not torch.equal(before, after)
