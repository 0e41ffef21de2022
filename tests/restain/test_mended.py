"""What a second reader found: wrong numbers, options passed over, data taken for other data."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import useq
import zarr

import recording_cases as cases
from livestain.errors import BundleError, DataError, LivestainError, StoreError
from livestain.live.microscope import simulated_core
from livestain.live.session import Session
from livestain.restain import restain, verify_staining
from livestain.stain.asked import ChannelSettings
from livestain.store import export_tiff, finalise, journal_path, open_store, store_status

HOW = {"device": "cpu", "worker": "thread"}
NAMES = ("Brightfield", "Mitochondria")
SHAPE = (2, 2, 3, 40, 48)


@pytest.fixture
def run(tmp_path, tiny_bundle):
    """A small run with a prediction."""
    core = simulated_core(5, shape=(64, 72))
    out = tmp_path / "run.ome.zarr"
    sequence = useq.MDASequence(
        time_plan={"interval": 0, "loops": 4},
        channels=["Brightfield", {"group": "Virtual", "config": "mitochondria"}],
    )
    Session(core, sequence, out, models={"mitochondria": str(tiny_bundle)}, **HOW).run()
    core.unloadAllDevices()
    return out


def test_a_camera_of_8_bits_is_corrected_as_one_of_16(tmp_path, tiny_bundle):
    """A bright pixel divided by a dark field goes beyond 255."""
    from PIL import Image

    pixels = cases.volume(3, SHAPE, np.uint8)
    flat = np.full(SHAPE[-2:], 200, np.uint8)
    flat[:, 24:] = 100
    Image.fromarray(flat).save(tmp_path / "flat.png")
    settings = ChannelSettings(flat_field=str(tmp_path / "flat.png"))
    made = []
    for bits in (8, 16):
        data = tmp_path / f"cells{bits}.ome.tif"
        cases.write_ome_tiff(data, pixels.astype(f"uint{bits}"), names=NAMES)
        out = restain(data, model=str(tiny_bundle), settings=settings, **HOW).store
        made.append(zarr.open_group(out, mode="r")["0"][:])
    np.testing.assert_array_equal(*made)


def test_what_is_known_of_a_store_outlives_its_journal(run, bundle_of):
    """People copy stores without what lies beside them."""
    before = {p.name: np.asarray(zarr.open_array(p)) for p in arrays_of(run)}
    journal_path(run).unlink()
    restain(run, model=str(bundle_of(z=1, width=8)), channel="second", **HOW)
    after = {p.name: np.asarray(zarr.open_array(p)) for p in arrays_of(run)}
    for name, column in before.items():
        np.testing.assert_array_equal(after[name][:, :, :2], column)
    assert np.isfinite(after["time_s"][:, :, 2]).all()


def arrays_of(run):
    return [p for p in (run / "livestain").iterdir() if p.is_dir()]


def test_times_that_an_end_has_cut_off_are_passed_over(run):
    from livestain.store import Journal

    with Journal(journal_path(run)) as journal:
        journal.append("plane", index=(0, 9, 0, 0), camera_time_ms=1.0)
        journal.append("uncertain", index=(0, 9, 0, 0), why="for the test")
    finalise(run)
    assert store_status(run).present == 8


def test_what_waits_for_its_source_is_no_debt(run):
    for name in ("c.1.0.0.0.0", "c.1.1.0.0.0", "c.2.1.0.0.0"):
        (run / "0" / name).unlink()
    lines = journal_path(run).read_bytes().splitlines(keepends=True)
    journal_path(run).write_bytes(b"".join(line for line in lines if b'"finished"' not in line))
    counts = store_status(run).by_channel["mitochondria"]
    assert (counts.owed, counts.waiting) == (2, 1)
    stop = threading.Event()
    stop.set()
    report = restain(run, stop=stop, **HOW)
    assert (report.planes_owed + report.planes_stained, report.planes_waiting) == (1, 1)


def test_another_recording_is_not_taken_for_the_one_that_was_stained(tmp_path, tiny_bundle):
    data = tmp_path / "cells.ome.tif"
    cases.write_ome_tiff(data, cases.volume(3, SHAPE), names=NAMES)
    out = Path(restain(data, model=str(tiny_bundle), **HOW).store)
    (out / "0" / "c.1.0.2.0.0").unlink()
    for other, why in [
        (cases.volume(4, SHAPE), "its first planes are others"),
        (cases.volume(3, (3, 2, 3, 40, 48)), "3 time points"),
        (cases.volume(3, (2, 2, 3, 48, 40)), "48 x 40 pixels"),
    ]:
        data.unlink()
        cases.write_ome_tiff(data, other, names=NAMES)
        with pytest.raises(DataError, match=f"is not the recording .*{why}"):
            restain(out, **HOW)
        with pytest.raises(DataError, match="is not the recording"):
            restain(data, model=str(tiny_bundle), **HOW)
    assert store_status(out).owed == 1


def test_an_export_counts_what_lies_in_the_store(tmp_path, tiny_bundle):
    data = tmp_path / "cells.ome.tif"
    cases.write_ome_tiff(data, cases.volume(3, SHAPE), names=NAMES)
    out = restain(data, model=str(tiny_bundle), **HOW).store
    done = export_tiff(out)
    assert (done.planes, done.missing) == (6, 0)


def test_options_are_never_passed_over(run, tiny_bundle, tmp_path):
    from PIL import Image

    flat = tmp_path / "flat.png"
    Image.fromarray(np.full((64, 72), 200, np.uint8)).save(flat)
    corrected = ChannelSettings(flat_field=str(flat))
    with pytest.raises(BundleError, match="--flat-field cannot change that"):
        restain(run, channel="mitochondria", settings=corrected, **HOW)
    with pytest.raises(BundleError, match="--source are for new channels"):
        restain(run, settings=ChannelSettings(source="Brightfield"), **HOW)
    with pytest.raises(StoreError, match=r"has the z-step None um; 0\.5 um was given"):
        restain(run, z_step_um=0.5, **HOW)
    report = restain(run, model=str(tiny_bundle), settings=corrected, **HOW)
    assert report.added == [f"mitochondria {tiny_bundle.name}"]
    again = restain(run, model=str(tiny_bundle), settings=corrected, **HOW)
    assert (again.channels, again.added) == (report.added, [])


def test_who_predicted_it_is_written_with_the_channel(run, bundle_of, monkeypatch):
    """In one step with the plan, so that no crash leaves a channel without its model."""
    other = bundle_of(z=1, width=8)
    with monkeypatch.context() as patch:
        patch.setattr("livestain.store.store.write_series", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):  # a stand-in for a crash just after the plan
            restain(run, model=str(other), channel="second", **HOW)
    with open_store(run) as store:
        assert store.plan.c_of("second") == 2
        assert store.attributes["models"]["second"]["bundle"] == other.name
    assert restain(run, channel="second", **HOW).planes_stained == 4
    shutil.rmtree(run)


def test_nothing_is_written_into_other_data(tmp_path, tiny_bundle):
    data, other = tmp_path / "cells.ome.tif", tmp_path / "other.ome.zarr"
    cases.write_ome_tiff(data, cases.volume(3, SHAPE), names=NAMES)
    cases.write_zarr(other, cases.volume(3, SHAPE), names=NAMES)
    before = sorted(other.rglob("*"))
    for source, out in [(data, other / "x.ome.zarr"), (other, other / "x.ome.zarr")]:
        with pytest.raises(StoreError, match="would lie inside"):
            restain(source, out=out, model=str(tiny_bundle), **HOW)
    assert sorted(other.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"channel": ""}, "cannot be called ''"),
        ({"channel": "mitochondria (predicted)"}, "Give NAME alone"),
        ({"z_step_um": -1.0}, "The z-step -1 um cannot be"),
        ({"pixel_size_um": 0.0}, "The pixel size 0 um cannot be"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(run, tiny_bundle, words, why):
    with pytest.raises(LivestainError, match=why):
        restain(run, model=str(tiny_bundle), **words, **HOW)


def test_predictions_of_other_data_are_verified_by_its_name(tmp_path, tiny_bundle):
    data = tmp_path / "cells.ome.tif"
    cases.write_ome_tiff(data, cases.volume(3, SHAPE), names=NAMES)
    with pytest.raises(StoreError, match="is a file, and no store"):
        verify_staining(data)
    restain(data, model=str(tiny_bundle), **HOW)
    assert verify_staining(data, device="cpu").passed
