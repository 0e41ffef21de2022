"""Stacks and time series for 3-D networks: runs without holes, masks, resampling along z."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from training_cases import write_image

import recording_cases as cases
from livestain.bundle.normalisation import Normalise
from livestain.errors import DataError
from livestain.planes import PlaneIndex
from livestain.store import ChannelPlan, PlannedBlock, StorePlan, create_store
from livestain.training.find import find_pairs
from livestain.training.pairs import PairSpec
from livestain.training.sampling import Crops, WholePairs


@pytest.fixture
def stacks_of(recipe_of):
    def make(**changes):
        values = {
            "network": {"name": "unet3d", "kwargs": {"width": 2, "depth": 1}},
            "window": {"z": "all"},
            "z_step_um": 0.5,
            "crop_depth": 4,
        }
        return recipe_of(**(values | changes))

    return make


def pairs_of(data, recipe):
    return find_pairs(data, PairSpec.of_recipe(recipe))


def sparse_store(path, *, n_t=12, n_z=1, targets=(1, 9), missing=()):
    """Brightfield everywhere but at `missing`; mitochondria at some time points."""
    full = (PlannedBlock(t=range(n_t), z=range(n_z)),)
    plan = StorePlan(
        n_t=n_t,
        n_z=n_z,
        height=40,
        width=48,
        pixel_size_um=0.1,
        z_step_um=0.5,
        channels=tuple(
            ChannelPlan(name=name, kind="raw", planned=full)
            for name in ("Brightfield", "Mitochondria")
        ),
    )
    pixels = cases.volume(shape=(n_t, 2, n_z, 40, 48))
    with create_store(path, plan) as store:
        for t, c, z in np.ndindex(n_t, 2, n_z):
            if (c == 1 and t not in targets) or (c == 0 and t in missing):
                continue
            store.write(PlaneIndex(0, t, c, z), pixels[t, c, z]).result(timeout=20)
    return pixels


def test_a_pair_is_a_whole_stack(tmp_path, stacks_of):
    pixels = cases.volume(shape=(2, 3, 6, 40, 48))
    cases.write_zarr(tmp_path / "a.zarr", pixels)
    with pairs_of(tmp_path, stacks_of()) as found:
        assert [(p.name, p.axis, p.depth) for p in found.pairs] == [
            ("t00000", "z", 6),
            ("t00001", "z", 6),
        ]
        whole = found.read(found.pairs[1])
        np.testing.assert_array_equal(whole.source[0], pixels[1, 0])
        np.testing.assert_array_equal(whole.target[0], pixels[1, 1])
        part = found.read(found.pairs[1], slice(2, 5), part=(slice(8, 24), slice(0, 16)))
        np.testing.assert_array_equal(part.source[0], pixels[1, 0, 2:5, 8:24, :16])
        assert part.present.shape == (1, 3)


@pytest.mark.parametrize("scope", ["plane", "window"])
def test_crops_of_stacks_are_parts_of_normalised_stacks(tmp_path, stacks_of, scope):
    pixels = (
        cases.volume(shape=(1, 2, 6, 40, 48)) // np.arange(1, 7, dtype=np.uint16)[:, None, None]
    )
    cases.write_zarr(tmp_path / "a.zarr", pixels, names=cases.NAMES[:2])
    recipe = stacks_of(normalisation={"scope": scope}, crop=32)
    crops = Crops(pairs_of(tmp_path, recipe), recipe)
    counts = torch.from_numpy(pixels[0, 0].astype(np.float32))[None]
    whole = Normalise(recipe.normalisation)(counts)[0]
    truth = pixels[0, 1].astype(np.float64)
    truth = torch.from_numpy((truth - truth.mean()) / truth.std()).float()
    starts = set()
    for n in range(12):
        sample = crops[n]
        assert sample["source"].shape == (1, 4, 32, 32)
        assert sample["mask"].tolist() == [[1.0] * 4]
        for key, expected in (("source", whole), ("target", truth)):
            windows = expected.unfold(0, 4, 1).unfold(1, 32, 1).unfold(2, 32, 1)
            same = torch.isclose(windows, sample[key][0], atol=1e-4).flatten(3).all(dim=3)
            assert int(same.sum()) == 1
            starts.add((key, int(same.nonzero()[0, 0])))
    assert starts == {(key, z) for key in ("source", "target") for z in range(3)}


def test_shallow_stacks_are_padded_by_their_last_plane_which_counts_once(tmp_path, stacks_of):
    cases.write_zarr(tmp_path / "a.zarr", cases.volume(shape=(1, 3, 3, 40, 48)))
    recipe = stacks_of(crop_depth=8)
    sample = Crops(pairs_of(tmp_path, recipe), recipe)[0]
    assert sample["mask"].tolist() == [[1.0] * 3 + [0.0] * 5]
    for key in ("source", "target"):
        assert sample[key].shape == (1, 8, 32, 32)
        assert all(torch.equal(sample[key][:, k], sample[key][:, 2]) for k in range(3, 8))


def test_sparse_time_series(tmp_path, stacks_of):
    """Crops are chosen such that they hold a target; the rest of their planes is masked."""
    pixels = sparse_store(tmp_path / "run.ome.zarr")
    recipe = stacks_of(depth_axis="t", window={"past": 2, "future": 1})
    with pairs_of(tmp_path, recipe) as found:
        (pair,) = found.pairs
        assert (pair.name, pair.axis, pair.depth) == ("z000", "t", 12)
        np.testing.assert_array_equal(found.read(pair).source[0], pixels[:, 0, 0])
        assert np.flatnonzero(found.read(pair).present[0]).tolist() == [1, 9]
        crops = Crops(found, recipe)
        masks = {tuple(crops[n]["mask"][0].tolist()) for n in range(60)}
        assert {sum(mask) for mask in masks} == {1.0}
        assert len(masks) == 4  # each place of the target in the run
        whole = WholePairs(found, recipe)
        assert len(whole) == 2
        first, last = whole[0], whole[1]
        np.testing.assert_array_equal(first["counts"].numpy(), pixels[[0, 0, 1, 2], 0, 0])
        np.testing.assert_array_equal(last["counts"].numpy(), pixels[[7, 8, 9, 10], 0, 0])
        truth = pixels[9, 1, 0].astype(np.float64)
        np.testing.assert_allclose(
            last["target"][0].numpy(), (truth - truth.mean()) / truth.std(), atol=1e-5
        )
        assert last["target"].shape == (1, 40, 48)
        assert last["mask"].tolist() == [1.0]


def test_series_break_at_missing_source_planes(tmp_path, stacks_of):
    sparse_store(tmp_path / "run.ome.zarr", targets=(1, 4, 5, 9), missing=(4, 7))
    recipe = stacks_of(depth_axis="t", window={"past": 1})
    with pairs_of(tmp_path, recipe) as found:
        assert [(p.name, p.t, p.depth) for p in found.pairs] == [
            ("z000_t000-003", 0, 4),
            ("z000_t005-006", 5, 2),
            ("z000_t008-011", 8, 4),
        ]
        # Live, time point 5 could not be predicted: its past is missing.
        assert [WholePairs(found, recipe).pair(i).t for i in range(2)] == [0, 8]
        assert len(WholePairs(found, recipe)) == 2


def test_both_kinds_are_drawn_equally_often(tmp_path, stacks_of):
    cases.write_zarr(tmp_path / "a.zarr", cases.volume(shape=(4, 3, 40, 40, 48))[:, :, :20])
    recipe = stacks_of(depth_axis="both")
    found = pairs_of(tmp_path, recipe)
    assert [p.axis for p in found.pairs].count("z") == 4
    assert [p.axis for p in found.pairs].count("t") == 20
    crops = Crops(found, recipe)
    stacks = sum(crops.choose(n)[0].axis == "z" for n in range(400))
    assert stacks == pytest.approx(200, abs=40)
    assert len(WholePairs(found, recipe)) == 4


def test_noise2noise_of_a_time_series(tmp_path, stacks_of):
    pixels = cases.volume(shape=(6, 3, 1, 40, 48))
    cases.write_zarr(tmp_path / "a.zarr", pixels)
    target = stacks_of().targets[0].model_copy(update={"channel": "brightfield"})
    recipe = stacks_of(
        pairing="noise2noise",
        depth_axis="t",
        window={"past": 1},
        targets=[target.model_dump()],
    )
    with pairs_of(tmp_path, recipe) as found:
        (pair,) = found.pairs
        assert pair.depth == 5
        for swapped, first in ((False, 0), (True, 1)):
            data = found.read(pair, swapped=swapped)
            np.testing.assert_array_equal(data.source[0], pixels[first : first + 5, 0, 0])
            np.testing.assert_array_equal(data.target[0], pixels[1 - first : 6 - first, 0, 0])


def test_single_images_are_no_stacks(tmp_path, stacks_of):
    for channel in ("brightfield", "mitochondria"):
        write_image(tmp_path / "movie-a" / channel / "t0.png", np.zeros((40, 48), np.uint8))
    with pytest.raises(DataError, match=r"stacks or time series.*movie-a do not say"):
        pairs_of(tmp_path, stacks_of())
