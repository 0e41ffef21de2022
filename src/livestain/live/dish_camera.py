"""The camera over a simulated dish."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import numpy as np

from livestain.errors import MicroscopeError
from livestain.live.camera import Scene, ShowingCamera, StageCore
from livestain.simulate.dish import Dish
from livestain.simulate.faults import Faults
from livestain.simulate.light_dose import OTHER, TRANSMITTED, LightDose, Unbleached
from livestain.simulate.sensor import binned

if TYPE_CHECKING:
    import threading
    import weakref
    from collections.abc import Callable, Mapping

    from numpy.typing import DTypeLike, NDArray

    from livestain.simulate.dish import Label
    from livestain.simulate.optics import Optics
    from livestain.simulate.sensor import Sensor

__all__ = ["DishCamera", "Objective", "Shown"]

_LABELS: dict[str, Label] = {
    "Mitochondria": "mitochondria",
    "FITC": "mitochondria",
    "DNA": "dna",
    "DAPI": "dna",
}
"""Presets of the channel group that excite a label, and which."""

_DARK = ("Rhodamine", "Cy5")
"""Presets of the demo configuration that excite nothing which is in the dish."""

_PLACES = 200_000
"""Planes of which is remembered what they showed."""

_BINNINGS = (1, 2, 4)
_BIT_DEPTHS = (8, 10, 12, 14, 16)


@dataclass(frozen=True)
class Objective:
    """An objective of the turret.

    Attributes
    ----------
    pixel_size_um : float
        Side of a pixel of the camera in the sample, in micrometres.
    optics : Optics
        What the light goes through.
    """

    pixel_size_um: float
    optics: Optics


class Shown(NamedTuple):
    """What a plane showed.

    Attributes
    ----------
    age_s, z_um, xy_um : float, float, (float, float)
        Arguments of ``dish.truth``.
    dish : Dish or None
        The dish as it was seen; None where no objective was in the light path.
    binning : int
        Pixels a side that were read as one.
    roi : (int, int, int, int)
        Region of interest (x, y, width, height) in binned pixels.
    """

    age_s: float
    z_um: float
    xy_um: tuple[float, float]
    dish: Dish | None
    binning: int
    roi: tuple[int, int, int, int]

    def truth(self, label: Label) -> NDArray[np.float32] | None:
        """Return a label's noise-free fluorescence laid out as the plane, (y, x); None without an image."""
        if self.dish is None:
            return None
        image = self.dish.truth(self.age_s, self.z_um, self.xy_um, label=label)
        if self.binning > 1:
            image = binned(image, self.binning)
        x, y, width, height = self.roi
        return image[y : y + height, x : x + width]


class DishCamera(ShowingCamera):
    """Shows a simulated dish as stages, objective, channel group, shutter and exposure say.

    The dish's age: within a run by `LiveEngine` it is the event's time index (0 in a run without a time
    plan) times `seconds_per_timepoint`, so that a plane can be computed again from what its metadata says,
    and all planes of a visit show the same cells; otherwise the time since the camera was made, times
    `time_scale`. Only exposures count as light, not how long a shutter is open around them.

    Metadata adds what truly was: `Dish-time_s`, `Dish-z_um`, `Dish-x_um`, `Dish-y_um` (the arguments of
    ``dish.truth``), `Dish-channel` (brightfield, fluorescence or dark), `Dish-label` (what was excited),
    `Dish-unbleached` (the share of it that still shone; see `unbleached_from`), `Dish-lamp` (brightness of
    the light beside its usual one), `Dish-objective` and `Dish-pixel_size_um` (of the light path, unbinned),
    `Dish-frame` (the noise's frame number), and `Dish-bubble` where one passed (seed of the faults, first
    frame and number of frames, with colons between them). Settings of the camera are told where they are
    not those of the start: `Dish-binning`, `Dish-roi` (x,y,width,height in binned pixels),
    `Dish-bit_depth`, `Dish-gain`, `Dish-offset`, `Dish-read_noise`.

    Properties of the device: Binning, BitDepth (gain and offset keep their share of the range), Gain,
    Offset, ReadNoise, and one for each fault, ``Fault-`` and its name in `Faults`.

    Parameters
    ----------
    core
        The core to follow.
    dish : Dish
        What lies under the microscope, through the objective of the start.
    objectives : mapping of str to Objective
        The turret's, by label, the dish's own among them or not; a position that is not named is empty.
        None: the dish is seen as it is through any.
    seconds_per_timepoint : float or None
        Seconds between the time points of a run; None uses real time there too.
    time_scale : float
        Seconds of the dish per real second.
    faults : Faults, optional
        What goes wrong; can be changed at any time.
    """

    def __init__(
        self,
        core: weakref.ref[StageCore],
        dish: Dish,
        *,
        objectives: Mapping[str, Objective] | None = None,
        seconds_per_timepoint: float | None = 5.0,
        time_scale: float = 1.0,
        faults: Faults | None = None,
    ) -> None:
        super().__init__(core, dish.shape)
        # The same cells and what is known of them; the camera's settings are its own.
        dish = copy.copy(dish)
        self.dish = dish
        self.dose = LightDose(dish.profile.light)
        """What the dish got of light."""
        self.seconds_per_timepoint = seconds_per_timepoint
        self.time_scale = time_scale
        self.places: dict[tuple[int, int, int], Shown] = {}
        """What the planes of the newest run showed, by (p, t, z); of several channels the last counts."""
        self._objectives = objectives
        self._dishes: dict[tuple[float, Optics], Dish] = {(dish.pixel_size_um, dish.optics): dish}
        self.first_sensor = self._sensor = dish.sensor
        """The sensor as it was at the start; see `sensor`."""
        self._binning = 1
        self._born = time.perf_counter()
        self._age_s = 0.0
        self._faults = self._known(faults if faults is not None else Faults())
        self._register()

    def _register(self) -> None:
        self.set_property_allowed_values("Binning", tuple(map(str, _BINNINGS)))
        registers: Any = self.register_property  # its types tie a property to one of words
        registers(
            "BitDepth",
            property_type=int,
            allowed_values=tuple(map(str, _BIT_DEPTHS)),
            getter=DishCamera._get_bit_depth,
            setter=DishCamera._set_bit_depth,
        )
        registers(
            "ReadNoise",
            property_type=float,
            getter=DishCamera._get_read_noise,
            setter=DishCamera._set_read_noise,
            limits=(0.0, 1000.0),
        )
        self.set_property_limits("Gain", (1e-4, 1e4))
        self.set_property_limits("Offset", (0.0, 60_000.0))
        for name in Faults.names():
            getter, setter = _fault_property(name)
            registers(f"Fault-{name}", property_type=str, getter=getter, setter=setter)

    # ------------------------------------------------------ settings of the camera

    @property
    def sensor(self) -> Sensor:
        """The sensor as it is set."""
        return self._sensor

    @property
    def bit_depth(self) -> int:
        """Bits of a count."""
        return self._sensor.bit_depth

    @property
    def binning(self) -> int:
        """Pixels a side that are read as one."""
        return self._binning

    @property
    def faults(self) -> Faults:
        """What goes wrong from the next frame on."""
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._faults = self._known(faults)

    def dtype(self) -> DTypeLike:
        """Return uint16, or uint8 at a bit depth of 8."""
        return self._sensor.dtype

    def get_binning(self) -> int:
        """Return how many pixels a side are read as one."""
        return self._binning

    def set_binning(self, value: int | str) -> None:
        """Set how many pixels a side are read as one; the region of interest becomes the whole frame."""
        self._refuse_while_running("Binning")
        self._binning = int(value)
        height, width = self.dish.shape
        self._full = (height // self._binning, width // self._binning)
        self.clear_roi()

    def get_gain(self) -> float:
        """Return the counts per photo-electron."""
        return self._sensor.gain

    def set_gain(self, value: float) -> None:
        """Set the counts per photo-electron."""
        self._change_sensor(gain=float(value))

    def get_offset(self) -> float:
        """Return the counts of a dark pixel."""
        return self._sensor.offset

    def set_offset(self, value: float) -> None:
        """Set the counts of a dark pixel."""
        self._change_sensor(offset=float(value))

    def get_readout_time(self) -> float:
        """Return how much longer than an exposure a frame takes, in milliseconds."""
        return self._faults.slow_readout_ms

    def _get_bit_depth(self) -> int:
        return self._sensor.bit_depth

    def _set_bit_depth(self, value: int | str) -> None:
        self._refuse_while_running("BitDepth")
        self._sensor = self._sensor.at_bit_depth(int(value))

    def _get_read_noise(self) -> float:
        return self._sensor.read_noise

    def _set_read_noise(self, value: float) -> None:
        self._change_sensor(read_noise=float(value))

    def _change_sensor(self, **settings: float) -> None:
        self._sensor = self._sensor.model_copy(update=settings)

    def _refuse_while_running(self, what: str) -> None:
        core = self._core_ref()
        if core is not None and core.isSequenceRunning(self.get_label()):
            raise MicroscopeError(
                f"{what} cannot be changed while the camera acquires; stop the sequence first."
            )

    def _known(self, faults: Faults) -> Faults:
        """Return the faults with the wrong objective by its label, of which the last word does: 20x."""
        wrong, labels = faults.wrong_objective, list(self._objectives or ())
        if wrong is None or wrong in labels:
            return faults
        found = [label for label in labels if label.lower().split()[-1] == wrong.lower()]
        if not found:
            raise MicroscopeError(
                f"The fault wrong_objective={wrong} names no objective of the simulated turret; "
                f"expected {', '.join(labels) if labels else 'a microscope with a turret'}."
            )
        return faults.model_copy(update={"wrong_objective": found[0]})

    # ------------------------------------------------------------- what it shows

    def through(self, label: str) -> Dish | None:
        """Return the dish as it is seen through an objective in the light path; None if there is none.

        Parameters
        ----------
        label : str
            The objective that Micro-Manager believes in; the fault `wrong_objective` overrules it.
        """
        label = self._faults.wrong_objective or label
        if self._objectives is None:
            size, optics = self.dish.pixel_size_um, self.dish.optics
        elif label in self._objectives:
            size, optics = self._objectives[label].pixel_size_um, self._objectives[label].optics
        else:
            return None
        dish = self._dishes.get((size, optics))
        if dish is None:
            known = self.dish
            dish = Dish(
                known.seed, known.profile, shape=known.shape, pixel_size_um=size, optics=optics
            )
            self._dishes[size, optics] = dish
        dish.sensor = self._sensor
        return dish

    def begin_run(self) -> None:
        """Forget what the planes of an earlier run showed."""
        self.places.clear()

    def go_on_from(self, frame: int, age_s: float) -> None:
        """Go on where another camera over the same dish stopped.

        Parameters
        ----------
        frame : int
            The number of the next frame, on which its noise depends, and what goes wrong.
        age_s : float
            Age of the dish in seconds, now; counts where real time does.
        """
        self._shown = frame
        self._age_s, self._born = age_s, time.perf_counter()

    def age_s(self, index: Mapping[str, int]) -> float:
        """Return the dish's age in seconds at an event's index; without one it is real time's."""
        if self.seconds_per_timepoint is not None and index:
            # useq leaves out the axes that a sequence has not.
            return index.get("t", 0) * self.seconds_per_timepoint
        return round(self._age_s + (time.perf_counter() - self._born) * self.time_scale, 3)

    def place(self, scene: Scene) -> tuple[float, float, tuple[float, float]]:
        """Return when and where a scene truly is: age, focus and stage, as ``dish.truth`` takes them."""
        age = self.age_s(scene.index)
        dx, dy = self._faults.stage_um(*_visit(scene))
        x, y = scene.x_um + dx, scene.y_um + dy
        return age, scene.z_um + self._faults.focus_um(age), (x, y)

    def drops(self, scene: Scene) -> bool:
        """Return whether the frame of a scene is lost; the cells have got its light then."""
        if not self._faults.drops(scene.number):
            return False
        dish = self.through(scene.objective)
        light = _light_of(scene)
        if light is not None and dish is not None:
            self._spend(light, dish, self.place(scene)[2], scene)
        return True

    def fails(self, scene: Scene) -> bool:
        """Return whether the camera fails to take a scene that is snapped."""
        return self._faults.fails(scene.number)

    def wait_for_readout(self, stop: threading.Event) -> None:
        """Wait as long as a slow readout takes, or until the camera is to stop."""
        if self._faults.slow_readout_ms:
            stop.wait(self._faults.slow_readout_ms / 1e3)

    def show(self, scene: Scene) -> tuple[NDArray[np.uint8] | NDArray[np.uint16], dict[str, Any]]:
        """Return the dish's frame, binned but not cropped, and where and when it was."""
        place, light = self.place(scene), _light_of(scene)
        dish = self.through(scene.objective)
        if scene.index:
            p, t, z = (int(scene.index.get(axis, 0)) for axis in "ptz")
            self.places[p, t, z] = Shown(*place, dish, self._binning, self.get_roi())
            if len(self.places) > _PLACES:
                del self.places[next(iter(self.places))]
        exposure: dict[str, Any] = {
            "exposure_ms": scene.exposure_ms,
            "frame": scene.number,
            "binning": self._binning,
        }
        lamp = self._faults.brightness(scene.number)
        about = {
            "Dish-time_s": repr(place[0]),
            "Dish-z_um": repr(place[1]),
            "Dish-x_um": repr(place[2][0]),
            "Dish-y_um": repr(place[2][1]),
            "Dish-objective": self._faults.wrong_objective or scene.objective or "none",
            "Dish-frame": repr(scene.number),
            **self._changed(),
        }
        if dish is None:  # an empty place of the turret forms no image
            return self.dish.dark(**exposure), {**about, "Dish-channel": "dark"}
        about["Dish-pixel_size_um"] = repr(dish.pixel_size_um)
        if light is None:
            return dish.dark(**exposure), {**about, "Dish-channel": "dark"}
        about["Dish-lamp"] = repr(lamp)
        if light == TRANSMITTED:
            kind = "brightfield"
            shadow = self._faults.shadow(scene.number, dish.shape)
            if shadow is not None:
                about["Dish-bubble"] = f"{self._faults.seed}:{self._faults.text('bubble')}"
            image = dish.brightfield(
                *place, lamp=lamp if shadow is None else shadow * np.float32(lamp), **exposure
            )
        elif light == OTHER:
            kind = "dark"
            image = dish.dark(**exposure)
        else:
            kind, label = "fluorescence", cast("Label", light)
            still = self.unbleached(label, dish, place[2])
            image = dish.fluorescence(
                *place, label=label, lamp=lamp, unbleached=still.share, **exposure
            )
            about |= {"Dish-label": label, "Dish-unbleached": still.text}
        self._spend(light, dish, place[2], scene, lamp)
        return image, {**about, "Dish-channel": kind}

    def unbleached(self, label: Label, dish: Dish, xy_um: tuple[float, float]) -> Unbleached:
        """Return how much of a label still shines where a dish's frame lies."""
        return self.dose.unbleached(label, xy_um, dish.shape, dish.pixel_size_um)

    def _changed(self) -> dict[str, str]:
        """Return the camera's settings that are not those of the start, as metadata."""
        now, first = self._sensor, self.first_sensor
        told = {
            f"Dish-{name}": repr(getattr(now, name))
            for name in ("bit_depth", "gain", "offset", "read_noise")
            if getattr(now, name) != getattr(first, name)
        }
        if self._binning > 1:
            told["Dish-binning"] = repr(self._binning)
        if self._roi is not None:
            told["Dish-roi"] = ",".join(map(str, self._roi))
        return told

    def _spend(
        self,
        light: str,
        dish: Dish,
        xy_um: tuple[float, float],
        scene: Scene,
        lamp: float | None = None,
    ) -> None:
        """Add a frame's light to the dish's dose."""
        height, width = (n * dish.pixel_size_um for n in dish.shape)
        brightness = self._faults.brightness(scene.number) if lamp is None else lamp
        self.dose.expose(light, xy_um, (height, width), scene.exposure_ms, brightness=brightness)


def _visit(scene: Scene) -> tuple[int, ...]:
    """Return which visit of which position a scene is of; each frame outside a run is one of its own."""
    index = scene.index
    if not index:
        return scene.number, 0
    tile = (index["g"],) if "g" in index else ()
    return index.get("p", 0), index.get("t", 0), *tile, 2 + len(tile)


def _light_of(scene: Scene) -> Literal["transmitted", "other"] | Label | None:
    """Return which light falls on the dish in a scene; None where the shutter keeps it away."""
    if not scene.lit:
        return None
    if scene.channel in _DARK:
        return "other"
    return _LABELS.get(scene.channel, "transmitted")


def _fault_property(
    name: str,
) -> tuple[Callable[[DishCamera], str], Callable[[DishCamera, str], None]]:
    """Return getter and setter of the device property of a fault."""

    def get(camera: DishCamera) -> str:
        return camera.faults.text(name)

    def put(camera: DishCamera, value: str) -> None:
        camera.faults = camera.faults.with_text(name, str(value), where="fault")

    return get, put
