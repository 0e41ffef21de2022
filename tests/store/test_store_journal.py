"""The journal: a line that was written is never lost, one that was cut never read."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_cases import at

from livestain.errors import StoreError
from livestain.store import Journal, journal_path, read_journal


@pytest.fixture
def file(tmp_path):
    return tmp_path / "run.ome.zarr.journal.jsonl"


def test_it_lies_beside_the_store():
    assert journal_path("a/run.ome.zarr") == Path("a/run.ome.zarr.journal.jsonl")


def test_lines_come_back_as_they_were_written(file):
    with Journal(file) as journal:
        journal.append("started", store=file)
        journal.append(
            "plane",
            index=at(1, 0, 2),
            exposure_ms=np.float32(12.5),
            image_number=np.int64(7),
            x_um=float("nan"),
            quality={"sharp": np.float64("inf"), "saturated": np.bool_(True)},
        )
        # Readable while it is still being written.
        started, plane = read_journal(file)
    assert (started["kind"], started["store"]) == ("started", str(file))
    assert datetime.fromisoformat(plane.pop("time")).utcoffset().total_seconds() == 0
    assert plane == {
        "kind": "plane",
        "index": [0, 1, 0, 2],
        "exposure_ms": 12.5,
        "image_number": 7,
        "x_um": None,
        "quality": {"sharp": None, "saturated": True},
    }


def test_a_time_that_is_given_stands(file):
    with Journal(file) as journal:
        journal.append("plane", time="2026-01-01T00:00:00+00:00")
    assert read_journal(file)[0]["time"] == "2026-01-01T00:00:00+00:00"


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_journal_cut_anywhere_loses_only_the_cut_line(tmp_path_factory, data):
    file = tmp_path_factory.mktemp("cut") / "journal.jsonl"
    with Journal(file) as journal:
        for t in range(4):
            journal.append("plane", index=at(t, 0, 0), why="é\n")
    whole = file.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    file.write_bytes(whole[:cut])
    left = read_journal(file)
    full_lines = whole[:cut].count(b"\n")
    assert [line["index"][1] for line in left][:full_lines] == list(range(full_lines))
    assert len(left) <= full_lines + 1
    # The next process goes on in the same file, and its first line is its own.
    with Journal(file) as journal:
        journal.append("resumed")
    again = read_journal(file)
    assert again[:-1] == left
    assert again[-1]["kind"] == "resumed"


@pytest.mark.parametrize("rubbish", [b"\0\0\0\n", b"[1]\n", b"\xff\xfe\n", b"\n\n", b"{\n"])
def test_what_is_no_line_is_left_out(file, rubbish):
    file.write_bytes(b'{"kind": "started"}\n' + rubbish + b'{"kind": "finished"}\n')
    assert [line["kind"] for line in read_journal(file)] == ["started", "finished"]


def test_threads_do_not_mix_their_lines(file):
    with Journal(file) as journal:
        threads = [
            threading.Thread(
                target=lambda t=t: [journal.append("plane", index=at(t, 0, z)) for z in range(50)]
            )
            for t in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    lines = file.read_text().splitlines()
    assert len(lines) == 200
    assert {tuple(json.loads(line)["index"]) for line in lines} == {
        (0, t, 0, z) for t in range(4) for z in range(50)
    }


def test_a_killed_process_loses_no_line(file):
    code = (
        "import sys\nfrom livestain.store import Journal\njournal = Journal(sys.argv[1])\n"
        "for t in range(10**9):\n"
        "    journal.append('plane', index=[0, t, 0, 0])\n"
        "    print(t, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, file], stdout=subprocess.PIPE) as process:
        for _ in range(30):
            last = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
        process.communicate(timeout=30)
    lines = read_journal(file)
    assert [line["index"][1] for line in lines[: last + 1]] == list(range(last + 1))


def test_closing_twice_is_once_and_a_late_line_is_an_error(file):
    journal = Journal(file)
    journal.close()
    journal.close()
    with pytest.raises(StoreError, match=r"is closed; a line of kind 'plane' came after"):
        journal.append("plane")


def test_a_journal_that_cannot_be_opened_or_read_says_so(tmp_path):
    with pytest.raises(StoreError, match="Cannot open the journal"):
        Journal(tmp_path / "nowhere" / "journal.jsonl")
    with pytest.raises(StoreError, match="Cannot read the journal"):
        read_journal(tmp_path / "nothing.jsonl")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_full_disk_is_an_error_that_names_the_journal(tmp_path):
    (tmp_path / "journal.jsonl").symlink_to("/dev/full")
    with (
        Journal(tmp_path / "journal.jsonl") as journal,
        pytest.raises(StoreError, match=r"Cannot write to the journal .*No space left"),
    ):
        journal.append("plane")
