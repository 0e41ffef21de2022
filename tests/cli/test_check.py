"""livestain check-data: findings, picture, refusal."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

RECIPE = """
name: tiny
network: {name: unet2d, kwargs: {width: 4, depth: 2}}
targets:
  - channel: mitochondria
    output: {name: mitochondria, unit: sd, scale: 0.001, offset: -20.0, display: [-1, 4]}
pixel_size_um: 0.1
pixel_size_range_um: [0.08, 0.12]
crop: 64
"""


@pytest.fixture
def data(tmp_path):
    """A movie whose target lies 6 pixels below its source; one target is nothing but noise."""
    folder = tmp_path / "data"
    rng = np.random.default_rng(0)
    for i in range(4):
        cell = gaussian_filter(rng.standard_normal((80, 80)), 2, mode="wrap")
        cell /= cell.std()
        target = np.roll(np.maximum(cell, 0), 6, axis=0) if i else np.zeros((80, 80))
        for channel, plane in (("brightfield", 3 - cell), ("mitochondria", 1 + target)):
            path = folder / "movie-a" / channel / f"t{i:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            counts = (plane * 1000 + rng.normal(0, 30, plane.shape)).clip(0).astype(np.uint16)
            Image.fromarray(counts).save(path)
    return folder


@pytest.mark.parametrize("how", ["report", "shift"])
def test_findings_are_told(livestain, tmp_path, data, how):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)
    picture = tmp_path / "checks.png"
    change = ["--set", f"checks.registration={how}"]
    ended = livestain("check-data", recipe, "--data", data, "--picture", picture, "--json", *change)
    told = json.loads(ended.out.splitlines()[-1])
    (one,) = told["registration"]
    assert (one["dy_px"], one["dx_px"]) == pytest.approx((6, 0), abs=0.3)
    assert [(bad["pair"], bad["kind"]) for bad in told["bad"]["pairs"]] == [("t000", "empty")]
    with Image.open(picture) as drawn:
        assert drawn.width > 700
        assert drawn.height > 500
    if how == "shift":
        assert ended.code == 0
        assert told["corrections"]["a"][0]["dy_px"] == one["dy_px"]
    else:
        assert ended.code == 2
        assert "lies 6.0 px down" in ended.err


def test_words(livestain, tmp_path, data, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # so that the table is not wrapped
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE + "checks: {tolerance_um: 1.0}\n")
    ended = livestain("check-data", recipe, "--data", data, "--movies", "a")
    assert ended.code == 0
    assert "6.0 px down" in ended.out
    assert "empty: a, t000: mitochondria has nothing but noise" in " ".join(ended.out.split())


def test_a_picture_is_png(livestain, tmp_path, data):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)
    ended = livestain("check-data", recipe, "--data", data, "--picture", tmp_path / "x.tiff")
    assert ended.code == 2
    assert "x.tiff" in ended.err
