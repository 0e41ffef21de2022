"""Order and crops: the same seed gives the same, whatever loads it; crops are normalised as whole planes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.filters import threshold_otsu
from torch.utils.data import DataLoader
from training_cases import make_movie, write_image

import recording_cases as cases
from livestain.bundle.module import StainModule
from livestain.bundle.normalisation import Normalise
from livestain.training.find import find_pairs
from livestain.training.pairs import PairSpec
from livestain.training.sampling import Crops, WholePairs


def crops_of(data, recipe, movies=None):
    return Crops(find_pairs(data, PairSpec.of_recipe(recipe)).select(movies), recipe)


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def where(small, large):
    """Return how often an image (y, x) occurs in another."""
    windows = large.unfold(0, small.shape[0], 1).unfold(1, small.shape[1], 1)
    return int(torch.isclose(windows, small, atol=1e-4).all(dim=(2, 3)).sum())


def target_of(recipe_of, channel="mitochondria", **changes):
    target = recipe_of().targets[0].model_dump() | {"channel": channel} | changes
    target["output"] = {**target["output"], "name": channel}
    return target


# -- order ------------------------------------------------------------------------------------------


def test_samples_are_a_function_of_seed_and_number(data, recipe_of):
    one, two = (crops_of(data, recipe_of()) for _ in range(2))
    for n in (5, 3, 11):
        assert same(one[n], two[n])
    other = crops_of(data, recipe_of(seed=1))
    assert any(one.choose(n)[0] != other.choose(n)[0] for n in range(8))


def test_loader_processes_change_nothing(tmp_path, recipe_of):
    make_movie(tmp_path, "pngs", n=2)
    cases.write_ome_tiff(tmp_path / "tiff.ome.tif", cases.volume(shape=(2, 3, 1, 64, 64)))
    cases.write_zarr(tmp_path / "foreign.zarr", cases.volume(shape=(2, 3, 1, 64, 64)))
    crops = crops_of(tmp_path, recipe_of())
    with crops._pairs:
        compare_with_helpers(crops)


def compare_with_helpers(crops):
    alone = [crops[n] for n in range(8)]  # and so its files are open when it is sent
    helped = DataLoader(
        crops, batch_size=2, sampler=range(8), num_workers=2, multiprocessing_context="spawn"
    )
    for number, batch in enumerate(helped):
        for key in ("source", "target", "mask"):
            expected = torch.stack([alone[n][key] for n in (2 * number, 2 * number + 1)])
            assert torch.equal(batch[key], expected)


def test_a_movie_left_out_is_never_drawn(data, recipe_of):
    crops = crops_of(data, recipe_of(), movies=["a", "c"])
    assert {crops.choose(n)[0].movie for n in range(200)} == {"a", "c"}


def test_balance(data, recipe_of):
    make_movie(data, "d", n=12, seed=4)
    drawn = {}
    for balance in ("movie", "pair"):
        crops = crops_of(data, recipe_of(balance=balance))
        drawn[balance] = sum(crops.choose(n)[0].movie == "d" for n in range(400))
    assert drawn["movie"] == pytest.approx(100, abs=30)
    assert drawn["pair"] == pytest.approx(200, abs=40)


# -- crops ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["frame", "frozen"])
@pytest.mark.parametrize("scope", ["plane", "window"])
def test_crops_are_parts_of_normalised_whole_planes(tmp_path, recipe_of, kind, scope):
    """The oracle is the module that runs live, given whole planes; and numpy for the target."""
    pixels = cases.volume(shape=(1, 3, 4, 40, 48))
    cases.write_zarr(tmp_path / "a.zarr", pixels)
    settings = {"kind": kind, "scope": scope}
    if kind == "frozen":
        settings |= {"mean": 30000.0, "std": 9000.0}
    recipe = recipe_of(
        sources=[{"channel": "brightfield"}, {"channel": "nuclei"}],
        window={"z": 3},
        z_step_um=0.5,
        normalisation=settings,
    )
    crops = crops_of(tmp_path, recipe)
    for n in range(4):
        pair, _ = crops.choose(n)
        sample = crops[n]
        around = [min(max(z, 0), 3) for z in (pair.z - 1, pair.z, pair.z + 1)]
        counts = np.concatenate([pixels[0, 0][around], pixels[0, 2][around]]).astype(np.float32)
        whole = Normalise(recipe.normalisation, 2)(torch.from_numpy(counts)[None])[0]
        assert sample["source"].shape == (6, 32, 32)
        for plane, expected in zip(sample["source"], whole, strict=True):
            assert where(plane, expected) == 1
        truth = pixels[0, 1, pair.z].astype(np.float64)
        normalised = (truth - truth.mean()) / truth.std()
        assert where(sample["target"][0], torch.from_numpy(normalised).float()) == 1


def test_targets_may_keep_their_counts(data, recipe_of):
    recipe = recipe_of(targets=[target_of(recipe_of, normalisation="none")], crop=64)
    crops = crops_of(data, recipe, ["a"])
    pair, _ = crops.choose(0)
    counts = crops._pairs.read(pair).target[0].astype(np.float32)
    np.testing.assert_array_equal(crops[0]["target"].numpy(), counts)


def test_missing_targets_are_masked(data, recipe_of):
    """Nuclei are there for one image alone; what is not there is zeros, and the mask says so."""
    nuclei = np.random.default_rng(0).integers(0, 99, (64, 64), np.uint8)
    write_image(data / "movie-a" / "nuclei" / "t001_z000_1.png", nuclei)
    targets = [target_of(recipe_of), target_of(recipe_of, "nuclei", required=False)]
    crops = crops_of(data, recipe_of(targets=targets))
    seen = set()
    for n in range(60):
        pair, _ = crops.choose(n)
        sample = crops[n]
        there = (pair.movie, pair.name) == ("a", "t001_z000_1")
        seen.add(there)
        assert sample["mask"].tolist() == [1.0, float(there)]
        assert bool(sample["target"][1].any()) == there
    assert seen == {True, False}


def test_a_pair_without_any_target_is_left_out(data, recipe_of):
    recipe = recipe_of(targets=[target_of(recipe_of, required=False)])
    for path in sorted((data / "movie-a" / "mitochondria").iterdir())[1:]:
        path.unlink()
    with find_pairs(data, PairSpec.of_recipe(recipe)) as found:
        assert [len(movie.pairs) for movie in found.movies] == [1, 4, 4]


def test_foreground_is_kept_where_it_can_be(tmp_path, recipe_of):
    """Of a plane whose left eighth is bright, crops at random mostly hold none of it."""
    source = np.random.default_rng(0).integers(0, 255, (64, 256), np.uint8)
    target = np.full((64, 256), 10, np.uint8)
    target[:, :32] = 200
    for channel, image in (("brightfield", source), ("mitochondria", target)):
        write_image(tmp_path / "movie-a" / channel / "t0.png", image)
    threshold = threshold_otsu(target)

    def covered(**changes):
        crops = crops_of(
            tmp_path, recipe_of(targets=[target_of(recipe_of, normalisation="none")], **changes)
        )
        return [float((crops[n]["target"] > threshold).float().mean()) for n in range(60)]

    assert np.mean([share < 0.2 for share in covered()]) > 0.8
    kept = covered(foreground=0.2)
    assert np.mean([share >= 0.2 for share in kept]) > 0.8
    assert kept == covered(foreground=0.2)
    assert len(covered(foreground=0.99)) == 60  # in vain: taken as they are


def test_a_teacher_is_cut_like_the_pair(data, recipe_of):
    crops = crops_of(data, recipe_of())

    class Source:
        def read(self, pair):
            return crops._pairs.read(pair).source[0][None].astype(np.float32)

    taught = Crops(crops._pairs, recipe_of(), teacher=Source())[3]
    pair, _ = crops.choose(3)
    counts = torch.from_numpy(crops._pairs.read(pair).source[0].astype(np.float32))
    normalised = Normalise(recipe_of().normalisation).apply(
        taught["teacher"][None],
        counts.mean().reshape(1, 1, 1, 1),
        counts.std(correction=0).reshape(1, 1, 1, 1),
    )[0]
    assert torch.allclose(normalised, taught["source"], atol=1e-4)


# -- pairings ---------------------------------------------------------------------------------------


def noise2noise(recipe_of, target):
    return recipe_of(
        pairing="noise2noise",
        source={"channel": "brightfield"},
        targets=[target_of(recipe_of, target, normalisation="none")],
        normalisation={"kind": "frozen", "mean": 0.0, "std": 1.0, "clip": 1e6},
        crop=40,
    )


def test_noise2noise_swaps_two_takes(tmp_path, recipe_of):
    pixels = cases.volume(shape=(3, 3, 1, 40, 40))
    cases.write_zarr(tmp_path / "a.zarr", pixels)
    crops = crops_of(tmp_path, noise2noise(recipe_of, "mitochondria"))
    roles = set()
    for n in range(20):
        pair, _ = crops.choose(n)
        source, target = (crops[n][key][0].numpy() for key in ("source", "target"))
        order = 0 if np.array_equal(source, pixels[pair.t, 0, 0]) else 1
        roles.add(order)
        np.testing.assert_array_equal(source, pixels[pair.t, order, 0])
        np.testing.assert_array_equal(target, pixels[pair.t, 1 - order, 0])
    assert roles == {0, 1}


def test_noise2noise_of_one_channel_takes_consecutive_time_points(tmp_path, recipe_of):
    pixels = cases.volume(shape=(3, 3, 1, 40, 40))
    cases.write_zarr(tmp_path / "a.zarr", pixels)
    crops = crops_of(tmp_path, noise2noise(recipe_of, "brightfield"))
    assert [pair.t for pair in crops._pairs.pairs] == [0, 1]
    roles = set()
    for n in range(20):
        pair, _ = crops.choose(n)
        source, target = (crops[n][key][0].numpy() for key in ("source", "target"))
        late = int(np.array_equal(source, pixels[pair.t + 1, 0, 0]))
        roles.add(late)
        np.testing.assert_array_equal(source, pixels[pair.t + late, 0, 0])
        np.testing.assert_array_equal(target, pixels[pair.t + 1 - late, 0, 0])
    assert roles == {0, 1}


def test_unpaired_data_is_drawn_independently(tmp_path, recipe_of):
    """A movie with one channel alone will do; and places with both still serve for validation."""
    for name, channels in (("x", ("brightfield",)), ("y", ("mitochondria",))):
        for channel in channels:
            for i in range(3):
                write_image(
                    tmp_path / f"movie-{name}" / channel / f"{i}.png",
                    np.random.default_rng(i).integers(0, 255, (40, 44), np.uint8),
                )
    make_movie(tmp_path, "both", n=1)
    recipe = recipe_of(pairing="unpaired", cycle={})
    crops = crops_of(tmp_path, recipe)
    assert [(p.has_source, p.has_target) for p in crops._pairs.pairs] == (
        [(True, True)] + [(True, False)] * 3 + [(False, True)] * 3
    )
    sample = crops[0]
    assert (sample["source"].shape, sample["target"].shape) == ((1, 32, 32), (1, 32, 32))
    assert sample["mask"].tolist() == [1.0]
    assert len({float(crops[n]["target"].sum()) for n in range(30)}) == 30
    assert [crops.choose(n)[0].movie for n in range(50)].count("y") == 0
    assert len(WholePairs(crops._pairs, recipe)) == 1


# -- whole pairs ------------------------------------------------------------------------------------


def test_whole_pairs_are_counts_and_normalised_targets(data, recipe_of):
    recipe = recipe_of()
    with find_pairs(data, PairSpec.of_recipe(recipe)) as found:
        whole = WholePairs(found, recipe)
        assert len(whole) == 12
        item = whole[5]
        pixels = found.read(found.pairs[5])
        np.testing.assert_array_equal(item["counts"].numpy(), pixels.source[0])
        truth = pixels.target[0].astype(np.float64)
        expected = (truth - truth.mean()) / truth.std()
        np.testing.assert_allclose(item["target"].numpy(), expected, atol=1e-5)
        assert item["mask"].tolist() == [1.0]
        with pytest.raises(IndexError):
            whole[12]


def test_a_crop_of_the_whole_is_what_the_stainer_module_sees(data, recipe_of):
    """Training and validation see the same numbers: the crop, and the whole through StainModule."""
    recipe = recipe_of(crop=64)
    crops = crops_of(data, recipe)
    module = StainModule(torch.nn.Identity(), recipe.normalisation)
    whole = WholePairs(crops._pairs, recipe)
    pair, _ = crops.choose(0)
    item = whole[crops._pairs.pairs.index(pair)]
    assert torch.allclose(crops[0]["source"], module(item["counts"][None])[0], atol=1e-5)
    assert torch.allclose(crops[0]["target"], item["target"], atol=1e-6)
