from __future__ import annotations

from pathlib import Path

import pytest

from livestain.errors import SettingsError
from livestain.simulate import Dish, Profile, find_profile, profile_names


def test_there_are_cell_types_objectives_and_contrasts() -> None:
    profiles = {name: find_profile(name) for name in profile_names()}
    assert all(p.name == name and p.about for name, p in profiles.items())
    assert {"hela-60x", "h9c2-60x"} <= set(profiles)
    assert {p.optics.contrast for p in profiles.values()} == {"brightfield", "phase", "dic"}
    assert {p.cells.mitochondria.label for p in profiles.values()} == {"matrix", "membrane"}
    papers = profiles["h9c2-60x"]
    assert (papers.pixel_size_um, papers.optics.numerical_aperture) == (0.08, 1.42)


def test_a_profile_of_ones_own(tmp_path: Path) -> None:
    mine = find_profile("h9c2-60x").model_copy(update={"name": "mine", "pixel_size_um": 0.11})
    file = tmp_path / "mine.yaml"
    file.write_text(mine.to_yaml(), encoding="utf-8")
    assert find_profile(file) == mine
    dish = Dish(0, find_profile(file), shape=(32, 32))
    assert dish.pixel_size_um == 0.11
    assert Dish(0, mine, shape=(32, 32), pixel_size_um=0.2).pixel_size_um == 0.2


def test_what_is_wrong_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"no profile h9c2; expected one of .* Did you mean h9c2-60x"
    ):
        find_profile("h9c2")
    file = tmp_path / "bad.yaml"
    file.write_text("name: bad\ncells: {mitochondria: {number: [9, 3]}}\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"number.*smaller number first; given 9.0 to 3.0"):
        find_profile(file)
    file.write_text("name: bad\npixel_size: 0.1\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="pixel_size"):
        find_profile(file)
    with pytest.raises(SettingsError, match=r"none\.yaml"):
        find_profile(tmp_path / "none.yaml")


def test_profiles_are_in_what_is_installed() -> None:
    import livestain.simulate

    folder = Path(livestain.simulate.__file__).parent / "profiles"
    assert sorted(p.stem for p in folder.glob("*.yaml")) == list(profile_names())
    assert Profile(name="x").optics == find_profile("hela-60x").optics


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ("cells: {droplets: {number: [-5, -3]}}", "number.*greater than or equal to 0"),
        ("cells: {mitochondria: {number: [.nan, .nan]}}", "number.*finite number"),
        ("cells: {granules: {radius_um: [-0.2, 0.3]}}", "radius_um.*greater than 0"),
        ("cells: {radius_um: [8, .inf]}", "radius_um.*finite number"),
        ("cells: {stretch: [0, 0]}", "stretch.*greater than or equal to 1"),
        ("cells: {height_um: [-3, 4]}", "height_um.*greater than 0"),
        ("cells: {roughness: [0.1, -0.1]}", "roughness.*greater than or equal to 0"),
        ("cells: {nucleus: {height_um: -2}}", "height_um.*greater than or equal to 0"),
        ("cells: {nucleus: {nucleoli: [4, 2]}}", "nucleoli.*smaller number first; given 4 to 2"),
        ("cells: {nucleus: {radii_um: [[0, 4], [2, 3]]}}", "radii_um.*greater than 0"),
        ("cells: {mitochondria: {fission_s: [0, 0]}}", "fission_s.*greater than 0"),
        ("sensor: {full_well: .inf}", "full_well.*finite number"),
        ("optics: {emission_wavelength_um: .inf}", "emission_wavelength_um.*finite number"),
        ("light: {excitation_w_cm2: .inf}", "excitation_w_cm2.*finite number"),
        ("brightfield_electrons_per_ms: .inf", "brightfield_electrons_per_ms.*finite number"),
        ("texture_um: [0.3, 0.3]", "texture_um.*finer scale first; given 0.3 and 0.3"),
        ("texture_um: [0, 0.3]", "texture_um.*greater than or equal to 0.01"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, given: str, match: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(f"name: bad\n{given}\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=match) as caught:
        find_profile(file)
    assert "\n" not in str(caught.value)


def test_a_dish_without_what_may_be_left_out() -> None:
    none = {"number": (0, 0)}
    cells = {
        **dict.fromkeys(("mitochondria", "droplets", "vesicles", "granules", "debris"), none),
        "nucleus": {"nucleoli": (0, 0), "height_um": 0},
        "roughness": (),
        "grains": 0,
        "fibres": 0,
    }
    profile = Profile.parse({"name": "empty", "cells": cells}, where="the profile")
    dish = Dish(0, profile, shape=(32, 32))
    assert dish.brightfield(0.0).std() > 0
    assert not dish.mask(0.0).any()
