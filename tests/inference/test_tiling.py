"""Tiles give what whole planes give: for every network that can be cut, window, normalisation and border."""

import itertools
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from livestain.bundle import NormalisationSettings, StainModule
from livestain.inference import Stainer
from livestain.inference.memory import in_brief, is_out_of_memory
from livestain.inference.padded import stain_padded
from livestain.inference.tiling import core_sizes, predict_tiled, tiles
from livestain.networks import build_network, network_names

FAITHFUL = 1e-5  # relative RMS; the bundles' own tolerance is 0.02


def relative_rms(found, wanted):
    return float(np.sqrt(np.mean((found - wanted) ** 2)) / wanted.std())


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 12), st.integers(1, 12), st.integers(1, 5), st.integers(1, 5), st.integers(0, 30)
)
def test_cores_fill_the_plane_once_and_margins_hold_the_halo(rows, columns, high, wide, halo):
    divisor = 4
    shape = rows * divisor, columns * divisor
    filled = np.zeros(shape, int)
    for tile in tiles(shape, (high * divisor, wide * divisor), divisor=divisor, halo=halo):
        filled[tile.core] += 1
        for side, seen, core, kept in zip(shape, tile.seen, tile.core, tile.kept, strict=True):
            assert seen.start % divisor == 0, "or the network's pooling would lie elsewhere"
            assert seen.stop % divisor == 0
            assert seen.start == 0 or core.start - seen.start >= halo
            assert seen.stop == side or seen.stop - core.stop >= halo
            assert (seen.start + kept.start, seen.start + kept.stop) == (core.start, core.stop)
    assert (filled == 1).all()


def test_each_step_takes_clearly_less_memory_and_the_margins_end_them():
    sizes = core_sizes((2048, 1024), divisor=8, halo=51)
    assert sizes[:4] == ((2048, 1024), (1024, 1024), (512, 1024), (512, 512))
    most = [
        max(tile.pixels for tile in tiles((2048, 1024), core, divisor=8, halo=51)) for core in sizes
    ]
    assert all(after <= 0.8 * before for before, after in itertools.pairwise(most))
    assert most[-1] < 0.03 * most[0]
    assert core_sizes((2048, 2048), divisor=8, halo=None) == ((2048, 2048),)
    assert core_sizes((256, 256), divisor=8, halo=160) == ((256, 256),), "nothing would be saved"


CUT = [
    ("care2d", {"width": 4}),
    ("fnet2d", {"width": 4, "depth": 2}),
    ("pix2pix_unet256", {"width": 4, "depth": 3}),
    ("slim2d", {"width": 8, "depth": 1}),
    ("slim2d", {"width": 8, "depth": 1, "unshuffle": 4}),
    ("unet2d", {"width": 4, "depth": 2}),
    (
        "unext2",
        {
            "width": 12,
            "depths": (1, 1),
            "decoder_blocks": 1,
            "head_width": 2,
            "response_norm": False,
        },
    ),
    ("care3d", {"width": 4, "depth": 1}),
    ("fnet3d", {"width": 4, "depth": 1}),
    ("hsu_unet", {"width": 2, "depth": 2, "convolutions": 1}),
    ("unet3d", {"width": 4, "depth": 2, "depth_z": 1}),
]
WHOLE = {"gvtnet2d", "gvtnet3d", "resnet9"}
"""Networks that see the whole plane, however they are built."""


def test_every_network_is_tried_for_seams_or_sees_the_whole_plane():
    assert {name for name, _ in CUT} | WHOLE == set(network_names())
    assert all(build_network(name).halo is None for name in WHOLE)


@pytest.mark.parametrize(("name", "kwargs"), CUT)
def test_no_seam_shows_with_any_network_that_can_be_cut(name, kwargs):
    torch.manual_seed(0)
    network = build_network(name, **kwargs)
    sides = [2 * network.divisor_z] if network.dims == 3 else []
    grid, halo = network.divisor, network.halo
    core = -(-24 // grid) * grid
    sides += [3 * core + grid, 2 * core]
    with torch.inference_mode():
        network(torch.randn(2, 1, *(min(side, 2 * core) for side in sides)))  # settles the norms
        network.eval()
        x = torch.randn(1, 1, *sides)
        wanted = network(x).numpy()
        found = predict_tiled(network, x, (core, core), divisor=grid, halo=halo).numpy()
        cut = predict_tiled(network, x, (core, core), divisor=grid, halo=0).numpy()
    assert relative_rms(found, wanted) < FAITHFUL
    assert relative_rms(cut, wanted) > 30 * FAITHFUL, "without a margin seams do show"


GRIDS = {
    4: ("unet2d", {"width": 2, "depth": 2}),
    16: ("unet2d", {"width": 2, "depth": 4}),
    32: ("slim2d", {"width": 4, "depth": 3, "unshuffle": 4}),
}


@pytest.fixture(scope="module")
def modules():
    torch.manual_seed(0)
    built = {grid: build_network(name, **kwargs).eval() for grid, (name, kwargs) in GRIDS.items()}
    assert all(network.divisor == grid for grid, network in built.items())
    return {grid: StainModule(network) for grid, network in built.items()}


@pytest.mark.parametrize("grid", GRIDS)
@settings(max_examples=25, deadline=None)
@given(st.integers(1, 130), st.integers(1, 130), st.integers(1, 3))
def test_sides_that_are_not_on_the_grid_are_reflected_and_cut_off(modules, grid, height, width, n):
    """Whole and in tiles; where one reflection is enough numpy's is the reference."""
    counts = torch.from_numpy(
        np.random.default_rng(height * 131 + width).integers(
            0, 4000, (n, 1, height, width), np.uint16
        )
    )
    module = modules[grid]
    with torch.inference_mode():
        found = stain_padded(module, counts)
        tiled = stain_padded(
            module,
            counts,
            lambda x: predict_tiled(
                module.network, x, (2 * grid, grid), divisor=grid, halo=module.halo
            ),
        )
        assert found.shape == (n, 1, height, width)
        assert torch.isfinite(found).all()
        torch.testing.assert_close(tiled, found, rtol=1e-4, atol=1e-5)
        down, right = -height % grid, -width % grid
        if down < height and right < width:
            normalised = module.normalise(counts).numpy()
            padded = np.pad(normalised, ((0, 0), (0, 0), (0, down), (0, right)), mode="reflect")
            wanted = module.network(torch.from_numpy(padded))[..., :height, :width]
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


WINDOWS = {
    "plane": {},
    "resampled": {},
    "z-window": {"z": 3},
    "z and t": {"z": 3, "past": 1},
    "two sources": {"more_kinds": ("phase",)},
    "time as depth": {"network": "care3d", "past": 2, "depth": 1},
    "whole stack": {"network": "care3d", "z": "all", "depth": 1},
}


@pytest.mark.parametrize("window", WINDOWS)
def test_a_stainer_in_tiles_predicts_what_it_predicts_whole(bundle_of, window):
    """Sides off the grid, bright on one side: statistics and padding must be the whole plane's."""
    bundle = bundle_of(**WINDOWS[window])
    given = {"device": "cpu", "pixel_size_um": 0.115 if window == "resampled" else 0.1}
    with Stainer(bundle, **given) as whole, Stainer(bundle, tile_step=2, **given) as tiled:
        spec = whole.bundle.description.input
        n = len(spec.kinds) * (5 if spec.window.whole_stack else spec.window.n_planes)
        planes = np.random.default_rng(1).integers(0, 4000, (n, 141, 190), np.uint16)
        planes[:, :, 120:] += 20000
        wanted, found = whole.stain(planes), tiled.stain(planes)
        assert whole.tile is None
        assert tiled.tile is not None
        assert tiled.tile[0] < 141
        assert tiled.tile[1] < 190
    assert relative_rms(found, wanted) < FAITHFUL


@pytest.mark.parametrize(
    "given", [{}, {"scope": "window"}, {"kind": "frozen", "mean": 2000.0, "std": 900.0}]
)
def test_statistics_are_those_of_the_whole_plane(given):
    torch.manual_seed(0)
    network = build_network("unet2d", in_channels=3, width=4, depth=1).eval()
    module = StainModule(network, NormalisationSettings(**given))
    counts = torch.randint(0, 4000, (1, 3, 61, 77)).float()
    counts[..., 50:] *= 5
    with torch.inference_mode():
        wanted = stain_padded(module, counts)
        found = stain_padded(
            module,
            counts,
            lambda x: predict_tiled(
                network, x, (16, 16), divisor=network.divisor, halo=network.halo
            ),
        )
        parts = torch.cat([module(part) for part in counts[..., :60, :76].split(38, -1)], -1)
    assert relative_rms(found.numpy(), wanted.numpy()) < FAITHFUL
    if given.get("kind") != "frozen":
        inner = wanted[..., 8:50, 8:30]
        assert relative_rms(parts[..., 8:50, 8:30].numpy(), inner.numpy()) > 0.01, (
            "tiles' own would differ"
        )


@pytest.mark.parametrize(
    ("error", "brief"),
    [
        (MemoryError("Unable to allocate 3.2 GiB"), "Unable to allocate 3.2 GiB"),
        (MemoryError(), "MemoryError"),
        (
            torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total"
            ),
            "2.00 GiB more",
        ),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate "
                "memory: you tried to allocate 113246208 bytes. Error code 12 (Cannot allocate memory)"
            ),
            "113 MB more",
        ),
        (
            RuntimeError(
                "DefaultCPUAllocator: not enough memory: you tried to allocate 8000000 bytes."
            ),
            "8 MB more",
        ),
        (RuntimeError("could not create a primitive"), "could not create a primitive"),
        (
            RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
            "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        ),
    ],
)
def test_memory_that_is_exhausted_is_known_by_its_errors(error, brief):
    assert is_out_of_memory(error)
    assert in_brief(error) == brief


@pytest.mark.parametrize(
    "error",
    [RuntimeError("size mismatch"), ValueError("out of memory"), OSError("not enough memory")],
)
def test_other_errors_are_not(error):
    assert not is_out_of_memory(error)


def test_a_reason_is_short():
    assert len(in_brief(RuntimeError("out of memory " * 50))) == 100
    assert not re.search(r"\s\s|\n", in_brief(RuntimeError("out of\n  memory")))
