"""A window on a run that goes on: ndv, the viewer of pymmcore-plus' world, reading the store."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import threading
import time
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from livestain.errors import MissingExtraError, StoreError, ViewError
from livestain.monitor.following import Following
from livestain.planes import PlaneIndex
from livestain.store import open_store
from livestain.store.group import read_group

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ndv.models import ArrayDisplayModel

    from livestain.monitor.store_data import StoreData
    from livestain.store import Store, StorePlan

__all__ = ["RunViewer", "check_viewer"]

_TICK_MS = 100
"""How often the run is looked at, and at most shown anew; what came in between is passed over."""

_SOFTWARE_S = 1.0
"""How often at most where there is no graphics card: the picture then takes cores from the run."""

_NEEDED = ("ndv", "pygfx", "qtpy.QtWidgets", "superqt", "pyconify")

_PROBE = "from qtpy.QtWidgets import QApplication; QApplication([])"


def check_viewer() -> None:
    """Refuse where no window can be opened; to be called before anything moves.

    Raises
    ------
    MissingExtraError
        If the extra `view` is not installed.
    ViewError
        If there is no display, or Qt cannot use it.
    """
    try:
        for name in _NEEDED:
            importlib.import_module(name)
    except ImportError as error:  # qtpy has errors of its own for a missing binding
        raise MissingExtraError(
            f"--view needs a viewer that is not installed ({error}). "
            'Install it with: pip install "livestain[view]"'
        ) from error
    if sys.platform != "linux":
        return
    known = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    if not any(os.environ.get(name) for name in known):
        raise ViewError(
            "--view needs a display, and there is none: neither DISPLAY nor WAYLAND_DISPLAY is set. Run "
            "at the machine's own screen, or leave --view out: RUN.latest.png shows the newest prediction."
        )
    # Qt ends the process where it cannot use the display or lacks a library of the system, so that another
    # one tries first.
    tried = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-P", "-c", _PROBE],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if tried.returncode:
        told = [line.strip() for line in tried.stderr.splitlines() if line.strip()]
        raise ViewError(
            f"--view cannot open a window here; Qt says: {told[0] if told else 'nothing'} "
            "Mend that, or leave --view out: RUN.latest.png shows the newest prediction."
        )


class RunViewer:
    """A window that shows a run while it goes on.

    It follows the newest time point, at the position and depth that the user chose, until the user moves
    the slider of time; moved to the last time point that there is, or beyond, it follows again. A channel
    whose plane is not there is hidden, and its name says so. All methods but `note` are for the main
    thread.

    Parameters
    ----------
    plan : StorePlan
        Of the store that will be shown.
    title : str
        What the window is called.

    Raises
    ------
    LivestainError
        As `check_viewer`, and where there are no graphics to draw with.
    """

    def __init__(self, plan: StorePlan, title: str) -> None:
        check_viewer()
        # ndv would take the first that is installed, of which vispy shows nothing, and says nothing, where
        # OpenGL is missing.
        os.environ.setdefault("NDV_GUI_FRONTEND", "qt")
        os.environ.setdefault("NDV_CANVAS_BACKEND", "pygfx")
        import ndv

        _do_without_icons_offline()
        self._title = title
        self._plan = plan
        self._virtual = {c for c, channel in enumerate(plan.channels) if channel.virtual}
        self._following = Following(predicts=bool(self._virtual))
        self._news = threading.Lock()
        self._stale = False
        self._begun: set[int] = set()  # channels with a plane
        self._windowed: set[int] = set()  # of these, those whose display window was read since
        self._shown: tuple[int, int] = (0, 0)  # position and time point
        self._store: Store | None = None
        self._data: StoreData | None = None
        self._absent: dict[int, bool] = {}
        """Channels without a plane at the place that is shown, and whether they were visible before."""
        self.follows = True
        """Whether the newest time point is shown whenever there is a newer one."""
        self.error: Exception | None = None
        """Why the window is not kept up to date any more, if it is not."""
        try:
            self._viewer = ndv.ArrayViewer(display_model=_display_model(plan))
        except Exception as error:  # whatever the graphics library raises
            raise ViewError(
                f"--view cannot draw here: {' '.join(str(error).split())} ({type(error).__name__}). Bring "
                "the graphics driver up to date, try NDV_CANVAS_BACKEND=vispy, or leave --view out: "
                "RUN.latest.png shows the newest prediction."
            ) from error
        self._model = self._viewer.display_model
        self._pause_s = _SOFTWARE_S if _draws_by_software() else 0.0

    # ------------------------------------------------------------------ what the run tells

    def note(self, index: PlaneIndex) -> None:
        """Take in that a plane is in the store; from any thread, in microseconds."""
        with self._news:
            self._following.note(index, predicted=index.c in self._virtual, now=time.monotonic())
            self._begun.add(index.c)
            self._stale |= (index.p, index.t) == self._shown

    # ------------------------------------------------------------------ the window

    def open(self, path: Path) -> None:
        """Show the window, on a store that is there now.

        Raises
        ------
        StoreError
            If it cannot be opened.
        """
        from livestain.monitor.store_data import StoreData

        self._store = open_store(path)
        self._data = StoreData(self._store)
        self._viewer.data = self._data
        self.widget.resize(860, 960)
        self.refresh()
        self._viewer.show()

    @property
    def widget(self) -> Any:
        """The window, a QWidget."""
        return self._viewer.widget()

    @property
    def is_open(self) -> bool:
        """Whether it is shown and was not closed."""
        return bool(self.widget.isVisible())

    def turn(self, look: Callable[[], bool]) -> None:
        """Turn the event loop until `look` says that it is enough, or the window is closed.

        Parameters
        ----------
        look : callable
            Called every tenth of a second. What it raises ends the loop and is raised here.
        """
        from qtpy.QtCore import QEventLoop, QTimer

        # Not the application's own loop: its end tells the canvas to go, and the window stays after a run.
        loop = QEventLoop()
        raised: list[BaseException] = []
        due = 0.0

        def tick() -> None:
            nonlocal due
            try:
                enough = look()
            except BaseException as error:
                raised.append(error)
                enough = True
            if enough or not self.is_open:
                loop.exit()
                return
            if time.monotonic() < due:
                return
            due = time.monotonic() + self._pause_s
            try:
                self.refresh()
            except Exception as error:  # a window never disturbs a run
                self.error = self.error or error

        timer = QTimer()
        timer.timeout.connect(tick)
        timer.start(_TICK_MS)
        loop.exec()
        timer.stop()
        if raised:
            raise raised[0]

    def close(self) -> None:
        """Close the window; a second call does nothing."""
        self._viewer.close()
        if self._store is not None:
            self._store.close()

    # ------------------------------------------------------------------ keeping it up to date

    def refresh(self) -> None:
        """Show what is newest, or what has come at the place that is shown."""
        if self._store is None or self._data is None:
            return
        index: dict[Any, Any] = dict(self._model.current_index)
        p, t, z = (int(index.get(axis, 0)) for axis in "ptz")
        with self._news:
            newest = self._following.newest(p, z, time.monotonic())
            if t != self._shown[1]:  # the user moved the slider
                last = self._following.last(p, z)
                self.follows = last is not None and t >= last
            if self.follows and newest is not None:
                t = newest
            stale, self._stale = self._stale and (p, t) == self._shown, False
            self._shown = p, t
            begun, self._begun = self._begun, set()
        if t >= self._store.plan.n_t:
            self._fit()
        self._take_windows(begun)
        if index.get("t", 0) != t:
            self._model.current_index["t"] = t
        elif stale:
            self._data.data_changed.emit()
        self._tell_absent(p, t, z)

    def over(self) -> None:
        """Take notice that the run is over: its store grows no more."""
        self._title += " (the run is over)"
        with suppress(StoreError):
            self._fit()
            self.refresh()

    def _fit(self) -> None:
        """Give the slider of time its length anew, where time has no planned end."""
        assert self._store is not None  # noqa: S101 - called of an open window
        assert self._data is not None  # noqa: S101
        known = self._store.plan.n_t
        self._store.refresh()
        if self._store.plan.n_t != known:
            self._data.dims_changed.emit()

    def _take_windows(self, channels: set[int]) -> None:
        """Show channels as the store says that they are shown; a window is set by the first plane."""
        assert self._store is not None  # noqa: S101 - called of an open window
        fresh = {c for c in channels if c not in self._windowed}
        if not fresh:
            return
        from ndv.models import ClimsManual

        image = self._store.path / self._store.plan.positions[0].path
        with suppress(StoreError):  # it is just being replaced: at the next plane
            told = read_group(image)["attributes"]["ome"]["omero"]["channels"]
            for c in fresh:
                window = told[c]["window"]
                if (window["start"], window["end"]) != (window["min"], window["max"]):
                    clims = ClimsManual(min=window["start"], max=window["end"])
                    self._model.luts[c].clims = clims
            self._windowed |= fresh

    def _tell_absent(self, p: int, t: int, z: int) -> None:
        """Hide channels that have nothing at a place, and say so in their names."""
        from livestain.monitor.store_data import shown_name

        assert self._data is not None  # noqa: S101 - called of an open window
        depths = range(self._plan.n_z) if len(self._model.visible_axes) > 2 else (z,)
        names = []
        for c, channel in enumerate(self._plan.channels):
            lut, name = self._model.luts[c], shown_name(channel)
            there = any(self._data.is_there(PlaneIndex(p, t, c, depth)) for depth in depths)
            if there and c in self._absent:
                lut.visible, lut.name = self._absent.pop(c) or lut.visible, name
            elif not there:
                names.append(name)
                if c not in self._absent:
                    self._absent[c] = lut.visible
                    lut.visible, lut.name = False, f"{name}: not there"
        title = f"{self._title}: t {t}" + (f", z {z}" if self._plan.n_z > 1 else "")
        title += "" if self.follows else ", not following"
        title += f"; not there: {', '.join(names)}" if names else ""
        if self.widget.windowTitle() != title:
            self.widget.setWindowTitle(title)


def _display_model(plan: StorePlan) -> ArrayDisplayModel:
    """Return how a store is shown at first: all channels over each other, in the middle of the stack."""
    from cmap import Color, Colormap
    from ndv.models import ArrayDisplayModel, LUTModel

    from livestain.monitor.store_data import shown_name

    luts = {
        c: LUTModel(
            name=shown_name(channel),
            cmap=Colormap(
                ["#000000", f"#{channel.color}"],
                name=Color(f"#{channel.color}").name or channel.color,
            ),
            clims=channel.display,
        )
        for c, channel in enumerate(plan.channels)
    }
    return ArrayDisplayModel(
        visible_axes=("y", "x"),
        channel_axis="c",
        channel_mode="composite",
        current_index={"p": 0, "t": 0, "z": plan.n_z // 2},
        luts=luts,
    )


def _draws_by_software() -> bool:
    """Return whether what draws is a program and no graphics card, as far as that can be known."""
    if os.environ["NDV_CANVAS_BACKEND"] != "pygfx":
        return False
    from pygfx.renderers.wgpu import get_shared

    return bool(get_shared().adapter.info.get("adapter_type") == "CPU")


def _do_without_icons_offline() -> None:
    """Let buttons do without their icons where there is no network.

    ndv fetches them from the internet when they are not on the disk yet. At a microscope without a network
    it would ask 64 times: ten seconds, or minutes where a firewall swallows each.
    """
    import pyconify.api

    warnings.filterwarnings("ignore", message="Error fetching icon")

    def unreachable() -> Any:
        raise OSError("there is no network")

    try:
        pyconify.api.last_modified()
    except (OSError, ValueError):
        vars(pyconify.api)["_session"] = unreachable
