"""Recipes: what is refused, and those that travel with the package."""

from __future__ import annotations

import pytest

from livestain.errors import SettingsError
from livestain.training.module import build_from_recipe, schedule_factor
from livestain.training.parts import Optimiser
from livestain.training.recipe import Recipe, find_recipe, recipe_names


@pytest.mark.parametrize("name", recipe_names())
def test_ours_build_and_read_back(name):
    recipe = Recipe.from_yaml(find_recipe(name))
    assert recipe.name == name
    assert recipe.card.licence is not None
    build_from_recipe(recipe)
    assert Recipe.parse(recipe.model_dump(mode="json"), where=name) == recipe


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stepz": 3}, r"unknown key 'stepz'; did you mean 'steps'"),
        ({"loss": {}}, "at least one weight"),
        ({"pixel_size_um": 1.0}, "outside pixel_size_range_um"),
        ({"window": {"z": 3}}, "needs z_step_um"),
        ({"window": {"z": "all", "depth": 5}, "z_step_um": 0.5}, "same plane for all.*odd number"),
        ({"movies": ["a"], "leave_out": ["a"]}, "both in movies and in leave_out"),
        ({"network": {"name": "unet2d", "kwargs": {"in_channels": 2}}}, "in_channels"),
    ],
)
def test_refused(recipe_of, changes, words):
    with pytest.raises(SettingsError, match=words):
        recipe_of(**changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network": {"name": "unet9d"}}, r"unet9d.*unet2d"),
        ({"network": {"name": "unet2d", "kwargs": {"widht": 4}}}, "widht"),
        ({"crop": 30}, r"multiples of 4. Choose 28"),
    ],
)
def test_networks_that_do_not_fit(recipe_of, changes, words):
    with pytest.raises(SettingsError, match=words):
        build_from_recipe(recipe_of(**changes))


def test_unknown_recipe_names_ours():
    with pytest.raises(SettingsError, match=r"no recipe nothing.*h9c2-omp25"):
        find_recipe("nothing")


def test_schedule_rises_by_a_line_and_falls_by_a_cosine():
    settings = Optimiser(warmup_steps=4)
    assert [schedule_factor(n, 104, settings) for n in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert schedule_factor(54, 104, settings) == pytest.approx(0.5)
    assert schedule_factor(104, 104, settings) == pytest.approx(0.0)
    assert schedule_factor(54, 104, Optimiser(schedule="constant", warmup_steps=4)) == 1.0
