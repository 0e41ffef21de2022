"""What a store says of a simulated run: with it the same dish lies under a microscope again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from pydantic import Field

from livestain.settings import Settings
from livestain.simulate.dish import Dish
from livestain.simulate.faults import Faults
from livestain.simulate.optics import Optics
from livestain.simulate.profiles import Profile
from livestain.simulate.sensor import Sensor

if TYPE_CHECKING:
    from livestain.live.dish_camera import DishCamera

__all__ = ["Simulation"]


class Simulation(Settings):
    """A simulated microscope as it was when its run began."""

    seed: int = Field(ge=0)
    """Which dish."""

    profile: Profile
    """Cells, objective and camera."""

    shape: tuple[int, int]
    """Size (y, x) of the camera's whole frame in pixels, unbinned."""

    pixel_size_um: float = Field(gt=0, allow_inf_nan=False)
    """Side of a pixel in the sample through the objective of the start, in micrometres."""

    optics: Optics | None = None
    """Objective, condenser and wavelengths where they are not the profile's."""

    sensor: Sensor | None = None
    """The camera where it is not the profile's."""

    faults: Faults = Faults()
    """What went wrong."""

    seconds_per_timepoint: float | None = 5.0
    """Seconds of the dish between time points; None: real time."""

    time_scale: float = 1.0
    """Seconds of the dish per real second, wherever real time counts."""

    @classmethod
    def of_camera(cls, camera: DishCamera) -> Self:
        """Return what a camera shows, and how."""
        dish, sensor = camera.dish, camera.first_sensor
        return cls(
            seed=dish.seed,
            profile=dish.profile,
            shape=dish.shape,
            pixel_size_um=dish.pixel_size_um,
            optics=None if dish.optics == dish.profile.optics else dish.optics,
            sensor=None if sensor == dish.profile.sensor else sensor,
            faults=camera.faults,
            seconds_per_timepoint=camera.seconds_per_timepoint,
            time_scale=camera.time_scale,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types: the profile whole, of the faults those that are on."""
        told = self.model_dump(mode="json", exclude={"faults"})
        told["faults"] = self.faults.model_dump(mode="json", exclude_defaults=True)
        return {key: value for key, value in told.items() if value is not None or key not in _OWN}

    def dish(self) -> Dish:
        """Return the dish."""
        return Dish(
            self.seed,
            self.profile,
            shape=self.shape,
            pixel_size_um=self.pixel_size_um,
            optics=self.optics,
            sensor=self.sensor,
        )

    def differs(self, other: Simulation) -> str:
        """Return in which words another microscope shows another dish than this one; "" where it does not.

        Faults may come and go, and time may run otherwise: the cells are the same.
        """
        if self.seed != other.seed:
            return f"seed {self.seed}, and the microscope's has seed {other.seed}"
        if self.profile != other.profile:
            name, there = self.profile.name, other.profile.name
            there = f"{there} with other settings" if name == there else there
            return f"profile {name}, and the microscope's has {there}"
        for field in ("shape", "pixel_size_um", "optics", "sensor"):
            was, here = getattr(self, field), getattr(other, field)
            if was != here:
                short = f"{field} {was}, and the microscope's has {here}"
                return short if len(short) < 120 else f"{field} that the microscope's has not"
        return ""


_OWN = ("optics", "sensor")
"""What is the profile's where nothing is said."""
