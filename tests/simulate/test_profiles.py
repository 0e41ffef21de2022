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
