"""Models are found by name and by what they stain."""

import shutil

import pytest

from livestain.bundle import bundles_for, find_bundle, search_path
from livestain.errors import BundleError


@pytest.fixture
def models(tmp_path, written, monkeypatch):
    """Two folders of models on the search path, and none of the user's own."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    first, second = tmp_path / "first", tmp_path / "second"
    shutil.copytree(written.path, first / "mine")
    shutil.copytree(written.path, second / "mine")
    shutil.copytree(written.path, second / "yours")
    (second / "notes.txt").write_text("not a model")
    (second / "empty").mkdir()
    monkeypatch.setattr(
        "livestain.bundle.find.search_path", lambda: [first, second, tmp_path / "nowhere"]
    )
    return tmp_path


def test_search_path_is_the_environment_then_the_user_then_the_shipped(tmp_path, monkeypatch):
    import os

    given = [tmp_path / "a", tmp_path / "b"]
    monkeypatch.setenv("LIVESTAIN_MODELS", os.pathsep.join(map(str, given)))
    path = search_path()
    assert path[:2] == given
    assert path[2].parts[-2:] == ("livestain", "models")
    assert len(path) >= 4
    monkeypatch.delenv("LIVESTAIN_MODELS")
    assert search_path() == path[2:]


def test_a_name_finds_the_first_of_that_name(models):
    assert find_bundle("mine").path == models / "first" / "mine"
    assert find_bundle("yours").path == models / "second" / "yours"


def test_a_folder_is_taken_as_it_is(models, monkeypatch):
    assert find_bundle(models / "second" / "mine").path == models / "second" / "mine"
    assert find_bundle(str(models / "second" / "mine")).path == models / "second" / "mine"
    monkeypatch.chdir(models / "second")
    (models / "second" / "yours").rename(models / "second" / "here")
    shutil.rmtree(models / "first")
    monkeypatch.setattr("livestain.bundle.find.search_path", list)
    assert find_bundle("here").name == "test-bundle"


def test_what_lies_deeper_is_found_by_its_folder_and_is_chosen_by_no_one(models):
    shutil.copytree(models / "first" / "mine", models / "second" / "starts" / "deep")
    assert find_bundle("starts/deep").path == models / "second" / "starts" / "deep"
    assert "deep" not in {bundle.path.name for bundle in bundles_for("mitochondria")}
    for elsewhere in ("deep", "../second/starts/deep", str(models / "starts" / "deep")):
        with pytest.raises(BundleError, match="No model is called"):
            find_bundle(elsewhere)


def test_an_unknown_name_is_answered_with_the_known_ones_and_where_was_looked(models):
    with pytest.raises(BundleError) as caught:
        find_bundle("theirs")
    message = str(caught.value)
    assert "'theirs'" in message
    assert "Known: mine, yours" in message
    for folder in ("first", "second", "nowhere"):
        assert str(models / folder) in message
    assert "LIVESTAIN_MODELS" in message


def test_a_damaged_bundle_asked_for_by_name_is_refused(models):
    (models / "first" / "mine" / "weights.pt").unlink()
    with pytest.raises(BundleError, match=r"weights\.pt"):
        find_bundle("mine")


def test_bundles_are_filtered_by_output_kind_and_pixel_size(models):
    def names(*args, **kwargs):
        return [bundle.path.name for bundle in bundles_for(*args, **kwargs)]

    assert names("mitochondria") == ["mine", "yours"]
    assert names("nuclei", "brightfield", 0.1) == ["mine", "yours"]
    assert names("lysosomes") == []
    assert names("mitochondria", kind="phase") == []
    assert names("mitochondria", pixel_size_um=0.3) == []


def test_a_damaged_description_does_not_hide_the_others(models, caplog):
    (models / "first" / "mine" / "rdf.yaml").write_text("a: [")
    assert [bundle.path.name for bundle in bundles_for("mitochondria")] == ["yours"]
    assert "rdf.yaml" in caplog.text


@pytest.mark.parametrize("part", ["weights.pt", "test_output.npy"])
def test_damage_to_any_other_file_does_not_hide_the_others_either(models, caplog, part):
    (models / "first" / "mine" / part).write_bytes(b"damaged")
    assert [bundle.path.name for bundle in bundles_for("mitochondria")] == ["yours"]
    assert part in caplog.text
    with pytest.raises(BundleError, match=part):
        find_bundle("mine")
