"""The simulated dish: living cells, optics and sensor, as arrays alone; no torch, no microscope."""

from livestain.simulate.dish import Dish
from livestain.simulate.optics import Optics
from livestain.simulate.sensor import Sensor

__all__ = ["Dish", "Optics", "Sensor"]
