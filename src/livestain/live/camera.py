"""A camera that shows planes somebody has, through Micro-Manager's own path for snaps and bursts."""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pymmcore_plus.experimental.unicore import CameraDevice, UniMMCore

from livestain.errors import MicroscopeError
from livestain.live.leaving import leave_quietly

if TYPE_CHECKING:
    import weakref
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import DTypeLike, NDArray
    from useq import MDAEvent

__all__ = ["Scene", "ShowingCamera", "StageCore"]


@dataclass(frozen=True, slots=True)
class Scene:
    """What a frame is a frame of: the hardware's state when it was triggered.

    Attributes
    ----------
    channel : str
        Preset of the core's channel group.
    x_um, y_um, z_um : float
        Stage position in micrometres, with triggered focus moves.
    exposure_ms : float
        Exposure in milliseconds.
    number : int
        Frames before this one, lost ones counted.
    index : mapping of str to int
        The event's index, where the engine told it (see `ShowingCamera.expect`), else empty.
    lit : bool
        Whether the shutter let light through, opened by hand or by auto-shutter.
    objective : str
        Label of the objective in the light path.
    """

    channel: str
    x_um: float
    y_um: float
    z_um: float
    exposure_ms: float
    number: int
    index: Mapping[str, int] = field(default_factory=dict)
    lit: bool = True
    objective: str = ""


class StageCore(UniMMCore):
    """A core that remembers which focus positions a triggered burst runs through, and opens its shutter.

    A stage that is being triggered does not tell its position (Micro-Manager's demo stage does not
    even move); a simulated camera has to know it all the same. And UniMMCore (0.18) only announces what
    auto-shutter does for a camera in Python; here the shutter is opened and closed as Micro-Manager's own
    core does it: around a snap, from the start of a burst to its last exposure, and while a live view runs.
    """

    camera: ShowingCamera
    """The camera that shows planes; set by `simulated_core` and `replay_core`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._loaded: dict[str, tuple[float, ...]] = {}
        self._triggered: dict[str, tuple[float, ...]] = {}
        self._close_shutter: Callable[[], None] = _nothing
        self._snapping: int | None = None
        super().__init__(*args, **kwargs)
        leave_quietly(self)

    def setCameraDevice(self, cameraLabel: str) -> None:  # noqa: D102, N802, N803
        # UniMMCore (0.18) goes on using a Python camera when a C++ one is chosen.
        if not self.isPyDevice(cameraLabel):
            super().setCameraDevice("")
        super().setCameraDevice(cameraLabel)

    def loadStageSequence(self, stageLabel: str, positionSequence: Sequence[float]) -> None:  # noqa: D102, N802, N803
        super().loadStageSequence(stageLabel, positionSequence)
        self._loaded[stageLabel] = tuple(float(z) for z in positionSequence)

    def startStageSequence(self, stageLabel: str) -> None:  # noqa: D102, N802, N803
        super().startStageSequence(stageLabel)
        self._triggered[stageLabel] = self._loaded[stageLabel]

    def stopStageSequence(self, stageLabel: str) -> None:  # noqa: D102, N802, N803
        super().stopStageSequence(stageLabel)
        self._triggered.pop(stageLabel, None)

    def setProperty(self, label: str, propName: str, propValue: bool | float | int | str) -> None:  # noqa: D102, N802, N803
        # Micro-Manager's properties are words; UniMMCore would not find 2 among the allowed "1" and "2".
        value = str(propValue) if self.isPyDevice(label) else propValue
        super().setProperty(label, propName, value)

    def getImageBitDepth(self) -> int:  # noqa: D102, N802
        bits = getattr(self._py_camera(), "bit_depth", None)
        return int(bits) if bits is not None else super().getImageBitDepth()

    def isSequenceRunning(self, cameraLabel: str | None = None) -> bool:  # noqa: D102, N802, N803
        # The engine looks into the buffer and, where it is empty, whether the burst is over. What comes in
        # between would stay there: so in a run whoever first hears that it is over is told to look once more.
        thread = self._acquisition_thread
        asked = () if cameraLabel is None else (cameraLabel,)
        running = super().isSequenceRunning(*asked)
        left = thread is not None and len(self._seq_buffer) > 0
        return running or (left and self.mda.is_running())

    def _do_snap_image(self) -> None:
        self._snapping = threading.get_ident()
        try:
            super()._do_snap_image()
        finally:
            self._snapping = None

    def snapping(self) -> bool:
        """Return whether this thread snaps: what else asks a camera for frames is a burst, of one even."""
        return self._snapping == threading.get_ident()

    def _do_stop_sequence_acquisition(self, cameraLabel: str) -> None:  # noqa: N803
        super()._do_stop_sequence_acquisition(cameraLabel)
        self._close_shutter()

    def _stop_acquisition_thread(self, timeout: float | None = 2) -> None:
        # UniMMCore (0.18) looks whether to stop after each frame; the camera may wait for the next one.
        camera = getattr(self, "camera", None)
        if camera is not None:
            camera.stop()
        super()._stop_acquisition_thread(timeout)

    def open_auto_shutter(self) -> Callable[[], None]:
        """Open the shutter if auto-shutter is on; return what closes it again, once."""
        shutter = str(self.getShutterDevice())
        if not shutter or not self.getAutoShutter():
            return _nothing
        self._do_shutter_open(shutter, True)
        self.waitForDevice(shutter)
        opened = [shutter]

        def close() -> None:
            # Called by the camera's thread after the last exposure, and by whoever stops it.
            while opened:
                try:
                    self._do_shutter_open(opened.pop(), False)
                except (IndexError, RuntimeError):  # closed meanwhile, or the device is unloaded
                    return

        self._close_shutter = close
        return close

    def lit(self) -> bool:
        """Return whether light reaches the dish: the shutter is open, or there is none."""
        shutter = str(self.getShutterDevice())
        return not shutter or bool(self.getShutterOpen(shutter))

    def objective(self) -> str:
        """Return the label of the objective in the light path."""
        return str(self.getStateLabel("Objective"))

    def triggered_focus(self) -> tuple[float, ...]:
        """Return the focus positions of the burst under way, one a frame; empty outside one."""
        return self._triggered.get(str(self.getFocusDevice()), ())


def _nothing() -> None:
    pass


class ShowingCamera(CameraDevice):
    """A Micro-Manager camera whose frames come from `show`.

    It follows the core's channel group, XY stage, focus, shutter, objective and exposure, and serves snaps
    and triggered bursts alike. These take no longer than `show` does: their exposures are recorded, not
    waited for. A live view waits for them, or it would be lit for far longer than it runs.

    Each frame's metadata holds the exposure, `livestain-FrameNr` (its place in the burst, lost frames
    counted), `Frame` (frames before it, lost ones counted), and what `show` adds. In a burst it reaches the
    engine's frame metadata under ``camera_metadata``; `LiveEngine` puts it there for snaps too, which
    Micro-Manager knows no metadata of.

    Parameters
    ----------
    core : weak reference to StageCore
        The core to follow.
    shape : (int, int)
        Size (y, x) of the frame in pixels.
    """

    def __init__(self, core: weakref.ref[StageCore], shape: tuple[int, int]) -> None:
        super().__init__()
        # The core holds this while it asks for a snap. A preset may hold properties of this camera, which are
        # asked for meanwhile, by the same thread.
        self._lock = threading.RLock()  # type: ignore[assignment]
        self._core_ref = core
        self._full = shape
        self._roi: tuple[int, int, int, int] | None = None
        self._exposure = 10.0
        self._shown = 0
        self._expected: tuple[MDAEvent, ...] = ()
        self._state = threading.Lock()
        self._stop = threading.Event()
        self._started = time.perf_counter()
        self.last_metadata: dict[str, Any] = {}
        """Metadata of the newest frame."""
        self.error: Exception | None = None
        """Why the newest burst ended short, if it did."""

    @abstractmethod
    def show(self, scene: Scene) -> tuple[NDArray[Any], dict[str, Any]]:
        """Return the full frame (y, x) of a scene, in the camera's dtype, and metadata about it."""

    def drops(self, scene: Scene) -> bool:
        """Return whether the frame of a scene is lost on its way, as a camera's frames can be.

        In a burst its number is left out; a snap fails.
        """
        return False

    def fails(self, scene: Scene) -> bool:
        """Return whether the camera fails to take a scene that is snapped."""
        return False

    def wait_for_readout(self, stop: threading.Event) -> None:
        """Take as long as the camera takes beyond what `show` does, or until it is to stop."""

    def begin_run(self) -> None:
        """Forget what is of an earlier run; called by the engine before a run's first event."""

    def stop(self) -> None:
        """Stop the burst or the live view under way, also one that waits; from any thread."""
        self._stop.set()

    def shutdown(self) -> None:
        """Stop what is under way; called by the core that lets the camera go."""
        self.stop()

    def expect(self, events: Sequence[MDAEvent]) -> None:
        """Say which events the next exposures are of, in order; called by the engine.

        Without it the scenes' index is empty. What is left from an earlier call is forgotten.
        """
        with self._state:
            self._expected = tuple(events)

    # ------------------------------------------------- pymmcore-plus' device

    def get_exposure(self) -> float:
        """Return the exposure in milliseconds."""
        return self._exposure

    def set_exposure(self, exposure: float) -> None:
        """Set the exposure in milliseconds."""
        self._exposure = float(exposure)

    def shape(self) -> tuple[int, int]:
        """Return the size (y, x) of the frame or of the region of interest."""
        return self._full if self._roi is None else (self._roi[3], self._roi[2])

    def get_roi(self) -> tuple[int, int, int, int]:
        """Return the region of interest (x, y, width, height) in pixels."""
        return self._roi if self._roi is not None else (0, 0, self._full[1], self._full[0])

    def set_roi(self, x: int, y: int, width: int, height: int) -> None:
        """Set the region of interest in pixels.

        Raises
        ------
        MicroscopeError
            If it reaches beyond the frame.
        """
        fits = 0 <= x < x + width <= self._full[1] and 0 <= y < y + height <= self._full[0]
        if not fits:
            raise MicroscopeError(
                f"A region of interest of {width} x {height} at ({x}, {y}) does not lie within the "
                f"camera's {self._full[1]} x {self._full[0]} pixels; choose a smaller one."
            )
        self._roi = (x, y, width, height)

    def clear_roi(self) -> None:
        """Use the whole frame again."""
        self._roi = None

    def crop(self, frame: NDArray[Any]) -> NDArray[Any]:
        """Return the region of interest of a full frame (y, x)."""
        x, y, width, height = self.get_roi()
        return frame[y : y + height, x : x + width]

    def start_sequence(
        self, n: int | None, get_buffer: Callable[[Sequence[int], DTypeLike], NDArray[Any]]
    ) -> Iterator[Mapping[str, Any]]:
        """Show `n` frames (until stopped if None); see `CameraDevice.start_sequence`."""
        # Taken here, on the caller's thread: the generator's body runs later, on the camera's.
        with self._state:
            events, self._expected = self._expected, ()
        core = self._core_ref()
        if core is None:
            raise MicroscopeError("The camera's core is gone; make a new one.")
        focus = core.triggered_focus() if n is not None else ()
        snap, stop = core.snapping(), threading.Event()
        if not snap:  # nobody stops a snap
            self._stop = stop
        close = core.open_auto_shutter()
        try:
            scene = self._scene(core)
        except BaseException:
            close()
            raise
        return self._frames(n, get_buffer, scene, events, focus, close, stop, snap=snap)

    def _scene(self, core: StageCore) -> Scene:
        x, y = core.getXYPosition()
        return Scene(
            channel=str(core.getCurrentConfig(core.getChannelGroup())),
            x_um=x,
            y_um=y,
            z_um=core.getPosition(),
            exposure_ms=self._exposure,
            number=0,
            lit=core.lit(),
            objective=core.objective(),
        )

    def _frames(
        self,
        n: int | None,
        get_buffer: Callable[[Sequence[int], DTypeLike], NDArray[Any]],
        first: Scene,
        events: tuple[MDAEvent, ...],
        focus: tuple[float, ...],
        close_shutter: Callable[[], None],
        stop: threading.Event,
        *,
        snap: bool,
    ) -> Iterator[Mapping[str, Any]]:
        k = 0
        try:
            while (n is None or k < n) and not stop.is_set():
                began = time.perf_counter()
                here = first
                if n is None and k and (core := self._core_ref()) is not None:
                    here = self._scene(core)  # a live view follows the stage
                scene = replace(
                    here,
                    z_um=focus[k] if k < len(focus) else here.z_um,
                    number=self._shown,
                    index=dict(events[k].index) if k < len(events) else {},
                )
                # Counted whatever becomes of it, or the next frame would have its number, and so its noise.
                self._shown += 1
                if snap and self.fails(scene):
                    raise MicroscopeError("The camera failed to take the frame.")
                self.wait_for_readout(stop)
                if stop.is_set():
                    return
                try:
                    shown = None if self.drops(scene) else self.show(scene)
                except Exception as error:
                    if snap:
                        raise
                    # A burst runs on the core's own thread, where an exception would only be printed:
                    # the burst ends short, and the engine raises this.
                    self.error = error
                    return
                if n is None:
                    stop.wait(max(0.0, began + scene.exposure_ms / 1e3 - time.perf_counter()))
                if shown is None:
                    k += 1
                    if snap:
                        raise MicroscopeError("The camera lost the frame.")
                    continue
                image, about = self.crop(shown[0]), shown[1]
                buffer = get_buffer(image.shape, image.dtype)
                buffer[...] = image
                self.last_metadata = {
                    "Camera": self.get_label(),
                    "ImageNumber": str(k),  # of a snap; in a burst the core writes its own
                    "livestain-FrameNr": str(k),
                    "ElapsedTime-ms": f"{(time.perf_counter() - self._started) * 1000:.2f}",
                    "Exposure-ms": repr(scene.exposure_ms),
                    "Frame": str(scene.number),
                    **{key: str(value) for key, value in about.items()},
                }
                if k + 1 == n:  # the core never asks for what comes after the last
                    close_shutter()
                yield self.last_metadata
                k += 1
        finally:
            close_shutter()
