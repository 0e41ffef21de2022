"""Data of other programs: the predictions lie beside them, and the data are only read."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import yaozarrs
import zarr
from typer.testing import CliRunner

import recording_cases as cases
from livestain.cli.app import app
from livestain.errors import BundleError, DataError, SequenceError, StoreError
from livestain.inference import Stainer
from livestain.planes import PlaneIndex
from livestain.restain import restain, verify_staining
from livestain.stain.asked import ChannelSettings
from livestain.store import compact_store, encode, export_tiff, open_store, store_status

sys.path.insert(0, str(Path(__file__).parents[1] / "recordings"))
import micromanager_writer as mm

HOW = {"device": "cpu", "worker": "thread"}
NAMES = ("Brightfield", "Mitochondria")
SHAPE = (2, 2, 3, 40, 48)


def write(kind, folder, pixels):
    """Write (t, c, z, y, x) as another program does; return what a user gives to the command."""
    if kind.startswith("zarr"):
        path = folder / "cells.ome.zarr"
        cases.write_zarr(path, pixels, kind.removeprefix("zarr "), names=NAMES)
        return path
    if kind == "ome-tiff":
        path = folder / "cells.ome.tif"
        cases.write_ome_tiff(path, pixels, names=NAMES)
        return path
    if kind == "imagej":
        path = folder / "cells.tif"
        cases.write_imagej(path, pixels)
        return path
    if kind == "ndtiff":
        planes = [
            ({"time": t, "channel": NAMES[c], "z": z}, pixels[t, c, z])
            for t, c, z in np.ndindex(pixels.shape[:3])
        ]
        summary = {"PixelSize_um": 0.1, "z-step_um": 0.5}
        return cases.write_ndtiff(folder, planes, summary)
    listed = {"StagePositions": mm.positions(("A1", 10.0, -20.5, 3.0))}
    mm.write_set(folder / "cells_1", {"A1": pixels}, summary=listed)
    return folder / "cells_1"


def digests(path):
    files = [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]
    return {f: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


@pytest.fixture(scope="module")
def expected(bundle_of):
    """What the model makes of the stack in the middle of its planes, asked without any store."""
    pixels = cases.volume(3, SHAPE)
    with Stainer(bundle_of(z=3), device="cpu", pixel_size_um=0.1) as stainer:
        return pixels, [encode(stainer.stain(pixels[t, 0])[0], 0.001, -20.0) for t in range(2)]


@pytest.mark.parametrize(
    "kind", ["zarr 0.4", "zarr 0.5", "ome-tiff", "imagej", "ndtiff", "micro-manager"]
)
def test_the_predictions_lie_beside_the_data(tmp_path, bundle_of, expected, kind):
    pixels, predicted = expected
    bundle = bundle_of(z=3)
    data = write(kind, tmp_path, pixels)
    before = digests(data)
    settings = ChannelSettings(source="0" if kind == "imagej" else None, source_kind="brightfield")
    if kind == "micro-manager":  # it has another step between its planes by default
        settings = ChannelSettings(source="Brightfield", source_kind="brightfield")
    report = restain(
        data, model=str(bundle), settings=settings, pixel_size_um=0.1, z_step_um=0.5, **HOW
    )
    out = Path(report.store)
    assert out.parent == data.parent
    assert out.name.endswith(".stained.ome.zarr")
    assert (report.added, report.planes_stained) == (["mitochondria"], 6)
    assert digests(data) == before
    yaozarrs.validate_zarr_store(str(out))
    array = zarr.open_group(out, mode="r")["0"]
    assert array.shape == (2, 1, 3, 40, 48)
    for t in range(2):
        np.testing.assert_array_equal(array[t, 0, 1], predicted[t])
    group = zarr.open_group(out, mode="r").attrs["ome"]
    assert [c["label"] for c in group["omero"]["channels"]] == ["mitochondria (predicted)"]
    assert group["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"][2:] == [
        0.5,
        0.1,
        0.1,
    ]
    with open_store(out) as store:
        assert store.plan.recording is not None
        assert store["mitochondria"].shape == (2, 3, 40, 48)
        assert "simulated" not in store.attributes
        with pytest.raises(StoreError, match="in the recording"):
            store.read(PlaneIndex(0, 0, 0, 0))
    status = store_status(out)
    assert (status.planned, status.present, list(status.by_channel)) == (6, 6, ["mitochondria"])
    assert verify_staining(out, models={"mitochondria": str(bundle)}, device="cpu").passed


def test_what_was_interrupted_goes_on_and_other_models_join(tmp_path, bundle_of, tiny_bundle):
    """And the two may be moved together."""
    data = write("ome-tiff", tmp_path, cases.volume(3, SHAPE))
    out = Path(restain(data, model=str(tiny_bundle), **HOW).store)
    kept = (out / "0" / "c.1.0.2.0.0").read_bytes()
    (out / "0" / "c.1.0.2.0.0").unlink()
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for path in (data, *tmp_path.glob("cells.stained*")):
        shutil.move(path, moved)
    again = restain(moved / out.name, **HOW)
    assert again.planes_stained == 1
    assert (moved / out.name / "0" / "c.1.0.2.0.0").read_bytes() == kept
    second = restain(moved / data.name, model=str(bundle_of(z=1, width=8)), channel="b", **HOW)
    assert second.store == str(moved / out.name)
    assert second.planes_stained == 6
    compact_store(moved / out.name)
    assert store_status(moved / out.name).present == 12
    with open_store(moved / out.name) as store:
        assert (store.read(PlaneIndex(0, 1, 2, 2)) > 0).all()
    (exported,) = export_tiff(moved / out.name).files
    import tifffile

    assert tifffile.imread(exported).shape == (2, 2, 3, 40, 48)
    (moved / data.name).unlink()
    with pytest.raises(DataError, match="is not there: neither"):
        restain(moved / out.name, channel="b", **HOW)


def test_several_positions_and_holes(tmp_path, tiny_bundle):
    images = [cases.volume(n, SHAPE) for n in range(2)]
    data = tmp_path / "cells.ome.zarr"
    cases.write_bioformats2raw(data, images, "0.5", names=NAMES)
    shutil.rmtree(data / "1" / "0" / "c" / "1" / "0")  # the last time point was never taken there
    report = restain(data, model=str(tiny_bundle), **HOW)
    assert report.planes_stained == 6 + 3
    with open_store(report.store) as store:
        assert store.plan.n_p == 2
        assert store.present(2).sum(axis=(1, 2)).tolist() == [6, 3]
        assert not store.is_present(PlaneIndex(1, 1, 2, 0))


def test_a_run_of_livestain_may_be_left_alone_too(tmp_path, tiny_bundle):
    """For archives that nobody may write to."""
    import useq

    from livestain.live.microscope import simulated_core
    from livestain.live.session import Session

    core = simulated_core(5, shape=(64, 72))
    run = tmp_path / "run.ome.zarr"
    sequence = useq.MDASequence(channels=["Brightfield"], time_plan={"interval": 0, "loops": 3})
    Session(core, sequence, run).run()
    core.unloadAllDevices()
    before = digests(run)
    report = restain(run, model=str(tiny_bundle), out=tmp_path / "beside.ome.zarr", **HOW)
    assert report.planes_stained == 3
    assert before == digests(run)
    (exported,) = export_tiff(run).files
    second = restain(exported, model=str(tiny_bundle), **HOW)
    for made in (report, second):
        with open_store(made.store) as store:
            assert store.attributes["simulated"] is True


def test_the_command(tmp_path, tiny_bundle):
    data = write("imagej", tmp_path, cases.volume(3, SHAPE, np.uint8))
    words = ["restain", str(data), "--model", str(tiny_bundle), "--device", "cpu"]
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, SequenceError)
    assert "Name it: --source" in str(result.exception)
    named = [*words, "--source", "0", "--source-kind", "brightfield", "--channel", "second"]
    result = CliRunner().invoke(app, named)
    assert result.exit_code == 0, result.output
    out = tmp_path / "cells.stained.ome.zarr"
    assert "new channel: second (predicted)" in result.stdout
    assert store_status(out).by_channel["second"].present == 6
    moved = ["--model", f"second={tiny_bundle}", "--channel", "second", "--device", "cpu"]
    result = CliRunner().invoke(app, ["restain", str(out), "--verify", "--json", *moved])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout.splitlines()[-1])
    assert told["passed"]
    assert told["channels"][0]["compared"] == 6


def test_what_cannot_be_stained(tmp_path, tiny_bundle):
    model = {"model": str(tiny_bundle), **HOW}
    pixels = cases.volume(3, SHAPE)
    bare = tmp_path / "bare.ome.zarr"
    cases.write_zarr(bare, pixels, names=NAMES, um=(1.0, 1.0))
    group = json.loads((bare / "zarr.json").read_text())
    for axis in group["attributes"]["ome"]["multiscales"][0]["axes"]:
        axis.pop("unit", None)
    (bare / "zarr.json").write_text(json.dumps(group))
    with pytest.raises(DataError, match=r"does not say its pixel size.*--pixel-size"):
        restain(bare, **model)
    assert restain(bare, pixel_size_um=0.1, **model).planes_stained == 6

    floats = tmp_path / "floats.ome.tif"
    cases.write_ome_tiff(floats, cases.volume(3, SHAPE, np.float32), names=NAMES)
    with pytest.raises(DataError, match="models take the camera's own counts"):
        restain(floats, **model)
    good = tmp_path / "good.ome.tif"
    cases.write_ome_tiff(good, pixels, names=NAMES)
    with pytest.raises(BundleError, match="has no model of its own"):
        restain(good, **HOW)
    with pytest.raises(SequenceError, match=r"'Phase' .* there are: Brightfield, Mitochondria"):
        restain(good, settings=ChannelSettings(source="Phase"), **model)
    with pytest.raises(StoreError, match="holds no predictions of"):
        restain(good, out=tmp_path / "bare.stained.ome.zarr", **model)
    (tmp_path / "folder.ome.zarr").mkdir()
    with pytest.raises(StoreError, match="not a Zarr group"):
        restain(good, out=tmp_path / "folder.ome.zarr", **model)
    assert sorted(p.name for p in tmp_path.glob("*stained*")) == [
        "bare.stained.ome.zarr",
        "bare.stained.ome.zarr.journal.jsonl",
    ]
