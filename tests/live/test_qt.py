"""A session in a Qt program: the window stays alive, frames do not wait for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import zarr

# Qt needs libraries of the system too (libEGL), which a bare machine may lack.
pytest.importorskip("PySide6.QtWidgets", exc_type=ImportError)
pytest.importorskip("qtpy")

PROGRAM = """
import json, sys, threading, time
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

app = QApplication([])

import numpy as np
import psygnal.qt
import useq
from livestain import Session, simulated_core

out, bundle = sys.argv[1:]
core = simulated_core(4, shape=(48, 64))
gui = threading.get_ident()
heard = {"acquired": [], "stained": [], "threads": set(), "finished": [], "frame_threads": set()}
frames, ticks = {}, []

sequence = useq.MDASequence(
    axis_order="tpgcz",
    time_plan={"interval": 0, "loops": 4},
    z_plan={"range": 1.0, "step": 0.5},
    channels=[
        {"group": "Channel", "config": "Brightfield", "exposure": 5},
        {"group": "Virtual", "config": "mitochondria"},
    ],
)
session = Session(core, sequence, out, models={"mitochondria": bundle}, device="cpu")
on_frame = session._on_frame


def watch(image, event, meta):
    heard["frame_threads"].add(threading.get_ident())
    frames[f"{event.index['t']} {event.index['z']}"] = int(np.array(image).astype(np.uint64).sum())
    on_frame(image, event, meta)


session._on_frame = watch


def hear(kind):
    def slot(value):
        heard["threads"].add(threading.get_ident())
        heard[kind].append(value)
        if kind == "finished":
            app.quit()
    return slot


psygnal.qt.start_emitting_from_queue()
slots = {kind: hear(kind) for kind in ("acquired", "stained", "finished")}
session.plane_acquired.connect(slots["acquired"], thread="main")
session.plane_stained.connect(slots["stained"], thread="main")
session.finished.connect(slots["finished"], thread="main")

timer = QTimer()
timer.timeout.connect(lambda: ticks.append(0))
timer.start(5)
QTimer.singleShot(120_000, lambda: app.exit(3))
session.start()
code = app.exec()
psygnal.qt.stop_emitting_from_queue()
report = session.wait(10)
print(json.dumps({
    "code": code,
    "signals": type(core.mda.events.frameReady).__module__,
    "heard_in_gui": heard["threads"] == {gui},
    "frames_in_gui": gui in heard["frame_threads"],
    "frame_threads": len(heard["frame_threads"]),
    "acquired": len(heard["acquired"]),
    "stained": len(heard["stained"]),
    "finished": len(heard["finished"]),
    "missing": report.planes_missing,
    "ticks": len(ticks),
    "frames": frames,
}))
"""


def run_program(tmp_path, text, *arguments):
    program = tmp_path / "program.py"
    program.write_text(text)
    ended = subprocess.run(
        [sys.executable, program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
        env=os.environ | {"QT_QPA_PLATFORM": "offscreen", "QT_API": "pyside6"},
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1]), ended.stderr


def test_a_qt_program_runs_a_session_beside_its_event_loop(tmp_path, tiny_bundle):
    out = tmp_path / "run.ome.zarr"
    told, err = run_program(tmp_path, PROGRAM, out, tiny_bundle)
    assert told["signals"].startswith("PySide6"), "pymmcore-plus' signals are Qt's"
    assert told["code"] == 0
    assert not told["frames_in_gui"], "a frame must not wait for the window"
    assert told["frame_threads"] == 1
    assert told["heard_in_gui"]
    assert (told["acquired"], told["stained"], told["finished"]) == (12, 12, 1)
    assert told["missing"] == 0
    assert told["ticks"] > 0
    assert "Traceback" not in err
    array = zarr.open(out, mode="r")["0"]
    for place, total in told["frames"].items():
        t, z = map(int, place.split())
        assert array[t, 0, z].astype(np.uint64).sum() == total


BUSY = """
import json, sys, threading
from qtpy.QtWidgets import QApplication

app = QApplication([])

import useq
from livestain import Session, simulated_core

core = simulated_core(4, shape=(48, 64))
sequence = useq.MDASequence(
    time_plan={"interval": 0, "loops": 6}, channels=[{"group": "Channel", "config": "Brightfield"}]
)
# The main thread waits and never turns its event loop, as in a script that made a QApplication.
report = Session(core, sequence, sys.argv[1]).run()
print(json.dumps({"acquired": report.planes_acquired, "missing": report.planes_missing}))
"""


def test_frames_do_not_wait_for_an_event_loop_that_never_turns(tmp_path):
    told, _ = run_program(tmp_path, BUSY, tmp_path / "run.ome.zarr")
    assert told == {"acquired": 6, "missing": 0}


def test_a_program_without_qt_loads_none(tmp_path):
    text = (
        "import json, sys, useq\n"
        "from livestain import Session, simulated_core\n"
        "core = simulated_core(4, shape=(48, 64))\n"
        "sequence = useq.MDASequence(time_plan={'interval': 0, 'loops': 2}, channels=['Brightfield'])\n"
        "Session(core, sequence, sys.argv[1]).run()\n"
        "print(json.dumps([m for m in sys.modules if m.startswith(('PySide6', 'PyQt', 'torch'))]))\n"
    )
    told, _ = run_program(tmp_path, text, tmp_path / "run.ome.zarr")
    assert told == []
