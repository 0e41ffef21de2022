"""Recipes: what is refused, and those that travel with the package."""

from __future__ import annotations

import pytest
import torch

from livestain.errors import SettingsError
from livestain.networks import build_network
from livestain.training.module import build_from_recipe
from livestain.training.parts import Optimiser, Source
from livestain.training.recipe import Recipe, find_recipe, recipe_names
from livestain.training.schedule import schedule_factor


@pytest.mark.parametrize("name", recipe_names())
def test_ours_build_and_read_back(name):
    recipe = Recipe.from_yaml(find_recipe(name))
    assert recipe.name == name
    assert recipe.about
    with torch.device("meta"):
        spec = recipe.network_spec()
        build_network(spec.name, **spec.kwargs)
    assert Recipe.parse(recipe.model_dump(mode="json"), where=name) == recipe


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stepz": 3}, r"unknown key 'stepz'; did you mean 'steps'"),
        ({"loss": {"mse": 0.0}}, r"^test: 'loss': a loss needs at least one weight above 0$"),
        (
            {"pairing": "unpaired"},
            r"^test: cycle is given for pairing: unpaired, and only for it$",
        ),
        ({"pixel_size_um": 1.0}, "outside pixel_size_range_um"),
        ({"window": {"z": 3}}, "needs z_step_um"),
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
        ({"network": {"name": "unet9d"}}, r"'unet9d' \(did you mean 'unet.d'\?\).*care2d"),
        (
            {"network": {"name": "unet2d", "kwargs": {"widht": 4}}},
            r"unet2d has no argument 'widht' \(did you mean 'width'\?\).*depth",
        ),
        ({"crop": 30}, r"multiples of 4. Choose 28"),
        ({"window": {"z": "all"}, "z_step_um": 0.5}, "same plane for all.*odd number"),
    ],
)
def test_networks_that_do_not_fit(recipe_of, changes, words):
    with pytest.raises(SettingsError, match=words):
        build_from_recipe(recipe_of(**changes))


def test_a_variant_tells_what_differs(tmp_path):
    (tmp_path / "one.yaml").write_text(
        "base: somani2021-tn\nname: one\nloss: {tn: {floor: 0.1}}\nsources: [{channel: phase, kind: phase}]"
    )
    (tmp_path / "two.yaml").write_text("base: one.yaml\nname: two\nbatch_size: 3")
    base = Recipe.from_yaml(find_recipe("somani2021-tn"))
    two = Recipe.from_yaml(tmp_path / "two.yaml")
    tn = base.loss.tn.model_copy(update={"floor": 0.1})
    assert two == base.model_copy(
        update={
            "name": "two",
            "batch_size": 3,
            "loss": base.loss.model_copy(update={"tn": tn}),
            "sources": (Source(channel="phase", kind="phase"),),
        }
    )
    assert Recipe.parse(two.model_dump(mode="json"), where="two") == two


def test_a_variant_of_itself_is_refused(tmp_path):
    (tmp_path / "one.yaml").write_text("base: two.yaml")
    (tmp_path / "two.yaml").write_text("base: one.yaml")
    with pytest.raises(SettingsError, match="its own base"):
        Recipe.from_yaml(tmp_path / "one.yaml")


def test_unknown_recipe_names_ours():
    with pytest.raises(SettingsError, match=r"no recipe nothing.*h9c2-omp25"):
        find_recipe("nothing")


def test_a_recipe_of_nearly_this_name_is_named():
    with pytest.raises(SettingsError, match=r"no recipe unet25d\. Did you mean unet-25d\?"):
        find_recipe("unet25d")


def test_schedule_rises_by_a_line_and_falls_by_a_cosine():
    settings = Optimiser(warmup_steps=4)
    assert [schedule_factor(n, 104, settings) for n in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert schedule_factor(54, 104, settings) == pytest.approx(0.5)
    assert schedule_factor(104, 104, settings) == pytest.approx(0.0)
    assert schedule_factor(54, 104, Optimiser(schedule="constant", warmup_steps=4)) == 1.0
