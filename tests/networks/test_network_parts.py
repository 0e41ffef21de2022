"""What is peculiar to one architecture: attention, residuals, stems, heads, options."""

import math

import pytest
import torch
from network_cases import planes, small
from torch import nn

from livestain.networks import build_network
from livestain.networks.gvtnet import GlobalVoxelTransformer, linear_attention
from livestain.networks.layers import equal_subpixels


def test_linear_attention_is_the_explicit_sum_over_places():
    torch.manual_seed(0)
    q = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    k, v = torch.randn(2, 2, 3, 4, 7, dtype=torch.float64)
    got = linear_attention(q, k, v)
    for n in range(2):
        for head in range(3):
            for query in range(5):
                expected = torch.zeros(4, dtype=torch.float64)
                for place in range(7):
                    score = float(q[n, head, :, query] @ k[n, head, :, place]) / math.sqrt(4)
                    expected += score * v[n, head, :, place] / 7
                torch.testing.assert_close(got[n, head, :, query], expected)


def test_linear_attention_over_many_places_survives_half_precision():
    torch.manual_seed(0)
    q, k, v = 8 * torch.rand(3, 1, 1, 2, 100_000, dtype=torch.float64)
    exact = linear_attention(q[..., :9], k, v)
    half = linear_attention(q[..., :9].half(), k.half(), v.half())
    torch.testing.assert_close(half.double(), exact, rtol=0.01, atol=0.0)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("kind", "factor"), [("same", 1.0), ("down", 0.5), ("up", 2.0)])
def test_an_operator_keeps_halves_or_doubles_the_sides(dims, kind, factor):
    before, after = (8, 8) if kind == "same" else (8, 4)
    operator = GlobalVoxelTransformer(dims, before, after, kind, heads=2)
    sides = (4, 6, 8)[-dims:]
    y = operator(torch.randn(2, before, *sides))
    assert y.shape == (2, after, *(int(side * factor) for side in sides))


def test_the_operator_is_attention_by_a_full_matrix_of_places():
    torch.manual_seed(0)
    operator = GlobalVoxelTransformer(2, 6, 6, heads=1).double().eval()
    x = torch.randn(1, 6, 3, 5, dtype=torch.float64)
    with torch.no_grad():
        active = (x / math.sqrt(1 + operator.before[0].eps)).clamp(0, 6)

        def project(layer, each):
            weight = layer.weight[:, :, 0, 0]
            return weight @ each.reshape(6, 15) + layer.bias[:, None]

        q, k, v = (project(getattr(operator, part), active) for part in ("query", "key", "value"))
        weights = (q.T @ k) / math.sqrt(6) / 15  # (queries, places)
        expected = x.reshape(6, 15) + project(operator.out, v @ weights.T)
        torch.testing.assert_close(operator(x)[0].reshape(6, 15), expected)


def test_heads_that_do_not_divide_the_maps_are_refused():
    with pytest.raises(ValueError, match="3 heads do not divide 8 feature maps"):
        GlobalVoxelTransformer(2, 8, 8, heads=3)


@pytest.mark.parametrize("where", ["bottom", "down", "up"])
def test_each_operator_of_gvtnet_can_be_had_alone(where):
    options = {"bottom": False, "down": False, "up": False, where: True}
    network = small("gvtnet3d", depth=3, **options).eval()
    operators = [m for m in network.modules() if isinstance(m, GlobalVoxelTransformer)]
    assert len(operators) == (1 if where == "bottom" else 2)
    x = planes(network)
    with torch.inference_mode():
        assert network(x).shape == x.shape


def care_without_body(**kwargs):
    network = build_network("care2d", width=2, **kwargs).eval()
    for parameter in network.head.parameters():
        nn.init.zeros_(parameter)
    return network


@pytest.mark.parametrize(
    ("kwargs", "taken"),
    [
        ({}, [0]),
        ({"residual": []}, [None]),
        ({"out_channels": 2}, [None, None]),
        ({"out_channels": 2, "residual": [0]}, [0, None]),
        ({"in_channels": 3, "residual": [1]}, [1]),
        ({"in_channels": 2, "out_channels": 2}, [0, 1]),
        ({"in_channels": 3, "out_channels": 2, "residual": [2, 0]}, [2, 0]),
    ],
)
def test_care_adds_the_inputs_that_it_is_told_to_its_outputs(kwargs, taken):
    network = care_without_body(**kwargs)
    x = torch.randn(1, kwargs.get("in_channels", 1), 8, 8)
    with torch.inference_mode():
        y = network(x)
    assert y.shape[1] == len(taken)
    for output, source in enumerate(taken):
        assert torch.equal(y[:, output], torch.zeros(1, 8, 8) if source is None else x[:, source])


def test_care_refuses_a_residual_that_cannot_be():
    with pytest.raises(ValueError, match=r"residual is \[1\]; .* at most 1 of .* 0 to 0"):
        build_network("care2d", residual=[1])
    with pytest.raises(ValueError, match=r"residual is \[0, 0\]"):
        build_network("care2d", residual=[0, 0])
    with pytest.raises(ValueError, match="The kernel is 4; it must be odd"):
        build_network("care3d", kernel=4)


def test_pix2pix_trains_on_a_single_crop_of_256_px():
    network = build_network("pix2pix_unet256", width=1).train()
    assert network.divisor == 256
    network(torch.randn(1, 1, 256, 256)).mean().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_pix2pix_drops_only_where_and_when_it_is_told():
    torch.manual_seed(0)
    x = torch.randn(1, 1, 64, 64)
    for dropout, varies in ((0.0, False), (0.5, True)):
        network = build_network("pix2pix_unet256", width=2, depth=5, dropout=dropout)
        drops = [m for m in network.modules() if isinstance(m, nn.Dropout)]
        assert len(drops) == (3 if varies else 0)
        network.eval()
        assert torch.equal(network(x), network(x))
        for drop in drops:
            drop.train()
        assert torch.equal(network(x), network(x)) is not varies
    with pytest.raises(ValueError, match="depth is 1; it must be at least 2"):
        build_network("pix2pix_unet256", depth=1)


@pytest.mark.parametrize("name", ["pix2pix_unet256", "resnet9"])
def test_tanh_is_an_option(name):
    plain, bounded = small(name).eval(), small(name, tanh=True).eval()
    bounded.load_state_dict(plain.state_dict())
    x = 30 * planes(plain)
    with torch.inference_mode():
        torch.testing.assert_close(bounded(x), plain(x).tanh())


def test_unet3d_pools_z_only_in_its_coarsest_levels():
    network = small("unet3d", depth=3, depth_z=0).eval()
    assert (network.divisor, network.divisor_z) == (8, 1)
    with torch.inference_mode():
        assert network(torch.randn(1, 1, 5, 8, 16)).shape == (1, 1, 5, 8, 16)
    with pytest.raises(ValueError, match="depth_z is 4; it must be between 0 and depth, 3"):
        build_network("unet3d", depth=3, depth_z=4)


def test_the_stem_of_unext2_is_a_3d_convolution_over_each_source():
    sources, planes_, together = 2, 6, 3
    network = small("unext2", in_channels=12, planes=planes_, stem_planes=together).eval()
    project = network.stem.project
    x = torch.randn(2, sources * planes_, 16, 8)
    with torch.inference_mode():
        size = (together, 4, 4)
        stack = nn.functional.conv3d(
            x.reshape(2, sources, planes_, 16, 8),
            project.weight.reshape(-1, sources, *size),
            project.bias,
            stride=size,
        )  # (n, maps of a slot, slots, y, x)
        expected = network.stem.norm(stack.transpose(1, 2).reshape(2, 12, 4, 2))
        torch.testing.assert_close(network.stem(x), expected, rtol=1e-4, atol=1e-5)
        assert network(x).shape == (2, 1, 16, 8)
    with pytest.raises(ValueError, match="7 input channels of 7 planes a source, 2 at a time"):
        build_network("unext2", in_channels=7, stem_planes=2)


def test_response_norm_is_the_published_ratio():
    network = small("unext2")
    norm = network.down[0][0].body[4].double()
    nn.init.normal_(norm.gamma)
    nn.init.normal_(norm.beta)
    x = torch.randn(2, 48, 5, 6, dtype=torch.float64)
    with torch.inference_mode():
        strength = torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True)
        share = strength / (strength.mean(dim=1, keepdim=True) + 1e-6)
        expected = norm.gamma * (x * share) + norm.beta + x
        torch.testing.assert_close(norm(x), expected, rtol=1e-5, atol=1e-5)


def test_slim2d_takes_squares_of_2_or_4_px():
    assert (small("slim2d").divisor, small("slim2d", unshuffle=4).divisor) == (4, 8)
    with pytest.raises(ValueError, match="unshuffle is 3; it must be 2 or 4"):
        build_network("slim2d", unshuffle=3)


def test_an_untrained_pixel_shuffle_shows_no_checkerboard():
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 2 * 9, 3, padding=1)
    rough = nn.functional.pixel_shuffle(convolution(torch.randn(1, 3, 4, 4)), 3)
    assert (rough[..., ::3, ::3] != rough[..., 1::3, 2::3]).any()
    calm = nn.functional.pixel_shuffle(equal_subpixels(convolution, 3)(torch.randn(1, 3, 4, 4)), 3)
    # Up to the order of sums.
    torch.testing.assert_close(calm[..., ::3, ::3], calm[..., 1::3, 2::3])
