"""A person chooses a virtual channel in pymmcore-widgets' acquisition widget, as in napari-micromanager."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import zarr

from livestain.bundle import read_bundle
from livestain.inference import Stainer

# Qt needs libraries of the system too (libEGL), which a bare machine may lack.
pytest.importorskip("PySide6.QtWidgets", exc_type=ImportError)
# Not imported here: pymmcore-plus would then make the signals of all later tests Qt's.
if find_spec("pymmcore_widgets") is None:
    pytest.skip("pymmcore-widgets is not installed", allow_module_level=True)

PROGRAM = """
import json, sys
from pathlib import Path
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QComboBox

app = QApplication([])

# Its icons come from a server on the internet, for which a test must not ask.
import superqt.iconify


def no_icon(*key, **how):
    raise OSError("no icons")


superqt.iconify.svg_path = no_icon
from pymmcore_widgets import MDAWidget

import livestain

out, bundle = map(Path, sys.argv[1:])
core = livestain.simulated_core(4, shape=(48, 64))
core.mda.engine.use_hardware_sequencing = False
widget = MDAWidget(mmcore=core)
table = widget.channels.table()


def choices():
    widget.channels.act_add_row.trigger()
    cell = table.cellWidget(0, table.indexOf(widget.channels._config_column)).findChild(QComboBox)
    listed = [cell.itemText(n) for n in range(cell.count())]
    widget.channels.act_clear.trigger()
    return listed


before = choices()
livestain.install(core, {"mitochondria": bundle}, device="cpu")
listed = choices()

for row, preset in enumerate(("Brightfield", "mitochondria (virtual)")):
    widget.channels.act_add_row.trigger()
    column = table.indexOf(widget.channels._config_column)
    table.cellWidget(row, column).setCurrentText(preset)
    table.cellWidget(row, table.indexOf(widget.channels.EXPOSURE)).setValue(5)
widget.tab_wdg.setChecked(widget.channels, True)
widget.save_info.setValue({"save_dir": str(out.parent), "save_name": out.name, "should_save": True})

exposures, seen = [], []
snap = core.snapImage
core.snapImage = lambda: (exposures.append(core.getCurrentConfig("Channel")), snap())
core.mda.events.frameReady.connect(lambda img, event, meta: seen.append(event.channel.config))
core.mda.events.sequenceFinished.connect(lambda sequence: QTimer.singleShot(0, app.quit))
QTimer.singleShot(60_000, lambda: app.exit(3))
widget.control_btns.run_btn.click()
code = app.exec()
livestain.uninstall(core)
print(json.dumps({
    "code": code,
    "before": before,
    "listed": listed,
    "after": choices(),
    "exposures": exposures,
    "seen": seen,
}))
"""


def test_a_virtual_channel_is_chosen_in_the_channel_table(tmp_path, tiny_bundle):
    program, out = tmp_path / "program.py", tmp_path / "run.ome.zarr"
    program.write_text(PROGRAM)
    ended = subprocess.run(
        [sys.executable, program, out, tiny_bundle],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | {"QT_QPA_PLATFORM": "offscreen", "QT_API": "pyside6"},
    )
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout.splitlines()[-1])
    assert told["code"] == 0, ended.stderr
    assert told["listed"] == [*told["before"], "mitochondria (virtual)"]
    assert told["after"] == told["before"]
    assert told["exposures"] == ["Brightfield"], "one, and none for the virtual channel"
    assert told["seen"] == ["Brightfield", "mitochondria (virtual)"]
    array = zarr.open(out, mode="r")["0"][:].reshape(2, 48, 64)
    with Stainer(read_bundle(tiny_bundle), device="cpu") as stainer:
        values = stainer.stain(array[:1])[0].astype(np.float64)
    np.testing.assert_array_equal(array[1], np.rint((values + 20.0) / 0.001).astype(np.uint16))
