"""Lengths and times in the units that files of others give them in."""

from __future__ import annotations

from livestain.errors import DataError

__all__ = ["length_um", "seconds_of", "square_um", "um_of"]

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

_SECONDS = {
    "microsecond": 1e-6,
    "us": 1e-6,
    "\u00b5s": 1e-6,
    "\u03bcs": 1e-6,
    "millisecond": 1e-3,
    "ms": 1e-3,
    "second": 1.0,
    "sec": 1.0,
    "s": 1.0,
    "minute": 60.0,
    "min": 60.0,
    "hour": 3600.0,
    "h": 3600.0,
    "day": 86400.0,
    "d": 86400.0,
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


def length_um(value: object, unit: str) -> float | None:
    """Return where something is along an axis, in micrometres: of any sign; None if it is no length."""
    factor = _UM.get(unit.lower())
    try:
        return float(str(value)) * factor if factor is not None else None
    except ValueError:
        return None


def seconds_of(value: float, unit: str | None) -> float | None:
    """Return a time in seconds; None where it is none, or its unit is unknown or not said."""
    factor = _SECONDS.get(unit.lower()) if unit is not None else None
    return value * factor if factor is not None and 0 < value < float("inf") else None


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
