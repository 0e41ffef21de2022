"""A store that is compacted while others read it: what is there is never called missing."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from store_cases import at, make_plan, plane_of

from livestain.errors import StoreError
from livestain.store import (
    STOPPED,
    Journal,
    compact_store,
    create_store,
    journal_path,
    open_store,
    store_status,
)

CHILD = """
import sys
from livestain.store import compact_store
print("ready", flush=True)
sys.stdin.readline()
for _ in range(2):  # there and back, in files of another size
    compact_store(sys.argv[1], file_mb=0.2, unfinished=True)
    compact_store(sys.argv[1], unfinished=True)
"""


@pytest.fixture
def many(path):
    plan = make_plan(n_t=300, n_z=1, virtual=False)
    with create_store(path, plan) as store:
        for index in plan.planned_indices(0):
            store.write(index, plane_of(index))
    return path


def test_a_reader_sees_every_plane_while_the_files_change(many):
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(many)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "ready\n"
    with open_store(many) as reader:
        reader.read(at(0, 0, 0))
        child.stdin.write("go\n")
        child.stdin.flush()
        looks = 0
        while child.poll() is None:
            assert reader.present(0).all()
            for t in range(looks % 7, 300, 7):
                assert reader.is_present(at(t, 0, 0))
                np.testing.assert_array_equal(reader.read(at(t, 0, 0)), plane_of(at(t, 0, 0)))
            looks += 1
    assert child.communicate()[0] == ""
    assert (child.returncode, looks > 1) == (0, True)


def test_what_is_left_of_old_files_is_cleared_by_the_next(many):
    compact_store(many)
    left = (
        many / "0"
    )  # as a kill, or a viewer that held files open, leaves it: without its zarr.json
    left.mkdir()
    (left / "c.5.0.0.0.0").write_bytes(b"old")
    compact_store(many, file_mb=0.2)
    assert sorted(p.name for p in many.iterdir() if p.is_dir()) == ["0.2"]
    assert store_status(many).present == 300


def test_nothing_to_do_is_told(many):
    first, again = compact_store(many), compact_store(many)
    assert (first.planes, again.planes) == (300, 0)
    assert first.files_after == again.files_before == again.files_after
    seen = []
    compact_store(many, progress=lambda done, of: seen.append((done, of)))
    assert not seen


def test_a_run_that_was_stopped_can_be_resumed_so_it_is_not_compacted_unasked(path):
    with create_store(path, make_plan(n_t=4)) as store, Journal(journal_path(path)) as journal:
        for index in store.plan.planned_indices(0):
            if index.t < 2:
                store.write(index, plane_of(index)).result()
                journal.append("plane", index=index)
            else:
                journal.append("missing", index=index, why=STOPPED)
        journal.append("finished", interrupted=True)
    assert store_status(path).raw.owed == 0
    with pytest.raises(StoreError, match=r"6 planes of .* were never taken"):
        compact_store(path)
    assert compact_store(path, unfinished=True).planes == 6
