"""`--view`: a window beside a run of the real command, without a screen; Ctrl-C and closing it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from livestain.store import open_store, store_status

pytest.importorskip("PySide6.QtWidgets", exc_type=ImportError)
if not all(map(find_spec, ("ndv", "pygfx", "vispy"))):
    pytest.skip("the extra `view`, or vispy, is not installed", allow_module_level=True)

COMMAND = """
import sys
import pyconify.api
from livestain.live.session import Session
from livestain.monitor.viewer import RunViewer


def no_icon():
    raise OSError("a test does not ask the internet for icons")


pyconify.api._session = no_icon
close_at = int(sys.argv.pop(1))  # the time point at which somebody closes the window
start, refresh = Session.start, RunViewer.refresh
stained = []


def watched(self):
    self.plane_stained.connect(stained.append)
    start(self)


def looked(self):
    refresh(self)
    names = [lut.name for _, lut in sorted(self._model.luts.items())]
    shown = self._model.current_index["t"]
    print(f"shown {shown} {len(stained)} {names} {self.follows}", flush=True)
    if shown >= close_at:
        self.widget.close()


Session.start, RunViewer.refresh = watched, looked
from livestain.cli.app import run

sys.exit(run(sys.argv[1:]))
"""
"""The command itself, with a line on standard output whenever its window was brought up to date."""

NEVER = 10**9


@pytest.fixture
def command(sequence_file, bundle_of, tmp_path):
    """Start a run in a process group of its own, as a terminal does."""
    started = []

    def start(loops, close_at=NEVER, slow=False):
        out = tmp_path / "run.ome.zarr"
        bundle = bundle_of(width=32, depth=3) if slow else bundle_of()
        sequence = sequence_file(time_plan={"interval": 0, "loops": loops})
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", COMMAND, str(close_at), "run", sequence, "--out", out),
                *("--view", "--model", f"mitochondria={bundle}", "--device", "cpu"),
                *("--threads", "1", "--json"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=os.environ
            | {
                "QT_QPA_PLATFORM": "offscreen",
                "QT_API": "pyside6",
                "NDV_CANVAS_BACKEND": "vispy",  # its canvas is there without graphics, and blank
            },
        )
        started.append(process)
        return process, out

    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_for(stream, word):
    line = ""
    while word not in line:
        line = stream.readline()
        assert line, f"it ended without {word!r}"
    return line


def press_ctrl_c(process):
    os.killpg(process.pid, signal.SIGINT)


def result_of(stdout):
    (line,) = [line for line in stdout.splitlines() if line.startswith("{")]
    return json.loads(line)


def test_a_window_that_is_closed_stops_nothing(command, tmp_path):
    process, _ = command(loops=60, close_at=1)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert "Traceback" not in stderr
    assert "The window was closed; the run goes on." in stderr
    assert "The window stays" not in stderr
    shown = [line for line in stdout.splitlines() if line.startswith("shown")]
    assert shown[-1].split()[1] != "59", "it was closed on the way"
    result = result_of(stdout)
    assert (result["planes_acquired"], result["planes_stained"]) == (60, 60)
    with Image.open(tmp_path / "run.latest.png") as picture:
        assert np.asarray(picture).std() > 10


def test_the_window_follows_and_stays_after_the_run(command):
    process, out = command(loops=30)
    last = wait_for(process.stdout, "shown 29")
    assert last.rstrip().endswith("True")
    wait_for(process.stderr, "The window stays until you close it")
    assert store_status(out).missing == 0
    line = wait_for(process.stdout, "shown 29 30")
    assert "['Brightfield', 'predicted mitochondria']" in line
    press_ctrl_c(process)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 0, stderr
    assert "Traceback" not in stderr


def test_ctrl_c_once_stains_what_is_owed_and_leaves_the_window(command):
    process, out = command(loops=1500)
    wait_for(process.stdout, "'predicted mitochondria'] True")
    press_ctrl_c(process)
    wait_for(process.stderr, "Stopped acquiring")
    wait_for(process.stderr, "The window stays until you close it")
    press_ctrl_c(process)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    status = store_status(out)
    assert 0 < status.raw.present < 1500
    assert status.virtual.present == status.raw.present
    assert result_of(stdout)["interrupted"]


def test_ctrl_c_twice_ends_run_and_window(command):
    process, out = command(loops=1500, slow=True)
    wait_for(process.stdout, "'predicted mitochondria'] True")
    press_ctrl_c(process)
    wait_for(process.stderr, "Stopped acquiring")
    press_ctrl_c(process)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    assert "The window stays" not in stderr
    assert "Traceback" not in stderr
    with open_store(out) as store:
        raw, virtual = store.present(0).sum(), store.present(1).sum()
    assert virtual < raw < 1500


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there always is a display")
@pytest.mark.parametrize("verb", ["run", "demo", "snap"])
def test_without_a_display_nothing_is_touched(
    verb, livestain, sequence_file, tmp_path, monkeypatch
):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    words = {
        "run": ("run", sequence_file(), "--out", tmp_path / "run.ome.zarr"),
        "demo": ("demo", "--out", tmp_path),
        "snap": ("snap", "--out", tmp_path / "snap.png"),
    }[verb]
    before = set(tmp_path.iterdir())
    ended = livestain(*words, "--view")
    assert ended.code == 2
    assert "--view needs a display" in ended.err
    assert set(tmp_path.iterdir()) == before


def test_without_the_extra_it_says_how_to_install_it(
    livestain, sequence_file, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "ndv", None)
    out = tmp_path / "run.ome.zarr"
    ended = livestain("run", sequence_file(), "--out", out, "--view")
    assert ended.code == 2
    assert 'pip install "livestain[view]"' in ended.err
    assert not out.exists()
