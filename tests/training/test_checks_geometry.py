"""Affine maps between channels, and displacement in z."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tifffile
from scipy.ndimage import affine_transform, gaussian_filter
from training_cases import write_image

from livestain.simulate import Dish
from livestain.training import find_pairs
from livestain.training.checks import Correction, run_checks
from livestain.training.checks.affine import LocalShift, fit_affine
from livestain.training.checks.looking import correction_of
from livestain.training.checks.registration import Registrar, Registration
from livestain.training.pairs import PairSpec

TURN = math.radians(0.8)
STRETCH = np.array(
    [[math.cos(TURN), math.sin(TURN)], [-math.sin(TURN), math.cos(TURN)]]
) * 1.01 - np.eye(2)
"""A magnification of 1.01, and a turn."""


def test_an_affine_map_is_fitted_though_a_part_is_wrong():
    places = [(y, x) for y in (-90.0, 0.0, 90.0) for x in (-90.0, 0.0, 90.0)]
    parts = [
        LocalShift(y, x, *(np.array([2.0, -3.0]) + STRETCH @ (y, x)), z=8.0) for y, x in places
    ]
    parts[4] = parts[4]._replace(dy=9.0)
    found = fit_affine(parts, (256, 256))
    assert found.shift == pytest.approx((2, -3), abs=0.3)
    assert np.array(found.stretch) == pytest.approx(STRETCH, abs=1e-4)
    assert found.scale == pytest.approx(1.01 * math.cos(TURN), abs=1e-4)
    assert abs(found.rotation_deg) == pytest.approx(0.8, abs=0.02)
    assert found.shear < 1e-3
    assert fit_affine(parts[:3], (256, 256)) is None
    assert fit_affine([part._replace(y=0.0) for part in parts], (256, 256)) is None


def test_a_turned_channel_is_found_and_turned_back(tmp_path, recipe_of):
    rng = np.random.default_rng(0)
    side, wide = 192, 224
    centre = np.array([(wide - 1) / 2] * 2)
    trues = []
    for i in range(5):
        cell = gaussian_filter(rng.standard_normal((wide, wide)), 2)
        cell = np.maximum(cell / cell.std(), 0) * 1000 + 100
        # Recorded (c + shift + (1 + S) (x - c)) shows what the source shows at x.
        back = np.linalg.inv(np.eye(2) + STRETCH)
        turned = affine_transform(cell, back, centre - back @ (centre + np.array([2, -3])), order=3)
        inner = np.s_[16 : 16 + side, 16 : 16 + side]
        trues.append(cell[inner])
        for channel, plane in (("brightfield", 3000 - cell), ("mitochondria", turned)):
            counts = plane[inner] + rng.normal(0, 10, (side, side))
            path = tmp_path / "movie-a" / channel / f"t{i:03d}.tif"
            write_image(path, counts.clip(0).astype(np.uint16))
    recipe = recipe_of(crop=128, checks={"registration": "affine"})
    report = run_checks(find_pairs(tmp_path, PairSpec.of_recipe(recipe)), recipe)
    (correction,) = report.corrections["a"]
    assert (correction.dy, correction.dx) == pytest.approx((2, -3), abs=0.2)
    assert np.array(correction.stretch) == pytest.approx(STRETCH, abs=2e-3)
    pair = report.pairs.pairs[0]
    data = report.pairs.read(pair)
    margins = correction.margins((side, side))
    true = trues[0][margins.top : side - margins.bottom, margins.left : side - margins.right]
    assert data.target.shape[2:] == true.shape == data.source.shape[2:]
    assert np.corrcoef(data.target.ravel(), true.ravel())[0, 1] > 0.98
    part = report.pairs.read(pair, part=(slice(20, 90), slice(31, 60)), only="target").target
    np.testing.assert_allclose(part, data.target[..., 20:90, 31:60], atol=0.5)


def test_margins_are_where_the_target_has_no_pixels():
    plane = np.arange(100, dtype=float).reshape(10, 10)
    correction = Correction(dy=2.0, dx=-1.0)
    margins = correction.margins((10, 10))
    assert (margins.top, margins.bottom, margins.left, margins.right) == (0, 2, 1, 0)
    np.testing.assert_allclose(correction.apply(plane)[:8, 1:], plane[2:, :9], atol=1e-3)


@pytest.mark.parametrize("dz", [0, 2])
def test_displacement_in_z_is_that_of_the_focus(dz):
    step = 0.5
    heights = np.arange(-3, 3.01, step)
    registrar = Registrar("a", "mitochondria", tiles=1, z_reach=6)
    for seed in (1, 2):
        dish = Dish(seed, shape=(128, 128))
        bright = np.stack([dish.brightfield(0, z, frame=i) for i, z in enumerate(heights)])
        label = np.stack([dish.fluorescence(0, z, frame=i) for i, z in enumerate(heights)])
        own = range(4, 9)
        registrar.add(
            str(seed), str(seed), bright, np.stack([label[k - dz] for k in own]), list(own)
        )
    found = registrar.result()
    assert found.told
    # The dish's brightfield is focused 0.5 um off its fluorescence: one plane.
    offset = Dish(1).optics.brightfield_offset_um / step
    assert found.dz_planes == pytest.approx(dz - offset, abs=0.4)


def test_a_corrected_stack_has_no_target_beyond_its_planes(tmp_path, recipe_of):
    rng = np.random.default_rng(0)
    depth, side = 8, 64
    cells = gaussian_filter(rng.standard_normal((depth + 2, side, side)), (1, 2, 2))
    cells = np.maximum(cells / cells.std(), 0) * 1000 + 100
    folder = tmp_path / "movie-a"
    for channel, stack in (("brightfield", cells[2:]), ("mitochondria", cells[:-2])):
        (folder / channel).mkdir(parents=True)
        noisy = (stack + rng.normal(0, 10, stack.shape)).clip(0).astype(np.uint16)
        tifffile.imwrite(folder / channel / "t000.tif", noisy, metadata={"axes": "ZYX"}, ome=False)
    recipe = recipe_of(
        network={"name": "unet3d", "kwargs": {"width": 4, "depth": 2}},
        window={"z": "all", "depth": depth},
        z_step_um=0.5,
        crop_depth=8,
        checks={"registration": "shift"},
    )
    with find_pairs(tmp_path, PairSpec.of_recipe(recipe)) as found:
        report = run_checks(found, recipe)
        (correction,) = report.corrections["a"]
        assert correction.dz == 2
        pair = report.pairs.pairs[0]
        data = report.pairs.read(pair)
        assert data.present[0].tolist() == [True] * (depth - 2) + [False] * 2
        np.testing.assert_array_equal(report.pairs.present(pair), data.present)
        recorded = report.recorded.read(pair)
        np.testing.assert_array_equal(data.target[0, :-2], recorded.target[0, 2:])
        assert not data.target[0, -2:].any()
        some = report.pairs.read(pair, slice(4, 7))
        np.testing.assert_array_equal(some.target[0, :2], data.target[0, 4:6])
        assert some.present[0].tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("shift_px", "relief_px", "moved"),
    [(1.4, 3.0, False), (1.4, 0.0, True), (0.4, 0.0, False), (2.7, 3.0, True)],
)
def test_what_may_be_light_from_the_side_is_not_corrected(shift_px, relief_px, moved):
    found = Registration(
        "a", "mitochondria", told=True, dy_px=shift_px, dx_px=0.0, relief_px=relief_px
    )
    assert correction_of(found, stretch=False) == Correction(dy=shift_px if moved else 0.0)
