"""Resampling to a stated voxel size, flat fields and dark frames."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, map_coordinates
from training_cases import make_pair, write_image

import recording_cases as cases
from livestain.errors import DataError
from livestain.inference.geometry import resample_depth
from livestain.training.find import find_pairs
from livestain.training.pairs import PairSpec


def smooth(shape, seed=0):
    noise = np.random.default_rng(seed).standard_normal(shape)
    sigma = [0] * (len(shape) - 3) + [2.0, 4.0, 4.0]
    return (1000 + 4e4 * gaussian_filter(noise, sigma)).astype(np.float32)


def at(shape_in, shape_out):
    """Where the centres of the new pixels lie among the old ones."""
    axes = [(np.arange(m) + 0.5) * n / m - 0.5 for n, m in zip(shape_in, shape_out, strict=True)]
    return np.meshgrid(*axes, indexing="ij")


def test_planes_of_another_pixel_size_are_resampled(tmp_path, recipe_of):
    pixels = smooth((1, 3, 1, 40, 60))
    cases.write_zarr(tmp_path / "a.zarr", pixels, um=(0.5, 0.2))
    recipe = recipe_of(resample=True)
    with find_pairs(tmp_path, PairSpec.of_recipe(recipe)) as found:
        data = found.read(found.pairs[0])
    assert data.source.shape == (1, 1, 80, 120)
    assert data.source.dtype == np.float32
    for read, c in ((data.source, 0), (data.target, 1)):
        expected = map_coordinates(
            pixels[0, c, 0], at((40, 60), (80, 120)), order=1, mode="nearest"
        )
        np.testing.assert_allclose(read[0, 0], expected, rtol=1e-4)


def test_what_shrinks_is_averaged(tmp_path, recipe_of):
    """A pattern finer than the new pixels leaves its mean, and no beat."""
    stripes = np.tile(np.array([0, 1000], np.uint16), (1, 3, 1, 96, 48))
    cases.write_zarr(tmp_path / "a.zarr", stripes, um=(0.5, 0.05))
    recipe = recipe_of(resample=True)
    with find_pairs(tmp_path, PairSpec.of_recipe(recipe)) as found:
        plane = found.read(found.pairs[0]).source[0, 0]
    assert plane.shape == (48, 48)
    np.testing.assert_allclose(plane[:, 2:-2], 500, atol=5)


@pytest.mark.parametrize("step", [0.25, 1.0, 0.7])
def test_stacks_are_resampled_along_z_plane_by_plane(tmp_path, recipe_of, step):
    """Any plane by itself is what the resampling of the whole stack gives, live."""
    pixels = smooth((1, 2, 9, 40, 48))
    cases.write_zarr(tmp_path / "a.zarr", pixels, um=(step, 0.1), names=cases.NAMES[:2])
    recipe = recipe_of(
        network={"name": "unet3d", "kwargs": {"width": 2, "depth": 1}},
        window={"z": "all"},
        z_step_um=0.5,
        resample=True,
    )
    with find_pairs(tmp_path, PairSpec.of_recipe(recipe)) as found:
        (pair,) = found.pairs
        assert pair.depth == round(9 * step / 0.5)
        whole = resample_depth(torch.from_numpy(pixels), pair.depth).numpy()
        for k in range(pair.depth):
            data = found.read(pair, slice(k, k + 1))
            # Of thousands of counts, in float32.
            np.testing.assert_allclose(data.source[0, 0], whole[0, 0, k], rtol=1e-5, atol=0.01)
            np.testing.assert_allclose(data.target[0, 0], whole[0, 1, k], rtol=1e-5, atol=0.01)
            assert data.present.all()
    if step > 0.5:  # where it only interpolates, scipy says the same
        along = (np.arange(pair.depth) + 0.5) * 9 / pair.depth - 0.5
        expected = [np.interp(along, np.arange(9), pixels[0, 0, :, y, 7]) for y in range(40)]
        np.testing.assert_allclose(whole[0, 0, :, :, 7].T, expected, rtol=1e-4, atol=0.1)


def test_other_voxels_are_refused_without_resampling(tmp_path, recipe_of):
    cases.write_zarr(tmp_path / "a.zarr", cases.volume(), um=(0.25, 0.2))
    with pytest.raises(DataError, match=r"0\.2 um.*expects 0\.1 um.*resample: true"):
        find_pairs(tmp_path, PairSpec.of_recipe(recipe_of()))
    # A window's planes are channels, which cannot be made up.
    recipe = recipe_of(window={"z": 3}, z_step_um=0.5, resample=True)
    with pytest.raises(DataError, match=r"z-planes 0\.25 um apart.*expects 0\.5 um"):
        find_pairs(tmp_path, PairSpec.of_recipe(recipe))


# -- flat fields ------------------------------------------------------------------------------------


@pytest.fixture
def uneven(tmp_path):
    """A movie under uneven light on a camera with an offset, and the images that tell."""
    source, target = make_pair(0, dtype=np.uint16)
    y, x = np.mgrid[:64, :64] / 64
    light = (0.5 + y + 0.25 * x).astype(np.float32)
    dark = np.full((64, 64), 100, np.uint16)
    write_image(tmp_path / "dark.tif", dark)
    write_image(tmp_path / "flat.tif", 5000 * light + 100)
    write_image(tmp_path / "movie-a" / "brightfield" / "1.tif", (source * light + 100).astype("f4"))
    write_image(tmp_path / "movie-a" / "mitochondria" / "1.tif", target)
    return source, target, light


def test_flat_field_and_dark_frame(tmp_path, uneven, recipe_of):
    source, target, light = uneven
    recipe = recipe_of(source={"flat_field": "flat.tif", "dark_frame": "dark.tif"})
    with find_pairs(tmp_path, PairSpec.of_recipe(recipe)) as found:
        data = found.read(found.pairs[0])
    np.testing.assert_allclose(data.source[0, 0], source * light.mean(), rtol=1e-4)
    np.testing.assert_array_equal(data.target[0, 0], target)
    assert data.source.dtype == np.float32
    recipe = recipe_of(source={"dark_frame": str(tmp_path / "dark.tif")})
    with find_pairs(tmp_path / "movie-a", PairSpec.of_recipe(recipe)) as found:
        data = found.read(found.pairs[0])
    np.testing.assert_allclose(data.source[0, 0], source * light, rtol=1e-3)


def test_flat_fields_that_cannot_be(tmp_path, uneven, recipe_of):
    def refused(**source):
        with find_pairs(tmp_path, PairSpec.of_recipe(recipe_of(source=source))) as found:
            with pytest.raises(DataError) as caught:
                found.read(found.pairs[0])
            return str(caught.value)

    assert "no file" in refused(flat_field="nowhere.tif")
    write_image(tmp_path / "small.tif", np.ones((32, 64), np.uint16))
    assert "32 x 64" in refused(flat_field="small.tif")
    assert "32 x 64" in refused(flat_field="flat.tif", dark_frame="small.tif")
    assert "no brighter" in refused(flat_field="dark.tif", dark_frame="dark.tif")
