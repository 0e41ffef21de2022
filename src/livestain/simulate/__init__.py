"""The simulated dish: living cells, optics and sensor, as arrays alone; no torch, no microscope."""

from livestain.simulate.dish import Dish
from livestain.simulate.faults import Faults
from livestain.simulate.kinds import CellKind
from livestain.simulate.light_dose import Illumination, LightDose
from livestain.simulate.mitochondria import NetworkNumbers
from livestain.simulate.optics import Optics
from livestain.simulate.profiles import Profile, find_profile, profile_names
from livestain.simulate.sensor import Sensor

__all__ = [
    "CellKind",
    "Dish",
    "Faults",
    "Illumination",
    "LightDose",
    "NetworkNumbers",
    "Optics",
    "Profile",
    "Sensor",
    "find_profile",
    "profile_names",
]
