"""A file system of a few megabytes that fills up: the run stops, what was written stays, and it goes on."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys

import pytest
import typer
import useq
import yaml
import yaozarrs

from livestain.cli.app import run as livestain
from livestain.cli.driving import drive_and_tell
from livestain.errors import FullDiskError, StoreError
from livestain.live.microscope import simulated_core
from livestain.live.session import Session
from livestain.store import Journal, StoreLock, journal_path, open_store, read_journal, store_status
from livestain.store.lock import lock_path

PLANE = 256 * 256 * 2


@pytest.fixture
def mount(tmp_path):
    """Return a function that makes a file system of so many bytes, or makes it larger or read-only."""
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root on Linux may mount a file system")
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options):
        how = ["-o", f"remount,{options}"] if os.path.ismount(place) else ["-o", options]
        command = ["mount", "-t", "tmpfs", *how, "tmpfs", str(place)]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            pytest.skip(f"no file system may be mounted here: {made.stderr.strip()}")
        return place

    yield mount
    if os.path.ismount(place):
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def core():
    core = simulated_core(5, shape=(256, 256))
    yield core
    core.unloadAllDevices()
    del core


def a_sequence(**time_plan):
    return useq.MDASequence(
        axis_order="tpgcz",
        time_plan={"interval": 0, **time_plan},
        channels=[
            {"group": "Channel", "config": "Brightfield", "exposure": 2},
            {"group": "Virtual", "config": "mitochondria"},
        ],
    )


def fill(place):
    """Take all space that is left, to the last byte, as somebody else's files do."""
    with (place / "ballast").open("ab", buffering=0) as file:
        for size in (2**16, 1):
            try:
                while file.write(b"x" * size):
                    pass
            except OSError:
                continue


def digests(out):
    """Of the planes that are there, read once, which checks their checksums."""
    found = {}
    with open_store(out) as store:
        for index in store.present_indices():
            store.read(index)
            name = f"c.{index.t}.{index.c}.{index.z}.0.0"
            found[index] = hashlib.sha256((out / "0" / name).read_bytes()).hexdigest()
    return found


def everything(folder):
    return {p: p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def told(capfd):
    """What a command said on standard error, without progress bars."""
    err = capfd.readouterr().err
    assert "Traceback" not in err
    return [line for line in err.splitlines() if line.startswith(("livestain:", "  Later"))]


def is_whole(out):
    yaozarrs.validate_zarr_store(str(out))
    with open_store(out) as store:
        assert [store.levels_missing(c) for c in range(2)] == [[], []]
        assert not store.plan.open_end


@pytest.mark.slow
def test_a_run_stops_when_its_disk_is_full_and_goes_on_after(
    core, tiny_bundle, mount, capfd, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "1000")
    disk = mount("size=12m")
    out, models = disk / "run.ome.zarr", {"mitochondria": str(tiny_bundle)}
    session = Session(core, a_sequence(loops=20), out, models=models, codec="none", worker="thread")
    seen = []
    session.plane_acquired.connect(
        lambda plane: seen.append(plane) or (len(seen) == 6 and fill(disk))
    )
    with pytest.raises(typer.Exit) as ended:
        raise typer.Exit(drive_and_tell(session, view=False, as_json=False))
    assert ended.value.exit_code == 1
    broke_off = [line for line in told(capfd) if "latest.png" not in line]
    assert len(broke_off) == 1, broke_off
    for word in ("the run broke off", str(out), "the disk is full", "livestain resume"):
        assert word in broke_off[0]
    assert not lock_path(out).exists()

    kept = digests(out)
    assert len([i for i in kept if i.c == 0]) >= 6
    assert livestain(["status", str(out)]) == 0
    status = store_status(out)
    assert (status.planned, status.present, status.skipped) == (40, len(kept), 0)
    assert not [x for x in read_journal(journal_path(out)) if x["kind"] == "impossible"]

    # While it is full, nothing can go on, and nothing is lost by trying.
    fill(disk)
    before = everything(disk)
    model = f"mitochondria={tiny_bundle}"
    capfd.readouterr()
    for verb in ("resume", "restain"):
        assert livestain([verb, str(out), "--model", model]) == 2
        (line,) = told(capfd)
        assert str(lock_path(out)) in line
        assert "on a disk with space" in line
    assert everything(disk) == before

    mount("size=64m")
    assert livestain(["resume", str(out), "--model", model]) == 0
    after = digests(out)
    assert {index: after[index] for index in kept} == kept
    status = store_status(out)
    assert (status.present, status.missing, status.finished) == (40, 0, True)
    is_whole(out)


def test_a_run_without_an_end_fills_its_disk(core, tiny_bundle, mount):
    """Nobody else takes the space; the end of its time is settled when there is space."""
    out, models = mount("size=4m") / "run.ome.zarr", {"mitochondria": str(tiny_bundle)}
    session = Session(
        core, a_sequence(duration=0), out, models=models, codec="none", worker="thread"
    )
    with pytest.raises(FullDiskError, match="the disk is full"):
        session.run()
    assert not lock_path(out).exists()
    kept = digests(out)
    assert store_status(out).present == len(kept)
    assert len(kept) * PLANE > 2e6, "about half of the disk, at least"
    mount("size=32m")
    session = Session.resume(core, out, models=models, worker="thread")
    seen = []
    session.plane_acquired.connect(
        lambda plane: seen.append(plane) or (len(seen) == 5 and session.cancel())
    )
    assert session.run().planes_acquired >= 5
    after = digests(out)
    assert {index: after[index] for index in kept} == kept
    status = store_status(out)
    assert status.owed == 0
    assert len(after) >= len(kept) + 10
    is_whole(out)


def test_a_full_disk_is_no_fault_of_a_plane(core, tiny_bundle, mount):
    """What the worker cannot write for want of space stays owed, however often it has tried."""
    disk = mount("size=16m")
    out, models = disk / "run.ome.zarr", {"mitochondria": str(tiny_bundle)}
    session = Session(
        core, a_sequence(loops=3), out, models=models, worker="thread", leave_owed=True
    )
    session.run()
    with open_store(out) as store:
        for index in store.plan.planned_indices(1):
            for level in range(2):
                (out / str(level) / f"c.{index.t}.1.0.0.0").unlink(missing_ok=True)
    # Space for the journal's lines, and not for a plane.
    fill(disk)
    with (disk / "ballast").open("r+b") as file:
        file.truncate(file.seek(0, 2) - 2**15)
    for _ in range(3):
        with pytest.raises(FullDiskError):
            Session.resume(core, out, models=models, worker="thread").run()
        assert store_status(out).owed == 3
    (disk / "ballast").unlink()
    assert Session.resume(core, out, models=models, worker="thread").run().planes_stained == 3
    is_whole(out)


def test_a_full_disk_is_refused_before_anything_is_written(tiny_bundle, mount, tmp_path, capfd):
    disk = mount("size=1m")
    fill(disk)
    sequence = tmp_path / "sequence.yaml"
    sequence.write_text(
        yaml.safe_dump(a_sequence(loops=3).model_dump(mode="json", exclude_unset=True))
    )
    before = everything(disk)
    for more in ([], ["--dry-run"]):
        arguments = ["run", str(sequence), "--out", str(disk / "run.ome.zarr"), *more]
        assert livestain([*arguments, "--model", f"mitochondria={tiny_bundle}"]) == 2
        (line,) = told(capfd)
        assert f"{disk} has 0.0 MB free" in line
    assert everything(disk) == before


def test_a_store_on_a_disk_that_takes_nothing_is_read_and_nothing_else(
    core, tiny_bundle, mount, tmp_path, capfd
):
    disk = mount("size=16m")
    out, model = disk / "run.ome.zarr", f"mitochondria={tiny_bundle}"
    Session(
        core,
        a_sequence(loops=2),
        out,
        models={"mitochondria": str(tiny_bundle)},
        worker="thread",
        leave_owed=True,
    ).run()
    before = everything(disk)
    mount("ro")
    assert livestain(["status", str(out)]) == 0
    assert livestain(["export-tiff", str(out), "--out", str(tmp_path / "run.ome.tif")]) == 0
    capfd.readouterr()
    sequence = tmp_path / "sequence.yaml"
    sequence.write_text(
        yaml.safe_dump(a_sequence(loops=3).model_dump(mode="json", exclude_unset=True))
    )
    for arguments in (
        ["resume", str(out)],
        ["restain", str(out)],
        ["run", str(sequence), "--out", str(disk / "other.ome.zarr")],
    ):
        assert livestain([*arguments, "--model", model]) == 2
        (line,) = told(capfd)
        assert line.startswith("livestain: Cannot write")
        assert str(disk) in line
    assert livestain(["export-tiff", str(out), "--out", str(disk / "run.ome.tif")]) == 2
    (line,) = told(capfd)
    assert str(disk) in line
    assert everything(disk) == before
    mount("rw")


def write_for_ever(journal):
    while True:
        journal.append("plane", index=(0, 0, 0, 0), words="w" * 100)


def test_a_line_that_a_full_disk_cut_takes_no_other_with_it(mount):
    disk = mount("size=8k")
    with Journal(disk / "journal.jsonl") as journal:
        for _ in range(2):
            with pytest.raises(FullDiskError, match="journal"):
                write_for_ever(journal)
        whole = len(read_journal(journal.path))
        mount("size=64k")
        journal.append("finished")
        journal.append("resumed")
    lines = read_journal(journal.path)
    assert [line["kind"] for line in lines[whole:]] == ["finished", "resumed"]


def test_a_lock_that_cannot_be_written_leaves_nothing(mount):
    disk = mount("size=64k")
    fill(disk)
    for _ in range(2):
        with pytest.raises(StoreError, match="on a disk with space"):
            StoreLock(disk / "run.ome.zarr", "run")
    (disk / "ballast").unlink()
    with StoreLock(disk / "run.ome.zarr", "run"):
        assert lock_path(disk / "run.ome.zarr").is_file()
