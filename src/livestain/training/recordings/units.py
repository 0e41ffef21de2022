"""Lengths in the units that files of others give them in."""

from __future__ import annotations

from livestain.errors import DataError

__all__ = ["square_um", "um_of"]

_UM = {
    "angstrom": 1e-4,
    "nanometer": 1e-3,
    "nm": 1e-3,
    "micrometer": 1.0,
    "micrometre": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "um": 1.0,
    "\u00b5m": 1.0,  # micro sign
    "\u03bcm": 1.0,  # Greek mu
    "\\u00b5m": 1.0,  # as ImageJ writes it
    "millimeter": 1e3,
    "mm": 1e3,
    "centimeter": 1e4,
    "cm": 1e4,
    "meter": 1e6,
    "m": 1e6,
}

_SQUARE = 0.005
"""Relative difference of the sides of a pixel that counts as none."""


def um_of(value: float, unit: str | None) -> float | None:
    """Return a length in micrometres; None where it is none, or of a unit that is no length.

    Without a unit, 1 is what programs write that do not know, and all else is taken for micrometres.
    """
    if not value > 0 or (unit is None and value == 1.0):
        return None
    factor = _UM.get(unit.lower()) if unit is not None else 1.0
    return value * factor if factor is not None else None


def square_um(y_um: float | None, x_um: float | None, where: object) -> float | None:
    """Return the side of a pixel.

    Raises
    ------
    DataError
        If it is not square.
    """
    if y_um is None or x_um is None:
        return None
    if abs(y_um / x_um - 1) > _SQUARE:
        raise DataError(
            f"{where} has pixels of {y_um:g} x {x_um:g} um (y, x); expected square ones. Correct the "
            "metadata, or resample the images."
        )
    return x_um
