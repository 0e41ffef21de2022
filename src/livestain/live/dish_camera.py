"""The camera over a simulated dish."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from livestain.live.camera import Scene, ShowingCamera, StageCore

if TYPE_CHECKING:
    import weakref

    from numpy.typing import DTypeLike, NDArray

    from livestain.simulate import Dish

__all__ = ["DishCamera"]

_GREEN = ("Mitochondria", "FITC")
"""Presets of the channel group that excite the label."""

_DARK = ("DAPI", "Rhodamine", "Cy5")
"""Presets of the demo configuration that excite nothing which is in the dish."""

_PLACES = 200_000
"""Planes of which is remembered what they showed."""


class DishCamera(ShowingCamera):
    """Shows a simulated dish as the stages, the channel group and the exposure say.

    The dish's age: within a run by `LiveEngine` it is the event's time index times
    `seconds_per_timepoint`, so that a plane can be computed again from what its metadata says;
    otherwise the time since the camera was made, times `time_scale`.

    Metadata adds `Dish-time_s`, `Dish-z_um`, `Dish-x_um`, `Dish-y_um` (the arguments of
    ``dish.truth``) and `Dish-channel` (brightfield, fluorescence or dark); `Frame` is the noise's
    frame number.

    Parameters
    ----------
    core
        The core to follow.
    dish : Dish
        What lies under the objective.
    seconds_per_timepoint : float or None
        Seconds between the time points of a run; None uses real time there too.
    time_scale : float
        Seconds of the dish per real second.
    """

    def __init__(
        self,
        core: weakref.ref[StageCore],
        dish: Dish,
        *,
        seconds_per_timepoint: float | None = 5.0,
        time_scale: float = 1.0,
    ) -> None:
        super().__init__(core, dish.shape)
        self.dish = dish
        self.seconds_per_timepoint = seconds_per_timepoint
        self.time_scale = time_scale
        self._born = time.perf_counter()
        self.places: dict[tuple[int, int, int], tuple[float, float, tuple[float, float]]] = {}
        """Arguments of ``dish.truth`` of the planes shown for events, by (p, t, z); the newest count."""

    def dtype(self) -> DTypeLike:
        """Return uint16."""
        return np.dtype(np.uint16)

    def age_s(self, index: dict[str, int]) -> float:
        """Return the dish's age in seconds at an event's index."""
        if self.seconds_per_timepoint is not None and "t" in index:
            return index["t"] * self.seconds_per_timepoint
        return round((time.perf_counter() - self._born) * self.time_scale, 3)

    def show(self, scene: Scene) -> tuple[NDArray[np.uint16], dict[str, Any]]:
        """Return the dish's frame and where and when it was."""
        place = (self.age_s(dict(scene.index)), scene.z_um, (scene.x_um, scene.y_um))
        if "t" in scene.index or "z" in scene.index:
            p, t, z = (int(scene.index.get(axis, 0)) for axis in "ptz")
            self.places[p, t, z] = place
            if len(self.places) > _PLACES:
                del self.places[next(iter(self.places))]
        if scene.channel in _DARK:
            kind = "dark"
            image = self.dish.dark(frame=scene.number)
        elif scene.channel in _GREEN:
            kind = "fluorescence"
            image = self.dish.fluorescence(
                *place, exposure_ms=scene.exposure_ms, frame=scene.number
            )
        else:
            kind = "brightfield"
            image = self.dish.brightfield(*place, exposure_ms=scene.exposure_ms, frame=scene.number)
        return image, {
            "Dish-time_s": repr(place[0]),
            "Dish-z_um": repr(scene.z_um),
            "Dish-x_um": repr(scene.x_um),
            "Dish-y_um": repr(scene.y_um),
            "Dish-channel": kind,
        }
