"""Who writes to a store holds it, and whoever comes second is told who that is."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from livestain.errors import StoreError
from livestain.store import StoreLock, journal_path, lock_path, read_journal
from livestain.store import lock as store_lock

HOLD = """
import os, sys
from livestain.store import StoreLock
lock = StoreLock(sys.argv[1], "run")
print("held", flush=True)
sys.stdin.readline()
os._exit(9)
"""


def test_the_second_is_refused_and_told_who_is_first(path):
    with StoreLock(path, "run"):
        assert lock_path(path).is_file()
        with pytest.raises(
            StoreError, match=rf"livestain run, process {os.getpid()} on .*, since 20"
        ):
            StoreLock(path, "restain")
    assert not lock_path(path).exists()
    StoreLock(path, "restain").close()


def test_the_lock_of_a_process_that_was_killed_is_taken_over(path):
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match=f"process {other.pid} "):
            StoreLock(path, "restain")
        other.communicate("now\n", timeout=60)
    assert lock_path(path).is_file()
    with StoreLock(path, "restain"):
        assert json.loads(lock_path(path).read_text())["pid"] == os.getpid()
    assert not lock_path(path).exists()


@pytest.mark.parametrize("change", [{"host": "another"}, {"pid": "x"}, None])
def test_a_lock_of_which_nothing_is_known_stays(path, change):
    lock = StoreLock(path, "run")
    held = json.loads(lock_path(path).read_text())
    text = json.dumps({**held, "pid": 2**22 + 1, **change}) if change else "torn"
    lock_path(path).write_text(text)
    with pytest.raises(StoreError, match=r"gone for sure, .* --break-lock .*, or remove .*\.lock"):
        StoreLock(path, "run")
    lock.close()  # it is another's now
    assert lock_path(path).read_text() == text

    journal_path(path).touch()
    with StoreLock(path, "resume", break_lock=True) as mine:
        assert json.loads(lock_path(path).read_text())["what"] == "resume"
        assert ("cannot be read" in mine.broken) == (change is None)
    assert not list(path.parent.glob("*.lock*"))
    (line,) = read_journal(journal_path(path))
    assert (line["kind"], line["held_by"]) == ("lock-broken", mine.broken)
    if change:
        assert f"livestain run, process {json.loads(text)['pid']}" in line["held_by"]
    assert f"livestain resume, process {os.getpid()}" in line["broken_by"]


def test_a_process_that_runs_here_keeps_its_lock(path):
    journal_path(path).touch()
    with StoreLock(path, "run"):
        was = lock_path(path).read_text()
        with pytest.raises(StoreError, match=f"end process {os.getpid()} first"):
            StoreLock(path, "restain", break_lock=True)
        assert lock_path(path).read_text() == was
    assert not read_journal(journal_path(path))


def test_what_was_left_by_a_process_that_is_gone_is_not_broken(path):
    StoreLock(path, "run")
    held = json.loads(lock_path(path).read_text())
    lock_path(path).write_text(json.dumps({**held, "process_started": 1.0}))
    journal_path(path).touch()
    with StoreLock(path, "restain", break_lock=True) as mine:
        assert mine.broken == ""
    assert not read_journal(journal_path(path))


def test_a_number_that_another_process_has_now_is_no_holder(path):
    lock = StoreLock(path, "run")
    held = json.loads(lock_path(path).read_text())
    held["process_started"] -= 1000.0
    lock_path(path).write_text(json.dumps(held))
    with StoreLock(path, "restain"):
        pass
    lock.close()


def test_closing_twice_frees_nobody_elses(path):
    first = StoreLock(path, "run")
    first.close()
    with StoreLock(path, "run"):
        first.close()
        assert lock_path(path).is_file()


def test_a_folder_that_is_a_file_is_no_lock_of_somebody(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"notes\.txt is a file"):
        StoreLock(tmp_path / "notes.txt" / "run.ome.zarr", "run")


def test_of_two_who_take_over_a_lock_one_holds_it(path, monkeypatch):
    """Both have read the lock of a process that is gone; one is quicker."""
    StoreLock(path, "run")
    held = json.loads(lock_path(path).read_text())
    lock_path(path).write_text(json.dumps({**held, "process_started": 1.0}))
    looked, quicker = store_lock._is_gone, []

    def look(held):
        gone = looked(held)
        if gone and not quicker:
            quicker.append(None)
            quicker.append(StoreLock(path, "restain"))
        return gone

    monkeypatch.setattr(store_lock, "_is_gone", look)
    with pytest.raises(StoreError, match="livestain restain"):
        StoreLock(path, "run")
    assert json.loads(lock_path(path).read_text())["what"] == "restain"
    quicker[1].close()
    assert not list(path.parent.glob("*.lock*"))
