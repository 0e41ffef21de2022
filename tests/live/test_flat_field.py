"""Predictions from corrected planes; what is stored stays as the camera gave it."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import useq
import zarr

from livestain.errors import DataError, SettingsError
from livestain.inference import Stainer
from livestain.live.install import install
from livestain.live.microscope import simulated_core
from livestain.live.session import Session
from livestain.planes import PlaneIndex
from livestain.restain import restain
from livestain.store import open_store

SHAPE = (48, 56)
ROUNDING = 0.0011


@pytest.fixture
def core():
    core = simulated_core(5, shape=SHAPE)
    yield core
    core.unloadAllDevices()
    del core


@pytest.fixture
def files(tmp_path):
    """A field that is twice as bright on the right as on the left, and an offset."""
    flat = np.linspace(2000, 4000, SHAPE[1])[None].repeat(SHAPE[0], 0)
    tifffile.imwrite(tmp_path / "flat.tif", flat.astype(np.uint16))
    tifffile.imwrite(tmp_path / "dark.tif", np.full(SHAPE, 100, np.uint16))
    tifffile.imwrite(tmp_path / "small.tif", np.full((8, 8), 100, np.uint16))
    return tmp_path


def a_sequence(*channels, **settings):
    return useq.MDASequence(
        time_plan={"interval": 0, "loops": 3},
        channels=["Brightfield", *({"group": "Virtual", "config": name} for name in channels)],
        metadata={"livestain": {"channels": settings}},
    )


def run(core, out, sequence, bundle, **options):
    models = {c.config: str(bundle) for c in sequence.channels if c.group == "Virtual"}
    how = {"device": "cpu", "worker": "thread"}
    return Session(core, sequence, out, models=models, **how, **options).run()


@pytest.mark.parametrize("dark", [True, False])
def test_what_is_predicted_from_is_corrected_and_nothing_else(core, files, bundle_of, dark):
    """Two channels of one model, one of them corrected: neither takes the other's prediction."""
    bundle, out = bundle_of(z=1), files / "run.ome.zarr"
    names = {"flat_field": str(files / "flat.tif")}
    if dark:
        names["dark_frame"] = str(files / "dark.tif")
    channels = {
        "as_it_is": {"output": "mitochondria"},
        "corrected": {"output": "mitochondria", **names},
    }
    run(core, out, a_sequence(*channels, **channels), bundle)
    raw = zarr.open(out, mode="r")["0"][:, 0, 0]
    offset = 100.0 if dark else 0.0
    flat = tifffile.imread(files / "flat.tif") - offset
    with open_store(out) as store, Stainer(bundle, device="cpu") as stainer:
        for t in range(3):
            expected = (raw[t] - offset) / (flat / flat.mean())
            expected = np.rint(expected).clip(0, 65535).astype(np.uint16)
            assert abs(expected.astype(float) - raw[t]).max() > 100
            for c, plane in ((1, raw[t]), (2, expected)):
                found = store.read_decoded(PlaneIndex(0, t, c, 0))
                np.testing.assert_allclose(found, stainer.stain(plane[None])[0], atol=ROUNDING)


def test_staining_afterwards_corrects_alike(core, files, bundle_of):
    bundle, out = bundle_of(z=1), files / "run.ome.zarr"
    settings = {"flat_field": str(files / "flat.tif")}
    run(core, out, a_sequence("mitochondria", mitochondria=settings), bundle)
    with open_store(out) as store:
        before = store.read(PlaneIndex(0, 1, 1, 0))
    (out / "0" / "c.1.1.0.0.0").unlink()
    models = {"mitochondria": str(bundle)}
    assert restain(out, models=models, device="cpu", worker="thread").planes_stained == 1
    with open_store(out) as store:
        np.testing.assert_array_equal(store.read(PlaneIndex(0, 1, 1, 0)), before)
    tifffile.imwrite(files / "flat.tif", np.full(SHAPE, 7, np.uint16))
    with pytest.raises(DataError, match="has changed since"):
        restain(out, models=models)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"flat_field": "nowhere.tif"}, "no file"),
        ({"flat_field": "small.tif"}, "camera's frame has 48 x 56 pixels.* 8 x 8"),
        ({"dark_frame": "small.tif"}, "8 x 8"),
        ({"flat_field": "flat.tif", "dark_frame": "flat.tif"}, "no brighter than the dark frame"),
    ],
)
def test_what_does_not_fit_is_told_before_anything_is_written(
    core, files, bundle_of, settings, message
):
    settings = {key: str(files / name) for key, name in settings.items()}
    before = sorted(files.iterdir())
    with pytest.raises(DataError, match=message):
        run(
            core,
            files / "a.ome.zarr",
            a_sequence("mitochondria", mitochondria=settings),
            bundle_of(z=1),
        )
    assert sorted(files.iterdir()) == before


def test_other_programs_are_told_that_nothing_is_corrected(core, files, bundle_of):
    channel = {"bundle": str(bundle_of(z=1)), "flat_field": str(files / "flat.tif")}
    with pytest.raises(SettingsError, match=r"livestain\.Session"):
        install(core, {"mitochondria": channel})
    install(core, {"mitochondria": str(bundle_of(z=1))}, device="cpu")
    flat = {"flat_field": str(files / "flat.tif")}
    with pytest.raises(SettingsError, match=r"livestain\.Session"):
        core.mda.run(a_sequence("mitochondria", mitochondria=flat))
