"""The recipes on the command line: --list, --print, --set; and unknown keys at any depth."""

from __future__ import annotations

import pytest
import yaml

from livestain.bundle.description import NormalisationSettings
from livestain.cli.app import run as run_command
from livestain.training.recipe import Recipe, find_recipe, recipe_names


def printed(capsys, *arguments):
    assert run_command(["train", "--print", *arguments]) == 0
    return capsys.readouterr().out


def test_the_list_has_every_recipe_with_its_network(capsys):
    assert run_command(["train", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    first_words = {line.split()[0]: line.split() for line in lines if not line.startswith(" ")}
    for name in recipe_names():
        recipe = Recipe.from_yaml(find_recipe(name))
        assert first_words[name][1:3] == [recipe.network.name, f"{recipe.dims}-D"]


@pytest.mark.parametrize("name", recipe_names())
def test_what_is_printed_reads_back_to_the_same_recipe(capsys, tmp_path, name):
    text = printed(capsys, name)
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    assert Recipe.from_yaml(tmp_path / "mine.yaml") == Recipe.from_yaml(find_recipe(name))
    assert set(yaml.safe_load(text)) == set(Recipe.model_fields)  # what was left out, too


def test_what_is_printed_says_what_each_key_means(capsys):
    text = printed(capsys, "debug")
    comment, key = text.split("clip_norm:")[0].splitlines()[-2:]
    assert comment.strip() == "# Largest norm of the whole gradient; none: no clipping."
    assert key.strip() == ""


def test_set_changes_any_key(capsys):
    changed = yaml.safe_load(
        printed(
            capsys,
            "debug",
            "--set",
            "optimiser.learning_rate=1e-4",
            "--set",
            "network={name: care2d, kwargs: {width: 8}}",
            "--set",
            "source.channel=phase",
            "--set",
            "targets.0.output.name=dna",
            "--set",
            "augmentation.scale=[0.5, 2]",
            "--set",
            "loss.psf.sigma_um=0.1",
            "--set",
            "loss.psf_l1=0.5",
            "--steps",
            "7",
        )
    )
    assert changed["optimiser"]["learning_rate"] == 1e-4
    assert changed["network"] == {"name": "care2d", "kwargs": {"width": 8}}
    assert changed["sources"][0]["channel"] == "phase"
    assert changed["targets"][0]["output"]["name"] == "dna"
    assert changed["augmentation"]["scale"] == [0.5, 2.0]
    assert changed["loss"]["psf"]["sigma_um"] == 0.1
    assert changed["steps"] == 7
    assert changed["loss"]["pearson"] == 1.0  # and the rest stays


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            "optimiser.learning_rat=1",
            "unknown key 'optimiser.learning_rat'; did you mean 'learning_rate'?",
        ),
        ("stepz=1", "unknown key 'stepz'; did you mean 'steps'?"),
        ("loss.tn.flor=1", "unknown key 'loss.tn.flor'; did you mean 'floor'?"),
        ("targets.0.output.colour=1", "'targets.0.output.colour'; did you mean 'color'?"),
        ("source.chanel=x", "'sources.0.chanel'; did you mean 'channel'?"),
        ("adversarial.discriminator.nme=x", "discriminator.nme'; did you mean 'name'?"),
        ("selection.zzz=1", "known there: weights, every_steps, patience"),
        ("targets.3.channel=x", "targets is a list of 1"),
        ("steps", "not KEY=VALUE"),
        ("steps={", "not valid YAML"),
        ("steps=many", "'steps': "),
    ],
)
def test_changes_that_are_none(capsys, change, words):
    assert run_command(["train", "--print", "debug", "--set", change]) == 2
    told = capsys.readouterr()
    (line,) = told.err.splitlines()
    assert words in line
    assert told.out == ""


def test_keys_are_near_those_of_the_settings_they_lie_in():
    # `clip` is a key of the normalisation, and not of the recipe that it lies in.
    with pytest.raises(Exception, match="did you mean 'clip'"):
        NormalisationSettings.parse({"clipp": 1}, where="here")


def test_a_recipe_is_needed_to_train(capsys):
    assert run_command(["train", "debug"]) == 2
    told = capsys.readouterr().err
    assert "--data" in told
    assert "--list" in told
