"""Stores that are damaged or in use: one sentence that names the file, and nothing else is lost."""

from __future__ import annotations

import json
import os
import shutil

import pytest
import useq

from livestain.live.microscope import simulated_core
from livestain.live.session import Session
from livestain.planes import PlaneIndex
from livestain.restain import restain
from livestain.store import (
    StoreLock,
    journal_path,
    lock_path,
    open_store,
    read_journal,
    store_status,
)

OTHERS = {"what": "run", "host": "scope-2", "pid": 4711, "since": "2026-01-02T03:04:05+00:00"}


@pytest.fixture(scope="module")
def whole(tiny_bundle, tmp_path_factory):
    """A folder with the store and journal of a run of three time points."""
    folder = tmp_path_factory.mktemp("whole")
    core = simulated_core(5, shape=(256, 256))
    sequence = useq.MDASequence(
        time_plan={"interval": 0, "loops": 3},
        channels=["Brightfield", {"group": "Virtual", "config": "mitochondria"}],
    )
    models = {"mitochondria": str(tiny_bundle)}
    Session(core, sequence, folder / "run.ome.zarr", models=models, worker="thread").run()
    core.unloadAllDevices()
    return folder


@pytest.fixture
def done(whole, tmp_path):
    """A copy of the run, with nothing left to be done."""
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    return tmp_path / "run.ome.zarr"


@pytest.fixture
def left(done):
    """A copy of the run with nothing predicted yet."""
    for file in (done / "0").glob("c.*.1.0.0.0"):
        file.unlink()
    # As a run leaves it that was killed before it predicted anything.
    lines = journal_path(done).read_text().splitlines(keepends=True)
    journal_path(done).write_text("".join(x for x in lines if '"stained"' not in x))
    return done


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
    ended = livestain("restain", left, "--model", f"mitochondria={tiny_bundle}", "--json")
    assert ended.code == 1
    report = json.loads(ended.out.splitlines()[-1])
    assert (report["store"], report["planes_stained"], report["planes_failed"]) == (str(left), 2, 1)
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
    models = {"mitochondria": str(tiny_bundle)}
    assert restain(left, models=models, worker="thread", again=True).planes_stained == 1
    assert store_status(left).virtual.present == 3


def test_a_journal_that_ends_in_mid_line_is_gone_on_with(livestain, left, tiny_bundle):
    data = journal_path(left).read_bytes()
    journal_path(left).write_bytes(data[:-7])
    assert livestain("status", left).code == 0
    restain(left, models={"mitochondria": str(tiny_bundle)}, worker="thread")
    assert store_status(left).virtual.present == 3
    assert journal_path(left).read_bytes().startswith(data[:-7] + b"\n")


# -- in use -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["restain", "resume"])
def test_a_store_that_is_being_written_is_left_alone(livestain, left, tiny_bundle, tmp_path, verb):
    """Even if asked to break the lock: the process that holds it is here, and runs."""
    with StoreLock(left, "run"):
        before = everything(tmp_path)
        ended = livestain(verb, left, "--model", f"mitochondria={tiny_bundle}", "--break-lock")
        assert ended.code == 2
        (line,) = told(ended)
        assert f"livestain run, process {os.getpid()}" in line
        assert "runs on this machine" in line
        assert everything(tmp_path) == before
    with open_store(left) as store:
        assert store.is_present(PlaneIndex(0, 0, 0, 0))


@pytest.mark.parametrize("verb", ["resume", "restain", "compact"])
def test_the_option_takes_over_what_another_machine_may_write_to(
    livestain, done, tiny_bundle, verb
):
    """With nothing left to be done, the commands do nothing else."""
    call = [verb, done]
    if verb != "compact":
        call += ["--model", f"mitochondria={tiny_bundle}"]
    lock_path(done).write_text(json.dumps(OTHERS))
    was = journal_path(done).read_bytes()
    refused = livestain(*call)
    assert refused.code == 2
    (line,) = told(refused)
    assert "livestain run, process 4711 on scope-2, since 2026-01-02" in line
    assert "--break-lock" in line
    assert journal_path(done).read_bytes() == was
    assert json.loads(lock_path(done).read_text()) == OTHERS

    assert livestain(*call, "--break-lock").code == 0
    (broken,) = [x for x in read_journal(journal_path(done)) if x["kind"] == "lock-broken"]
    assert "process 4711 on scope-2" in broken["held_by"]
    assert not lock_path(done).exists()
    assert store_status(done).present == 6
