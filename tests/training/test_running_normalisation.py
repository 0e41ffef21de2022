"""Training with other statistics than a plane's own: running ones, and percentiles of several planes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import recording_cases as cases
from livestain.bundle.normalisation import Normalise
from livestain.errors import DataError, SettingsError
from livestain.training.export import describe
from livestain.training.find import find_pairs
from livestain.training.module import build_from_recipe, stain_module
from livestain.training.pairs import PairSpec
from livestain.training.sampling import Crops, WholePairs

PAST = {"window": {"past": 2}, "normalisation": {"kind": "running"}}


def pairs_of(data, recipe):
    return find_pairs(data, PairSpec.of_recipe(recipe))


def movie(path, shape=(5, 3, 2, 40, 48)):
    """Planes (t, c, z, y, x) whose level drifts, as a lamp's or a bleaching dye's does."""
    pixels = cases.volume(shape=shape) // np.arange(1, shape[0] + 1, dtype=np.uint16).reshape(
        -1, 1, 1, 1, 1
    )
    cases.write_zarr(path, pixels)
    return pixels


def place_in(whole, crop):
    """Return the number of places of a plane at which a crop of it lies."""
    side = crop.shape[-1]
    windows = whole.unfold(0, side, 1).unfold(1, side, 1)
    return int(torch.isclose(windows, crop, atol=1e-4).flatten(2).all(dim=2).sum())


@pytest.mark.parametrize("sees_past", [0, 1])
def test_crops_have_statistics_of_the_movies_earlier_planes(tmp_path, recipe_of, sees_past):
    pixels = movie(tmp_path / "a.zarr")
    recipe = recipe_of(
        window={"past": 2}, normalisation={"kind": "running", "sees_past": sees_past}, crop=32
    )
    crops = Crops(pairs_of(tmp_path, recipe), recipe)
    assert recipe.network_spec().kwargs["in_channels"] == 1 + sees_past
    for n in range(6):
        pair, _ = crops.choose(n)
        times = [max(pair.t - k, 0) for k in (2, 1, 0)]
        planes = pixels[times, 0, pair.z].astype(np.float64)
        mean, std = planes.mean((1, 2)).mean(), planes.std((1, 2)).mean()
        source = crops[n]["source"]
        assert source.shape == (1 + sees_past, 32, 32)
        for plane, t in zip(source, times[2 - sees_past :], strict=True):
            whole = ((pixels[t, 0, pair.z] - mean) / std).clip(-10, 10)
            assert place_in(torch.from_numpy(whole).float(), plane) == 1


def test_whole_pairs_are_predicted_as_live(tmp_path, recipe_of):
    """The module is given the planes of the window as they were recorded, those for the statistics too."""
    pixels = movie(tmp_path / "a.zarr")
    recipe = recipe_of(**PAST)
    module = stain_module(recipe, build_from_recipe(recipe))
    items = WholePairs(pairs_of(tmp_path, recipe), recipe)
    for item in range(len(items)):
        pair, whole = items.pair(item), items[item]
        times = [max(pair.t - k, 0) for k in (2, 1, 0)]
        np.testing.assert_array_equal(whole["counts"].numpy(), pixels[times, 0, pair.z])
        with torch.inference_mode():
            assert module(whole["counts"][None]).shape == (1, 1, 40, 48)


@pytest.mark.parametrize("scope", ["plane", "window"])
@pytest.mark.parametrize("window", [{"z": 3}, {"z": "all"}], ids=["2-D", "3-D"])
def test_crops_have_percentiles_of_whole_planes(tmp_path, recipe_of, scope, window):
    pixels = movie(tmp_path / "a.zarr", (1, 3, 4, 130, 144))
    how = {"window": window, "z_step_um": 0.5}
    how["normalisation"] = {"statistic": "percentile", "scope": scope}
    if window["z"] == "all":
        how |= {"network": {"name": "unet3d", "kwargs": {"width": 2, "depth": 1}}, "crop_depth": 4}
    recipe = recipe_of(**how)
    crops = Crops(pairs_of(tmp_path, recipe), recipe)
    for n in range(3):
        pair, _ = crops.choose(n)
        around = [min(max(z, 0), 3) for z in (pair.z - 1, pair.z, pair.z + 1)]
        planes = pixels[0, 0] if window["z"] == "all" else pixels[0, 0][around]
        whole = Normalise(recipe.normalisation)(torch.from_numpy(planes[None]))[0]
        sample = crops[n]["source"].reshape(len(planes), 32, 32)
        for plane, expected in zip(sample, whole, strict=True):
            assert place_in(expected, plane) == 1


def test_images_without_order_are_refused(data, recipe_of):
    with pytest.raises(DataError, match=r"needs time series.*does not say what came when"):
        pairs_of(data, recipe_of(**PAST))


def test_a_single_time_point_is_refused(tmp_path, recipe_of):
    movie(tmp_path / "a.zarr", (1, 3, 2, 40, 48))
    with pytest.raises(DataError, match=r"needs time series.*single time point"):
        pairs_of(tmp_path, recipe_of(**PAST))


def test_one_position_of_a_single_time_point_among_movies_is_named(tmp_path, recipe_of):
    """Its statistics would be those of itself alone, which is another normalisation."""
    images = [cases.volume(shape=(n_t, 3, 2, 40, 48)) for n_t in (5, 1)]
    cases.write_bioformats2raw(tmp_path / "a.zarr", images, "0.5")
    with pytest.raises(DataError, match=r"has a single time point at '1'"):
        pairs_of(tmp_path, recipe_of(**PAST))


@pytest.mark.parametrize(
    "changes",
    [
        {"window": {}},
        {"window": {"future": 2}},
        {"normalisation": {"kind": "running", "sees_past": 3}},
    ],
)
def test_a_window_without_earlier_time_points_is_refused(recipe_of, changes):
    with pytest.raises(SettingsError, match="'running' averages over the window's time points"):
        recipe_of(**(PAST | changes))


def test_a_3d_network_is_refused(recipe_of):
    recipe = recipe_of(
        **PAST, network={"name": "unet3d", "kwargs": {"width": 2, "depth": 1}}, depth_axis="t"
    )
    with pytest.raises(SettingsError, match="'running' is for 2-D networks"):
        build_from_recipe(recipe)


def test_the_bundle_reads_what_the_recipe_read(recipe_of):
    recipe = recipe_of(**PAST)
    description = describe(recipe)
    assert description.input.window.n_planes == 3
    assert description.network.kwargs["in_channels"] == 1
    assert description.normalisation == recipe.normalisation
