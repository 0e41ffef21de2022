"""A bundle is replaced as a whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from livestain.bundle.placing import put_in_place
from livestain.errors import BundleError


@pytest.fixture
def folders(tmp_path):
    """A new bundle in a scratch folder, and the old one in its place."""
    place, new = tmp_path / "model", tmp_path / ".adding-1" / "model"
    for folder, text in ((place, "old"), (new, "new")):
        folder.mkdir(parents=True)
        (folder / "rdf.yaml").write_text(text)
    return new, place


def refuse(monkeypatch, *which):
    """Let some renames fail, counted from 1, as Windows does while a file of the folder is open."""
    done, real = [], Path.replace

    def replace(self, target):
        done.append(target)
        if len(done) in which:
            raise PermissionError(13, "Access is denied")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)


def content(tmp_path):
    return {str(p.relative_to(tmp_path)): p.read_text() for p in tmp_path.rglob("rdf.yaml")}


def test_the_new_one_takes_the_place_of_the_old(folders, tmp_path):
    put_in_place(*folders)
    assert {p.name for p in tmp_path.iterdir()} == {"model", ".adding-1"}
    assert (tmp_path / "model" / "rdf.yaml").read_text() == "new"


@pytest.mark.parametrize("at", [1, 2])
def test_where_it_cannot_be_moved_the_old_one_stays(folders, tmp_path, monkeypatch, at):
    refuse(monkeypatch, at)
    with pytest.raises(PermissionError):
        put_in_place(*folders)
    assert (tmp_path / "model" / "rdf.yaml").read_text() == "old"
    assert {p.name for p in tmp_path.iterdir()} == {"model", ".adding-1"}


def test_an_old_one_that_cannot_be_moved_back_is_kept_and_named(folders, tmp_path, monkeypatch):
    refuse(monkeypatch, 2, 3)
    with pytest.raises(BundleError, match=r"it is whole, in .*\.model\.old-"):
        put_in_place(*folders)
    assert "old" in content(tmp_path).values()
