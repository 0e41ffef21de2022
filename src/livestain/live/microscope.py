"""Microscopes without a microscope: Micro-Manager's demo hardware with a camera of ours.

Both are real cores: stages, focus, filter wheels, shutters and presets are those of the demo
configuration that comes with mm-test-adapters; the camera alone is ours, and shows a simulated dish
or a recording through the same path as any other.
"""

from __future__ import annotations

import re
import weakref
from typing import TYPE_CHECKING, Any, cast

from livestain.errors import MicroscopeError
from livestain.live.camera import StageCore
from livestain.live.dish_camera import DishCamera, Objective
from livestain.live.engine import LiveEngine
from livestain.live.replay import ReplaySource
from livestain.live.replay_camera import ReplayCamera
from livestain.live.simulation import Simulation
from livestain.simulate.dish import Dish
from livestain.simulate.profiles import DEFAULT_PROFILE

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from livestain.live.camera import ShowingCamera
    from livestain.planes import PlaneIndex
    from livestain.simulate.dish import Label
    from livestain.simulate.faults import Faults
    from livestain.simulate.light_dose import DoseReport
    from livestain.simulate.profiles import Profile

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

_EPI_DNA = {**_EPI, ("LED", "Label"): "385nm"}
"""Settings of a blue fluorescence preset: the ultraviolet LED."""

_TURRET: dict[int, tuple[int, float, float]] = {
    20: (3, 0.75, 1.333),
    60: (5, 1.2, 1.333),
    100: (4, 1.45, 1.518),
}
"""Magnification: place in the turret, numerical aperture, refractive index of what it is focused through (the
medium for an objective used dry)."""

_USUAL_MAGNIFICATION = 60


class SimulatedCore(StageCore):
    """A core whose camera shows a simulated dish."""

    camera: DishCamera

    @property
    def dish(self) -> Dish:
        """The dish as seen through the objective in the light path; of the start where there is none."""
        return self.camera.through(self.objective()) or self.camera.dish

    def truth(self, channel: str, index: PlaneIndex) -> NDArray[np.float32] | None:
        """Return what a label's fluorescence was in a plane of the newest run.

        Parameters
        ----------
        channel : str
            "mitochondria" or "dna", in any case.
        index : PlaneIndex
            Whose p, t and z say which plane.

        Returns
        -------
        array of float32, (y, x), or None
            Expected photo-electrons per millisecond, noise-free and unbleached, through the objective,
            binned and cropped as the plane was; None for another channel, or a plane that was not shown
            to `LiveEngine`.
        """
        shown, label = self.camera.places.get((index.p, index.t, index.z)), channel.lower()
        if label not in ("mitochondria", "dna") or shown is None:
            return None
        return shown.truth(cast("Label", label))

    def simulation(self) -> dict[str, Any]:
        """Return what a store says of a simulated run, as JSON types; see `Simulation`."""
        return {"simulated": True, "simulation": Simulation.of_camera(self.camera).to_dict()}

    def light_report(self, predicted: int = 0, fields: int = 1) -> DoseReport:
        """Return what the dish got of light since the microscope was made, and what predicting spared it.

        Parameters
        ----------
        predicted : int
            Planes of mitochondria that were predicted.
        fields : int
            Stage positions over which they are spread.
        """
        return self.camera.dose.report(predicted=predicted, fields=fields)


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
    profile: str | Profile = DEFAULT_PROFILE,
    shape: tuple[int, int] = (256, 256),
    pixel_size_um: float | None = None,
    seconds_per_timepoint: float | None = 5.0,
    time_scale: float = 1.0,
    dish: Dish | None = None,
    faults: Faults | None = None,
) -> SimulatedCore:
    """Return Micro-Manager's demo microscope with a simulated dish of cells under it.

    The group Channel has three presets more, Brightfield (set at the start), Mitochondria and DNA; the
    focus stage Z can be triggered. The turret holds three objectives (group Objective: 20X, 60X, 100X), of
    which the profile's own is in the light path; Micro-Manager knows their pixel sizes, and binning.

    Parameters
    ----------
    seed : int
        Which dish.
    profile : str or Profile
        Cells, objective and camera; see `livestain.simulate.find_profile`.
    shape : (int, int)
        Size (y, x) of the camera frame in pixels.
    pixel_size_um : float, optional
        Side of a pixel in the sample, in micrometres; None takes the profile's.
    seconds_per_timepoint : float or None
        Seconds of the dish between the time points of a run by `LiveEngine`; None: real time.
    time_scale : float
        Seconds of the dish per real second, wherever real time counts.
    dish : Dish, optional
        A dish of one's own; seed, profile, shape and pixel size are then its.
    faults : Faults, optional
        What goes wrong; nothing by default.

    Raises
    ------
    MicroscopeError
        If the demo hardware is not installed, or a fault names no objective of the turret.
    SettingsError
        If there is no such profile.
    """
    if dish is None:
        dish = Dish(seed, profile, shape=shape, pixel_size_um=pixel_size_um)
    core = SimulatedCore()
    own = _magnification(dish.profile)
    turret = _turret(dish, own)
    camera = DishCamera(
        weakref.ref(core),
        dish,
        objectives={_simulated(m): objective for m, objective in turret.items()},
        seconds_per_timepoint=seconds_per_timepoint,
        time_scale=time_scale,
        faults=faults,
    )
    presets = {"Brightfield": _TRANSMITTED, "Mitochondria": _EPI, "DNA": _EPI_DNA}
    _furnish(
        core,
        "Dish",
        camera,
        presets,
        {
            _simulated(m): (
                _TURRET.get(m, _TURRET[_USUAL_MAGNIFICATION])[0],
                turret[m].pixel_size_um,
            )
            for m in sorted(turret, key=lambda m: m != own)
        },
    )
    return core


def _simulated(magnification: int) -> str:
    """Return the label of an objective in the turret."""
    return f"Simulated {magnification}x"


def _magnification(profile: Profile) -> int:
    """Return the magnification in a profile's name (hela-60x); the usual one where it has none."""
    found = re.search(r"(?:^|[-_])0*([1-9]\d*)x(?:$|[-_.])", profile.name)
    return int(found[1]) if found else _USUAL_MAGNIFICATION


def _turret(dish: Dish, own: int) -> dict[int, Objective]:
    """Return the objectives by magnification: the dish's own, and two others beside it.

    All look at the same medium. Brightness per pixel is the profile's through each: the light that a higher
    magnification spreads over more pixels, and a larger aperture gathers, is not reckoned.
    """
    turret = {own: Objective(dish.pixel_size_um, dish.optics)}
    place, medium = _TURRET.get(own, _TURRET[_USUAL_MAGNIFICATION])[0], dish.optics.medium
    for magnification, (at, aperture, index) in _TURRET.items():
        if at == place:
            continue
        changed = {
            "numerical_aperture": aperture,
            "refractive_index": index,
            # Cells stay in water under oil, too: it is what the spherical aberration comes from.
            "medium_index": None if medium == index else medium,
            "condenser_aperture": min(dish.optics.condenser_aperture, aperture),
        }
        optics = type(dish.optics).model_validate({**dish.optics.model_dump(), **changed})
        turret[magnification] = Objective(dish.pixel_size_um * own / magnification, optics)
    return turret


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
    _furnish(core, "Replay", camera, presets, {"Replayed": (5, size)})
    return core


def _furnish(
    core: StageCore,
    label: str,
    camera: ShowingCamera,
    presets: dict[str, dict[tuple[str, str], str]],
    objectives: dict[str, tuple[int, float]],
) -> None:
    """Load the demo configuration, and put our camera, presets and objectives into it.

    Objectives are places in the turret and pixel sizes in micrometres by label; the first is put into the
    light path.
    """
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
    # The demo's objectives are not there: their pixel sizes would be false for what the camera shows.
    for known in core.getAvailablePixelSizeConfigs():
        core.deletePixelSizeConfig(known)
    for preset in core.getAvailableConfigs("Objective"):
        core.deleteConfig("Objective", preset)
    for objective, (place, pixel_size_um) in objectives.items():
        core.defineStateLabel("Objective", place, objective)
        core.definePixelSizeConfig(objective, "Objective", "Label", objective)
        core.setPixelSizeUm(objective, pixel_size_um)
        short = objective.removeprefix("Simulated ").upper()
        core.defineConfig("Objective", short, "Objective", "Label", objective)
    core.setProperty("Objective", "Label", next(iter(objectives)))
    core.setConfig(group, next(iter(presets)))
    core.waitForSystem()
    core.mda.set_engine(LiveEngine(core))
