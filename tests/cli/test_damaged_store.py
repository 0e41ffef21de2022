"""Stores that are damaged or in use: one sentence that names the file, and nothing else is lost."""

from __future__ import annotations

import os

import pytest
import useq

from livestain.live.microscope import simulated_core
from livestain.live.session import Session
from livestain.planes import PlaneIndex
from livestain.store import StoreLock, journal_path, open_store, store_status


@pytest.fixture
def left(tiny_bundle, tmp_path):
    """A store of three time points with nothing predicted yet."""
    core = simulated_core(5, shape=(256, 256))
    sequence = useq.MDASequence(
        time_plan={"interval": 0, "loops": 3},
        channels=["Brightfield", {"group": "Virtual", "config": "mitochondria"}],
    )
    out = tmp_path / "run.ome.zarr"
    models = {"mitochondria": str(tiny_bundle)}
    Session(core, sequence, out, models=models, worker="thread", leave_owed=True).run()
    core.unloadAllDevices()
    for file in (out / "0").glob("c.*.1.0.0.0"):
        file.unlink()
    # As a run leaves it that was killed before it predicted anything.
    lines = journal_path(out).read_text().splitlines(keepends=True)
    journal_path(out).write_text("".join(x for x in lines if '"stained"' not in x))
    return out


def everything(folder):
    return {p: p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def told(ended):
    assert "Traceback" not in ended.err
    return [line for line in ended.err.splitlines() if line.startswith("livestain:")]


def test_a_damaged_plane_costs_its_own_prediction_alone(
    livestain, left, tiny_bundle, tmp_path, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "1000")
    file = left / "0" / "c.1.0.0.0.0"
    whole = file.read_bytes()
    torn = bytearray(whole)
    torn[len(torn) // 2] ^= 0xFF
    file.write_bytes(torn)
    model = "--model", f"mitochondria={tiny_bundle}"
    ended = livestain("restain", left, *model)
    assert ended.code == 1
    assert all("is damaged" in line and file.name in line for line in told(ended))
    assert told(ended)
    status = store_status(left)
    assert (status.virtual.present, status.virtual.impossible, status.owed) == (2, 1, 0)
    assert file.read_bytes() == torn

    before = everything(tmp_path)
    ended = livestain("export-tiff", left, "--out", tmp_path / "run.ome.tif")
    assert ended.code == 2
    (line,) = told(ended)
    assert "is damaged" in line
    assert file.name in line
    assert everything(tmp_path) == before

    file.write_bytes(whole)  # from a copy
    assert livestain("restain", left, *model, "--again").code == 0
    assert store_status(left).virtual.present == 3


def test_a_journal_that_ends_in_mid_line_is_gone_on_with(livestain, left, tiny_bundle):
    data = journal_path(left).read_bytes()
    journal_path(left).write_bytes(data[:-7])
    model = "--model", f"mitochondria={tiny_bundle}"
    assert livestain("status", left).code == 0
    assert livestain("restain", left, *model).code == 0
    assert store_status(left).virtual.present == 3
    assert journal_path(left).read_bytes().startswith(data[:-7] + b"\n")


def test_a_store_that_is_being_written_is_left_alone(livestain, left, tiny_bundle, tmp_path):
    model = "--model", f"mitochondria={tiny_bundle}"
    with StoreLock(left, "run"):
        before = everything(tmp_path)
        for verb in ("restain", "resume"):
            for more in ([], ["--break-lock"]):
                ended = livestain(verb, left, *model, *more)
                assert ended.code == 2
                (line,) = told(ended)
                assert f"livestain run, process {os.getpid()}" in line
                assert "runs on this machine" in line
        assert everything(tmp_path) == before
    with open_store(left) as store:
        assert store.is_present(PlaneIndex(0, 0, 0, 0))
