"""Order, crops and augmentation: the same seed gives the same, whatever loads it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from livestain.bundle.normalisation import Normalise
from livestain.training.augment import Augment
from livestain.training.find import find_pairs
from livestain.training.pairs import PairSpec
from livestain.training.parts import Augmentation
from livestain.training.sampling import Crops, normalise_pair
from livestain.training.trainer import _Order


def crops_of(data, recipe, movies=None):
    return Crops(find_pairs(data, PairSpec.of_recipe(recipe)).select(movies), recipe)


def test_samples_are_a_function_of_seed_and_number(data, recipe_of):
    one, two = (crops_of(data, recipe_of()) for _ in range(2))
    for n in (5, 3, 11):
        assert all(torch.equal(a, b) for a, b in zip(one[n], two[n], strict=True))
    other = crops_of(data, recipe_of(seed=1))
    assert any(one.choose(n)[0] != other.choose(n)[0] for n in range(8))


def test_loader_processes_change_nothing(data, recipe_of):
    crops = crops_of(data, recipe_of())
    alone, helped = (
        list(DataLoader(crops, batch_size=4, sampler=_Order(0, 8), num_workers=workers))
        for workers in (0, 2)
    )
    for a, b in zip(alone, helped, strict=True):
        assert torch.equal(a[0], b[0])
        assert torch.equal(a[1], b[1])


def test_a_movie_left_out_is_never_drawn(data, recipe_of):
    crops = crops_of(data, recipe_of(), movies=["a", "c"])
    assert {crops.choose(n)[0].movie for n in range(200)} == {"a", "c"}


def test_balance(data, recipe_of):
    from training_cases import make_movie

    make_movie(data, "d", n=12, seed=4)
    drawn = {
        balance: sum(
            crops_of(data, recipe_of(balance=balance)).choose(n)[0].movie == "d" for n in range(400)
        )
        for balance in ("movie", "pair")
    }
    assert drawn["movie"] == pytest.approx(100, abs=30)
    assert drawn["pair"] == pytest.approx(200, abs=40)


def test_whole_planes_are_normalised_and_then_cropped(data, recipe_of):
    recipe = recipe_of(crop=64)
    source, target = crops_of(data, recipe)[0]
    for plane in (source, target):
        assert plane.mean().item() == pytest.approx(0, abs=1e-5)
        assert plane.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    small, _ = crops_of(data, recipe_of())[0]
    windows = source[0].unfold(0, 32, 1).unfold(1, 32, 1)
    assert (windows == small[0]).all(dim=(2, 3)).any()


def test_targets_may_keep_their_counts(recipe_of):
    target = recipe_of().targets[0].model_copy(update={"normalisation": "none"})
    counts = np.arange(64, dtype=np.uint16).reshape(1, 8, 8)
    recipe = recipe_of()
    _, kept = normalise_pair(counts, counts, Normalise(recipe.normalisation), (target,))
    np.testing.assert_array_equal(kept.numpy(), counts)


def batch(n=4, size=32, seed=0):
    torch.manual_seed(seed)
    return torch.randn((n, 1, size, size))


def test_geometry_moves_both_alike_and_intensity_the_source_alone(recipe_of):
    x = batch()
    both = Augmentation(affine=1.0, scale=(0.8, 1.25))
    source, target = Augment(both)(x, x.clone())
    assert torch.equal(source, target)
    assert not torch.equal(source, x)
    intensity = recipe_of().augmentation.model_copy(update={"flip": False, "affine": 0.0})
    source, target = Augment(intensity)(x, x.clone())
    assert torch.equal(target, x)
    assert not torch.allclose(source, x, atol=0.01)


def test_flips_are_the_eight_of_the_square():
    x = torch.arange(16.0).reshape(1, 1, 4, 4).expand(200, 1, 4, 4)
    torch.manual_seed(0)
    source, _ = Augment(Augmentation())(x, x.clone())
    seen = {tuple(image.flatten().round().int().tolist()) for image in source}
    square = [torch.rot90(x[0, 0], k) for k in range(4)]
    square += [torch.flip(image, (0,)) for image in square]
    assert seen == {tuple(image.flatten().int().tolist()) for image in square}


def test_augmentation_is_reproducible_and_can_be_none(recipe_of):
    augment = Augment(recipe_of().augmentation)
    first, second = (augment(batch(), batch()) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    x = batch()
    source, target = Augment(Augmentation(flip=False))(x, x)
    assert torch.equal(source, x)
    assert torch.equal(target, x)


def test_gamma_stays_between_the_crops_own_limits():
    x = batch()
    source, _ = Augment(Augmentation(flip=False, gamma=(0.5, 2.0)))(x, x)
    assert torch.allclose(source.amin(dim=(1, 2, 3)), x.amin(dim=(1, 2, 3)), atol=1e-5)
    assert torch.allclose(source.amax(dim=(1, 2, 3)), x.amax(dim=(1, 2, 3)), atol=1e-5)
