"""Microscopes without a microscope: Micro-Manager's demo hardware with a camera of ours.

Both are real cores: stages, focus, filter wheels, shutters and presets are those of the demo
configuration that comes with mm-test-adapters; the camera alone is ours, and shows a simulated dish
or a recording through the same path as any other.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from livestain.errors import MicroscopeError
from livestain.live.camera import StageCore
from livestain.live.dish_camera import DishCamera
from livestain.live.engine import LiveEngine
from livestain.live.replay import ReplaySource
from livestain.live.replay_camera import ReplayCamera
from livestain.simulate import Dish

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from livestain.live.camera import ShowingCamera
    from livestain.planes import PlaneIndex

__all__ = ["ReplayCore", "SimulatedCore", "replay_core", "simulated_core"]

_TRANSMITTED = {
    ("Dichroic", "Label"): "State-9",
    ("Emission", "Label"): "State-9",
    ("Excitation", "Label"): "Empty",
    ("LED", "Label"): "Closed",
    ("Core", "Shutter"): "White Light Shutter",
}
"""Settings of a brightfield preset: free positions of the wheels, the lamp's shutter."""

_EPI = {
    ("Dichroic", "Label"): "89402bs",
    ("Emission", "Label"): "89402m",
    ("Excitation", "Label"): "Empty",
    ("LED", "Label"): "470nm",
    ("Core", "Shutter"): "LED Shutter",
}
"""Settings of a green fluorescence preset: multi-band filters and the blue LED."""


class SimulatedCore(StageCore):
    """A core whose camera shows a simulated dish."""

    camera: DishCamera

    @property
    def dish(self) -> Dish:
        """The dish under the objective."""
        return self.camera.dish

    def truth(self, channel: str, index: PlaneIndex) -> NDArray[np.float32] | None:
        """Return what the mitochondria's fluorescence was in a plane of the newest run.

        Parameters
        ----------
        channel : str
            "mitochondria", in any case.
        index : PlaneIndex
            Whose p, t and z say which plane.

        Returns
        -------
        array of float32, (y, x), or None
            Expected photo-electrons per millisecond, noise-free; None for another channel, or a
            plane that was not shown to `LiveEngine`.
        """
        place = self.camera.places.get((index.p, index.t, index.z))
        if channel.lower() != "mitochondria" or place is None:
            return None
        return self.camera.crop(self.dish.truth(*place))


class ReplayCore(StageCore):
    """A core whose camera shows a recording."""

    camera: ReplayCamera

    @property
    def source(self) -> ReplaySource:
        """The recording."""
        return self.camera.source

    def truth(self, channel: str, index: PlaneIndex) -> NDArray[np.float32] | None:
        """Return the recorded plane of a channel (its name in any case), or None if there is none.

        Parameters
        ----------
        channel : str
            For example "mitochondria".
        index : PlaneIndex
            Whose t and z say which plane.
        """
        for name in self.source.channels:
            if name.lower() == channel.lower() and self.source.has(name, index.t, index.z):
                return self.camera.crop(self.source.truth(name, index.t, index.z))
        return None


def simulated_core(
    seed: int = 0,
    *,
    shape: tuple[int, int] = (256, 256),
    pixel_size_um: float = 0.1,
    seconds_per_timepoint: float | None = 5.0,
    time_scale: float = 1.0,
    dish: Dish | None = None,
) -> SimulatedCore:
    """Return Micro-Manager's demo microscope with a simulated dish of cells under it.

    The group Channel has two presets more, Brightfield (set at the start) and Mitochondria; the focus
    stage Z can be triggered; the pixel size is the dish's, as long as the objective is not changed.

    Parameters
    ----------
    seed : int
        Which dish.
    shape : (int, int)
        Size (y, x) of the camera frame in pixels.
    pixel_size_um : float
        Side of a pixel in the sample, in micrometres.
    seconds_per_timepoint : float or None
        Seconds of the dish between the time points of a run by `LiveEngine`; None: real time.
    time_scale : float
        Seconds of the dish per real second, wherever real time counts.
    dish : Dish, optional
        A dish of one's own; seed, shape and pixel size are then its.

    Raises
    ------
    MicroscopeError
        If the demo hardware is not installed.
    """
    dish = dish if dish is not None else Dish(seed, shape=shape, pixel_size_um=pixel_size_um)
    core = SimulatedCore()
    camera = DishCamera(
        weakref.ref(core),
        dish,
        seconds_per_timepoint=seconds_per_timepoint,
        time_scale=time_scale,
    )
    presets = {"Brightfield": _TRANSMITTED, "Mitochondria": _EPI}
    _furnish(core, "Dish", camera, presets, "Simulated 60x", dish.pixel_size_um)
    return core


def replay_core(source: Path | str, *, pixel_size_um: float | None = None) -> ReplayCore:
    """Return Micro-Manager's demo microscope with a camera that shows recorded planes.

    Which plane is shown depends on the event (its t and z) and the channel preset, if the run's engine
    is `LiveEngine`, as it is from the start. The group Channel has a preset for each recorded channel.

    Parameters
    ----------
    source : path
        See `ReplaySource`.
    pixel_size_um : float, optional
        Pixel size in micrometres; a store knows its own.

    Raises
    ------
    DataError
        If the recording cannot be used.
    MicroscopeError
        If the pixel size is not known, or the demo hardware is not installed.
    """
    recording = ReplaySource(source, pixel_size_um=pixel_size_um)
    size = recording.pixel_size_um
    if size is None or not size > 0:
        raise MicroscopeError(
            f"The pixel size of {source} is {'not known' if size is None else size}; expected "
            "micrometres greater than 0. Say it with --pixel-size UM (pixel_size_um in Python)."
        )
    core = ReplayCore()
    camera = ReplayCamera(weakref.ref(core), recording)
    presets = {}
    for n, name in enumerate(recording.channels):
        # Any number of channels, and each preset its own state: the emission wheel's positions.
        light = _TRANSMITTED if n == 0 else _EPI
        presets[name] = {**light, ("Emission", "State"): str(9 - n % 10)}
        presets[name].pop(("Emission", "Label"))
    _furnish(core, "Replay", camera, presets, "Replayed", size)
    return core


def _furnish(
    core: StageCore,
    label: str,
    camera: ShowingCamera,
    presets: dict[str, dict[tuple[str, str], str]],
    objective: str,
    pixel_size_um: float,
) -> None:
    """Load the demo configuration, and put our camera, presets and pixel size into it."""
    try:
        core.loadSystemConfiguration()
    except (FileNotFoundError, RuntimeError) as error:
        raise MicroscopeError(
            f"Micro-Manager's demo hardware cannot be loaded: {error}. It comes with the package "
            "mm-test-adapters; install it with: pip install mm-test-adapters."
        ) from error
    core.loadPyDevice(label, camera)
    core.initializeDevice(label)
    core.setCameraDevice(label)
    core.camera = camera
    core.setProperty("Z", "UseSequences", "Yes")
    group = core.getChannelGroup()
    for name, settings in presets.items():
        for (device, prop), value in settings.items():
            core.defineConfig(group, name, device, prop, value)
    # One objective is real here: the others' pixel sizes would be false for what the camera shows.
    for known in core.getAvailablePixelSizeConfigs():
        core.deletePixelSizeConfig(known)
    core.defineStateLabel("Objective", 5, objective)
    core.setProperty("Objective", "Label", objective)
    core.definePixelSizeConfig(objective, "Objective", "Label", objective)
    core.setPixelSizeUm(objective, pixel_size_um)
    core.setConfig(group, next(iter(presets)))
    core.waitForSystem()
    core.mda.set_engine(LiveEngine(core))
