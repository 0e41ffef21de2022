"""The window itself: ndv's real one, without a screen.

Programs of their own run it, since a QApplication would change the signals of all later tests. Qt's offscreen
platform has no OpenGL, so that vispy's canvas is there and stays blank; pygfx' canvas draws wherever there
is a graphics adapter, also one made of software.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from livestain.errors import MissingExtraError, ViewError
from livestain.monitor.viewer import check_viewer

pytest.importorskip("PySide6.QtWidgets", exc_type=ImportError)
if not all(map(find_spec, ("ndv", "pygfx", "vispy"))):
    pytest.skip("the extra `view`, or vispy, is not installed", allow_module_level=True)

BEGIN = """
import json, sys, threading, time
from pathlib import Path

import numpy as np
import pyconify.api


def no_icon():
    raise OSError("a test does not ask the internet for icons")


pyconify.api._session = no_icon

from livestain.monitor.viewer import RunViewer
from livestain.planes import PlaneIndex
from livestain.store import ChannelPlan, PlannedBlock, StorePlan, VirtualPlan, create_store

N_T, N_Z, SHAPE = 6, 3, (40, 48)


def channel(name, color, display, virtual=None):
    blocks = (PlannedBlock(t=range(N_T), z=range(N_Z)),)
    kind = "raw" if virtual is None else "virtual"
    return ChannelPlan(
        name=name, kind=kind, color=color, display=display, planned=blocks, virtual=virtual
    )


virtual = VirtualPlan(
    source="Brightfield", scale=0.5, offset=-1.0, unit="counts", bundle="demo",
    bundle_sha256="0" * 64, output="mitochondria",
)
plan = StorePlan(
    n_t=N_T, n_z=N_Z, height=SHAPE[0], width=SHAPE[1], pixel_size_um=0.1, z_step_um=0.3,
    channels=(
        channel("Brightfield", "FFFFFF", (0, 4095)),
        channel("Mitochondria", "00FF00", (0, 4095)),
        channel("mitochondria", "FF00FF", (100, 2000), virtual),
    ),
)
out = Path(sys.argv[1])
viewer = RunViewer(plan, out.name)
store = create_store(out, plan)


def plane(t, c, z):
    rng = np.random.default_rng([t, c, z])
    return rng.integers(1, 4000, SHAPE, dtype=np.uint16)


def come(t, c, z, image=None):
    store.write(PlaneIndex(0, t, c, z), plane(t, c, z) if image is None else image).result()
    viewer.note(PlaneIndex(0, t, c, z))


def turn(until, seconds=20):
    end = time.monotonic() + seconds
    viewer.turn(lambda: until() or time.monotonic() > end)
    assert until() or not viewer.is_open, "it never happened"


def index():
    return {axis: viewer._model.current_index[axis] for axis in "tz"}


def drawn(c):
    "What ndv has given to its canvas."
    return viewer._viewer._lut_controllers[c].handles[0].data()


def is_drawn(t, c, z):
    controllers = viewer._viewer._lut_controllers
    return c in controllers and np.array_equal(drawn(c), plane(t, c, z))


def told():
    luts = viewer._model.luts
    views = viewer._viewer._lut_controllers
    return {
        "names": [luts[c].name for c in range(3)],
        "visible": [luts[c].visible for c in range(3)],
        "boxes": [views[c].lut_views[0]._qwidget.visible.isChecked() for c in range(3)],
        "labels": [views[c].lut_views[0]._qwidget.visible.text() for c in range(3)],
        "title": viewer.widget.windowTitle(),
        **index(),
    }
"""

FOLLOWS = (
    BEGIN
    + """
viewer.open(store.path)
heard = {"mode": str(viewer._model.channel_mode)}
turn(lambda: len(viewer._viewer._lut_controllers) == 3)
heard["nothing"] = told()
come(0, 0, 1)
come(0, 2, 1)
turn(lambda: is_drawn(0, 0, 1) and is_drawn(0, 2, 1))
heard["first"] = told()
heard["blank"] = int(drawn(1).max())
luts = viewer._model.luts
heard["colours"] = [luts[c].cmap(1.0).hex for c in range(3)]
heard["darkest"] = [luts[c].cmap(0.0).hex for c in range(3)]
heard["clims"] = [(luts[c].clims.min, luts[c].clims.max) for c in range(3)]
heard["ratio"] = viewer._viewer._resolved.visible_scales

store.set_display(1, 120.0, 3000.0)  # by its first plane, as a session does
for c in (0, 1, 2):
    come(3, c, 1)
turn(lambda: index()["t"] == 3 and all(is_drawn(3, c, 1) for c in range(3)))
heard["newest"] = told()
heard["clims later"] = (luts[1].clims.min, luts[1].clims.max)

# The user looks back ...
slider = viewer.widget.dims_sliders._sliders["t"]
slider.setValue(1)
turn(lambda: not viewer.follows)
come(4, 0, 1)
come(4, 2, 1)
turn(lambda: viewer._following.newest(0, 1, time.monotonic()) == 4)
heard["looking back"] = told()
come(1, 2, 1)  # filled in late, at the place that is shown
turn(lambda: is_drawn(1, 2, 1))
heard["filled in"] = told()
# ... and then to the end.
slider.setValue(N_T - 1)
turn(lambda: index()["t"] == 4 and is_drawn(4, 2, 1))
heard["followed again"] = told()

# Another depth is the user's, and followed at; channels that he hides stay hidden.
luts[2].visible = False
viewer.widget.dims_sliders._sliders["z"].setValue(2)
for c in (0, 2):
    come(5, c, 2)
turn(lambda: index() == {"t": 5, "z": 2} and is_drawn(5, 0, 2))
heard["depth"] = told()

viewer.over()
heard["over"] = viewer.widget.windowTitle()
threading.Timer(0.2, lambda: None).start()
heard["open"] = viewer.is_open
viewer.widget.close()
turn(lambda: False)  # ends since the window is closed
heard["open then"] = viewer.is_open
viewer.close()
viewer.close()
heard["error"] = str(viewer.error)
print(json.dumps(heard))
"""
)

ANY_THREAD = (
    BEGIN
    + """
import threading

viewer.open(store.path)
writing = threading.Event()


def write():
    for t in range(N_T):
        for z in range(N_Z):
            for c in (0, 2):
                come(t, c, z)
    writing.set()


thread = threading.Thread(target=write)
thread.start()
turn(lambda: writing.is_set() and is_drawn(N_T - 1, 2, 1))
thread.join()
heard = {**told(), "error": str(viewer.error)}
try:
    viewer.turn(lambda: 1 / 0)
except ZeroDivisionError:
    heard["raised"] = True
came = time.perf_counter()
for _ in range(1000):
    viewer.note(PlaneIndex(0, 0, 0, 0))
heard["note_us"] = (time.perf_counter() - came) * 1e3
viewer.close()
print(json.dumps(heard))
"""
)

GROWS = (
    BEGIN.replace("n_t=N_T", "n_t=2, open_end=True").replace("t=range(N_T)", "t=(0,)")
    + """
viewer.open(store.path)
slider = viewer.widget.dims_sliders._sliders["t"]
come(0, 0, 1)
come(0, 2, 1)
turn(lambda: is_drawn(0, 2, 1))
heard = {"room": slider.maximum()}
store.grow(5)
for c in (0, 2):
    come(4, c, 1)
turn(lambda: index()["t"] == 4 and is_drawn(4, 2, 1))
heard["grown"] = [slider.maximum(), slider.value(), told()["visible"]]
store.settle({c: store.present(c) for c in range(3)})
viewer.over()
turn(lambda: slider.maximum() == 4)
heard["settled"] = [slider.maximum(), slider.value(), told()["visible"], str(viewer.error)]
viewer.close()
print(json.dumps(heard))
"""
)

PICTURE = (
    BEGIN
    + """
from qtpy.QtGui import QImage


def middle():
    "Mean colour of the left and of the right half of the middle of the canvas."
    image = viewer.widget.grab().toImage().convertToFormat(QImage.Format.Format_RGB888)
    flat = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), -1)
    pixels = flat[:, : 3 * image.width()].reshape(image.height(), image.width(), 3)
    top = viewer.widget._canvas_widget.mapTo(viewer.widget, viewer.widget.rect().topLeft())
    h, w = viewer.widget._canvas_widget.height(), viewer.widget._canvas_widget.width()
    y, x = top.y() + h // 2, top.x() + w // 2
    band = pixels[y - 10 : y + 10]
    return [band[:, x - 40 : x - 10].mean((0, 1)).tolist(), band[:, x + 10 : x + 40].mean((0, 1)).tolist()]


def looks(left, right):
    return lambda: np.allclose(middle(), [left, right], atol=6)


viewer.open(store.path)
viewer.widget.resize(300, 420)
grey = np.full(SHAPE, 2048, np.uint16)
stain = np.full(SHAPE, 100, np.uint16)
stain[:, : SHAPE[1] // 2] = 2000
heard = []
come(0, 0, 1, grey)
turn(looks([128] * 3, [128] * 3), 60)
heard.append(middle())
come(0, 2, 1, stain)
turn(looks([255, 128, 255], [128] * 3), 60)
heard.append(middle())
come(2, 0, 1, grey // 2)
come(2, 1, 1, grey)
come(3, 0, 1)
viewer._model.current_index["t"] = 2
turn(looks([64, 141, 64], [64, 141, 64]), 60)  # 64 and 128 as light, which sRGB's curve is not
heard.append(middle())
print(json.dumps(heard))
viewer.close()
"""
)


def run_program(tmp_path, text, backend="vispy", **environment):
    program = tmp_path / "program.py"
    program.write_text(text)
    return subprocess.run(
        [sys.executable, program, tmp_path / "run.ome.zarr"],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env=os.environ
        | {
            "QT_QPA_PLATFORM": "offscreen",
            "QT_API": "pyside6",
            "NDV_CANVAS_BACKEND": backend,
            **environment,
        },
    )


def heard_of(tmp_path, text, **how):
    ended = run_program(tmp_path, text, **how)
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "icon" not in ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    return heard_of(tmp_path_factory.mktemp("followed"), FOLLOWS)


BRIGHT, FLUO, PREDICTED = "Brightfield", "Mitochondria", "predicted mitochondria"


def test_channels_are_named_coloured_and_scaled_as_the_store_says(followed):
    assert followed["mode"] == "composite"
    assert followed["newest"]["names"] == followed["newest"]["labels"] == [BRIGHT, FLUO, PREDICTED]
    assert followed["colours"] == ["#FFFFFF", "#00FF00", "#FF00FF"]
    assert followed["darkest"] == ["#000000"] * 3
    assert followed["clims"] == [[0, 4095], [0, 4095], [100, 2000]]
    assert followed["clims later"] == [120, 3000]
    assert followed["ratio"] == [1.0, 1.0]


def test_what_is_not_there_is_hidden_and_said_to_be_absent(followed):
    none = followed["nothing"]
    assert none["labels"] == [f"{name}: not there" for name in (BRIGHT, FLUO, PREDICTED)]
    assert none["boxes"] == none["visible"] == [False] * 3
    first = followed["first"]
    assert first["labels"] == [BRIGHT, f"{FLUO}: not there", PREDICTED]
    assert first["boxes"] == first["visible"] == [True, False, True]
    assert followed["blank"] == 0
    assert first["title"] == f"run.ome.zarr: t 0, z 1; not there: {FLUO}"
    assert followed["newest"]["visible"] == [True] * 3


def test_the_newest_is_followed_until_the_user_looks_elsewhere(followed):
    assert (followed["first"]["t"], followed["first"]["z"]) == (0, 1), "the middle of the stack"
    assert followed["newest"]["t"] == 3
    assert followed["looking back"]["t"] == followed["filled in"]["t"] == 1
    assert "not following" in followed["looking back"]["title"]
    assert followed["filled in"]["visible"] == [False, False, True]
    assert followed["followed again"]["t"] == 4
    assert "not following" not in followed["followed again"]["title"]


def test_depth_and_hidden_channels_stay_the_users(followed):
    depth = followed["depth"]
    assert (depth["t"], depth["z"]) == (5, 2)
    assert depth["visible"] == [True, False, False]
    assert depth["labels"][2] == PREDICTED


def test_the_window_stays_after_the_run_until_it_is_closed(followed):
    assert followed["over"].startswith("run.ome.zarr (the run is over): t 5, z 2")
    assert (followed["open"], followed["open then"]) == (True, False)
    assert followed["error"] == "None"


def test_planes_may_come_on_any_thread_and_cost_it_nothing(tmp_path):
    heard = heard_of(tmp_path, ANY_THREAD)
    assert heard["t"] == 5
    assert heard["visible"] == [True, False, True]
    assert heard["raised"]
    assert heard["error"] == "None"
    assert heard["note_us"] < 1000


def test_time_without_an_end_gets_a_longer_slider(tmp_path):
    heard = heard_of(tmp_path, GROWS)
    assert heard["room"] == 1
    assert heard["grown"] == [4, 4, [True, False, True]]
    assert heard["settled"] == [4, 4, [True, False, True], "None"]


def test_the_picture_is_the_channels_in_their_colours_over_each_other(tmp_path):
    ended = run_program(tmp_path, PICTURE, "pygfx")
    if ended.returncode and "ViewError" in ended.stderr:
        pytest.skip(
            "no graphics adapter that pygfx can draw with; lavapipe or SwiftShader would do"
        )
    assert ended.returncode == 0, ended.stderr


class TestWhereNoWindowCanBeOpened:
    def test_without_the_extra(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "pygfx", None)
        with pytest.raises(MissingExtraError, match=r'pygfx.*pip install "livestain\[view\]"'):
            check_viewer()

    @pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there always is a display")
    def test_without_a_display(self, monkeypatch):
        for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
            monkeypatch.delenv(name, raising=False)
        with pytest.raises(ViewError, match=r"needs a display.*latest\.png"):
            check_viewer()

    @pytest.mark.skipif(sys.platform != "linux", reason="of X11")
    def test_with_a_display_that_is_none(self, monkeypatch):
        """Where Qt would end the process."""
        monkeypatch.setenv("QT_QPA_PLATFORM", "xcb")
        monkeypatch.setenv("DISPLAY", ":987")
        with pytest.raises(ViewError, match=r"Qt says: .*latest\.png"):
            check_viewer()

    def test_without_graphics(self, tmp_path):
        """An adapter of another system's, so that there is none here."""
        other = "Metal" if sys.platform != "darwin" else "D3D12"
        ended = run_program(tmp_path, BEGIN, "pygfx", WGPU_BACKEND_TYPE=other)
        assert ended.returncode == 1
        last = ended.stderr.splitlines()
        assert "ViewError: --view cannot draw here" in " ".join(last)
        assert not (tmp_path / "run.ome.zarr").exists()
