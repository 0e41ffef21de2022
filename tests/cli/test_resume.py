"""`livestain resume` and `livestain export-tiff`, as a user calls them after a crash."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest
import tifffile

from livestain.store import journal_path, open_store, read_journal, store_status

BRIGHTFIELD = {"group": "Channel", "config": "Brightfield", "exposure": 100}
VIRTUAL = {"group": "Virtual", "config": "mitochondria"}


def test_a_killed_command_goes_on_and_is_exported(livestain, sequence_file, tiny_bundle, tmp_path):
    out = tmp_path / "run.ome.zarr"
    sequence = sequence_file(
        time_plan={"interval": 0, "loops": 12},
        stage_positions=[{"x": 0, "y": 0, "name": "left"}, {"x": 40, "y": 0}],
        channels=[BRIGHTFIELD, VIRTUAL],
    )
    model = f"mitochondria={tiny_bundle}"
    command = [sys.executable, "-m", "livestain", "run", sequence, "--out", out, "--model", model]
    with subprocess.Popen(
        [*map(str, command), "--device", "cpu"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        # A fresh process takes seconds to its first plane.
        while running.poll() is None and not (
            journal_path(out).exists()
            and any(line["kind"] == "plane" for line in read_journal(journal_path(out)))
        ):
            with suppress(subprocess.TimeoutExpired):
                running.wait(0.05)
        running.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
        running.communicate(timeout=60)
    before = store_status(out)
    assert 0 < before.raw.present < 24
    assert (tmp_path / "run.ome.zarr.lock").is_file()

    ended = livestain("resume", out, "--model", model, "--device", "cpu", "--json")
    assert ended.code == 0, ended.err
    result = json.loads(ended.out.splitlines()[-1])
    assert result["planes_acquired"] == 24 - before.raw.present
    assert store_status(out).missing == 0
    assert not (tmp_path / "run.ome.zarr.lock").exists()
    assert (tmp_path / "run.report.html").is_file()

    told = livestain("status", out)
    assert [w for w in ("left", "Pos001") if w in told.out] == ["left", "Pos001"]
    assert told.out.count("  mitochondria ") == 2

    ended = livestain("export-tiff", out)
    assert ended.code == 0, ended.err
    files = [tmp_path / "run_000-left.ome.tif", tmp_path / "run_001-Pos001.ome.tif"]
    assert ended.out.split() == [str(f) for f in files]
    with open_store(out) as store:
        pixels = tifffile.imread(files[1], is_ome=True)
        index = store.plan.planned_indices(1)[-1]
        assert index.p == 1
        np.testing.assert_array_equal(pixels[index.t, 1], store.read(index))
    again = livestain("export-tiff", out)
    assert again.code == 2
    assert "exists already" in again.err


@pytest.mark.parametrize("verb", ["resume", "restain", "export-tiff", "status"])
def test_what_is_no_store_is_told_in_one_sentence(livestain, tmp_path, verb):
    ended = livestain(verb, tmp_path / "nothing.ome.zarr")
    assert ended.code == 2
    assert "nothing.ome.zarr does not exist" in ended.err
    assert "Traceback" not in ended.err
    assert not list(tmp_path.iterdir())
