"""`livestain snap`: one image of what lies under the objective, stained."""

from __future__ import annotations

import json

import numpy as np
import pytest
import zarr
from PIL import Image
from typer.testing import CliRunner

from livestain.cli.app import app
from livestain.cli.snap import one_image
from livestain.errors import LivestainError
from livestain.inference import Stainer
from livestain.live.microscope import simulated_core
from livestain.planes import PlaneIndex
from livestain.store import open_store


def snap(*words):
    return CliRunner().invoke(app, ["snap", *map(str, words)])


def test_the_picture_and_the_planes(tiny_bundle, tmp_path):
    picture = tmp_path / "field.png"
    result = snap("--out", picture, "--model", tiny_bundle, "--device", "cpu", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout.splitlines()[-1])
    assert (told["planes_acquired"], told["planes_stained"], told["planes_missing"]) == (1, 1, 0)
    out = tmp_path / "field.ome.zarr"
    raw = zarr.open(out, mode="r")["0"][0, 0]
    with open_store(out) as store, Stainer(tiny_bundle, device="cpu") as stainer:
        found = store.read_decoded(PlaneIndex(0, 0, 1, 0))
        np.testing.assert_allclose(found, stainer.stain(raw)[0], atol=0.0011)
    with Image.open(picture) as drawn:
        assert drawn.width > 3 * raw.shape[1]
    again = snap("--out", picture, "--model", tiny_bundle)
    assert again.exit_code == 2 or isinstance(again.exception, LivestainError)
    assert "there already" in str(again.exception or again.output)
    result = snap("--out", picture, "--model", tiny_bundle, "--device", "cpu", "--overwrite")
    assert result.exit_code == 0, result.output
    assert "field.png" in result.stdout


class TestWhichPreset:
    @pytest.fixture
    def core(self):
        core = simulated_core(5, shape=(32, 32))
        yield core
        core.unloadAllDevices()
        del core

    def channel(self, core, *args):
        return one_image(core, "mitochondria", *args).channels[0]

    def test_the_one_that_is_set(self, core):
        core.setConfig("Channel", "FITC")
        core.setExposure(12.5)
        found = self.channel(core, None, None, None)
        assert (found.config, found.exposure) == ("FITC", 12.5)

    def test_the_only_one_that_is_brightfield_by_its_name(self, core):
        core.setConfig("Channel", "Mitochondria")  # a name that says nothing of its kind
        assert self.channel(core, None, None, None).config == "Brightfield"
        assert self.channel(core, None, "fluorescence", None).config == "Mitochondria"

    def test_nobody_knows(self, core):
        core.setConfig("Channel", "Mitochondria")
        core.deleteConfig("Channel", "Brightfield")
        with pytest.raises(LivestainError, match=r"Mitochondria is set.*--channel"):
            self.channel(core, None, None, None)

    def test_the_one_that_is_named(self, core):
        assert self.channel(core, "Cy5", None, 3.0).config == "Cy5"


def test_no_picture_without_its_ending(tmp_path):
    result = snap("--out", tmp_path / "field.jpg")
    assert "does not end in .png" in str(result.exception)
    assert not list(tmp_path.iterdir())
