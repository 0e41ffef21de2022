"""Parameter counts of the papers, and how far each network sees."""

import pytest
import torch
from network_cases import small
from torch import nn

from livestain.networks import build_network
from livestain.networks.reach import Step, halo, interval, shrink, stretch


def parameters(name, **kwargs):
    with torch.device("meta"):
        return sum(p.numel() for p in build_network(name, **kwargs).parameters())


@pytest.mark.parametrize(
    ("name", "kwargs", "count"),
    [
        ("fnet3d", {}, 23_280_769),  # counted in the authors' network
        ("fnet2d", {}, 8.1e6),
        ("hsu_unet", {"depth": 4}, 23_280_769),  # without its deeper level it is fnet
        ("gvtnet3d", {}, 6.17e6),
        ("pix2pix_unet256", {}, 54.41e6),
        ("patchgan70", {"in_channels": 2}, 2.76e6),
        # The counts of pix2pix's own code for colour images.
        ("pix2pix_unet256", {"in_channels": 3, "out_channels": 3}, 54.414e6),
        ("patchgan70", {"in_channels": 6}, 2.769e6),
        ("care2d", {}, 0.92e6),
        ("care3d", {}, 1.0e6),
        ("resnet9", {}, 11.4e6),
    ],
)
def test_number_of_parameters_is_the_published_one(name, kwargs, count):
    got = parameters(name, **kwargs)
    if isinstance(count, int):
        assert got == count
    else:  # rounded as the figure above is
        digits = len(str(count).replace(".", "").rstrip("0"))
        assert float(f"{got:.{digits - 1}e}") == count


def test_the_student_is_slim():
    assert 1e6 < parameters("slim2d") < 2e6
    assert 1e6 < parameters("slim2d", in_channels=5, unshuffle=4) < 2e6


class _Halve(nn.Module):
    """Average each square or cube, as the max-pooling that it replaces picks from it."""

    def __init__(self, pool, dims):
        super().__init__()
        self.body = (nn.AvgPool2d if dims == 2 else nn.AvgPool3d)(pool.kernel_size)

    def forward(self, x):
        return self.body(x)


def linearised(network):
    """Let every dependence through: no unit is dead, no maximum hides others, no weights cancel."""
    network = network.double().eval()
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.ReLU | nn.ReLU6 | nn.LeakyReLU | nn.GELU):
                setattr(parent, name, nn.Identity())
            elif isinstance(child, nn.MaxPool2d | nn.MaxPool3d):
                setattr(parent, name, _Halve(child, network.dims))
    for module in network.modules():
        if isinstance(module, nn.modules.conv._ConvNd):
            nn.init.uniform_(module.weight, 0.5, 1.0)
    return network


def reaches(network, axis, length, period):
    """Per place on the grid: how many pixels before and after it an output pixel sees on an axis."""
    sides = [network.divisor] * 2
    if network.dims == 3:
        sides.insert(0, network.divisor_z)
    sides[axis] = length
    x = torch.randn(1, 1, *sides, dtype=torch.float64, requires_grad=True)
    y = network(x)
    centre = length // 2 // period * period
    others = [0, 1] + [dim for dim in range(2, x.ndim) if dim != 2 + axis]
    found = []
    for place in range(centre, centre + period):
        pixel = y.select(2 + axis, place).flatten()[0]
        (gradient,) = torch.autograd.grad(pixel, x, retain_graph=True)
        seen = gradient.abs().sum(dim=others).nonzero().ravel()
        found.append((place - int(seen.min()), int(seen.max()) - place))
    return found


SEEN = [
    ("care2d", {"width": 1}),
    ("care2d", {"width": 1, "kernel": 3, "depth": 3}),
    ("care3d", {"width": 1, "depth": 1}),
    ("fnet2d", {"width": 1}),
    ("fnet3d", {"width": 1, "depth": 1}),
    ("hsu_unet", {"width": 1, "depth": 2, "convolutions": 1}),
    ("pix2pix_unet256", {"width": 1, "depth": 2}),
    ("pix2pix_unet256", {"width": 1, "depth": 4}),
    ("slim2d", {"width": 1, "depth": 1, "unshuffle": 2}),
    ("slim2d", {"width": 1, "depth": 2, "unshuffle": 4, "blocks": 2}),
    ("unet3d", {"width": 1, "depth": 3, "depth_z": 1}),
    ("unext2", {"width": 8, "depths": (2, 1), "decoder_blocks": 1, "response_norm": False}),
]


@pytest.mark.parametrize(("name", "kwargs"), SEEN)
def test_halo_is_exactly_how_far_a_pixel_sees(name, kwargs):
    network = linearised(small(name, **kwargs))
    grid = network.divisor
    length = ((2 * network.halo + 3 * grid) // grid + 1) * grid
    axis = network.dims - 2  # y
    assert max(max(each) for each in reaches(network, axis, length, grid)) == network.halo


@pytest.mark.parametrize(("name", "kwargs"), [each for each in SEEN if "3d" in each[0]])
def test_halo_in_z_is_exactly_how_far_a_voxel_sees(name, kwargs):
    network = linearised(small(name, **kwargs))
    grid = network.divisor_z
    length = ((2 * network.halo_z + 3 * grid) // grid + 1) * grid
    assert max(max(each) for each in reaches(network, 0, length, grid)) == network.halo_z


@pytest.mark.parametrize("name", ["gvtnet2d", "gvtnet3d", "resnet9", "unext2"])
def test_a_network_without_halo_sees_the_whole_frame(name):
    network = small(name).eval()
    assert network.halo is None
    side = 16 * network.divisor
    sides = (side, side) if network.dims == 2 else (network.divisor_z, side, side)
    x = torch.randn(1, 1, *sides, requires_grad=True)
    (gradient,) = torch.autograd.grad(network(x)[..., 0, 0].sum(), x)
    assert gradient[..., -network.divisor :, -network.divisor :].any()


def test_fnet2d_sees_at_least_the_188_px_that_its_authors_state():
    network = linearised(small("fnet2d", width=1, depth=4))
    seen = [before + 1 + after for before, after in reaches(network, 0, 256, 16)]
    assert min(seen) == 188


def test_patchgan_judges_patches_of_70_px_and_gives_30_by_30_logits():
    network = linearised(build_network("patchgan70", in_channels=1, width=1))
    x = torch.zeros(1, 1, 256, 256, dtype=torch.float64, requires_grad=True)
    logits = network(x)
    assert logits.shape == (1, 1, 30, 30)
    (gradient,) = torch.autograd.grad(logits[0, 0, 15, 12], x)
    assert gradient[0, 0].any(dim=1).sum() == 70
    assert gradient[0, 0].any(dim=0).sum() == 70


def test_reach_of_layers_worked_by_hand():
    # A 4-px convolution of stride 2 and padding 1: output 0 sees inputs -1 to 2, output 1 sees 1 to 4.
    assert interval([Step(4, 2, padding=1)], 1) == (1, 4)
    # Its transpose: output 0 gets input 0 (tap 1) and input -1 (tap 3); output 1 inputs 0 and 1.
    up = Step(4, 2, padding=1, transposed=True)
    assert interval([up], 0) == (-1, 0)
    assert interval([up], 1) == (0, 1)
    # Pooling and upsampling by 2 alone: a pixel sees its own pair.
    assert halo([shrink(2), stretch(2)]) == 1
    assert halo([Step(3, padding=1)] * 3) == 3
