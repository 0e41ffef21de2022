"""What Micro-Manager says of a data set, in the words that its versions have had for it.

The summary is of the whole data set; each plane has metadata of its own. Values are plain JSON or, in some
versions of 2.0, property maps: ``{"type": "DOUBLE", "scalar": 0.1}``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "StagePosition",
    "interval_s",
    "names_of_channels",
    "number",
    "pixel_size_um",
    "stage_position",
    "step_between",
    "text",
    "z_step_um",
]


@dataclass(frozen=True, slots=True)
class StagePosition:
    """Name and place of a field of view; None for what is not known."""

    label: str | None = None
    x_um: float | None = None
    y_um: float | None = None
    z_um: float | None = None


def number(told: Mapping[str, Any], *keys: str) -> float | None:
    """Return the first of some values that is a finite number."""
    for key in keys:
        try:
            value = float(_plain(told.get(key)))
        except (TypeError, ValueError):
            continue
        if math.isfinite(value):
            return value
    return None


def text(told: Mapping[str, Any], *keys: str) -> str | None:
    """Return the first of some values that is a name."""
    for key in keys:
        value = _plain(told.get(key))
        if isinstance(value, str) and value:
            return value
    return None


def pixel_size_um(summary: Mapping[str, Any], plane: Mapping[str, Any]) -> float | None:
    """Return the side of a pixel; 0 is what Micro-Manager writes of a microscope without calibration."""
    return _positive(
        number(plane, "PixelSizeUm", "PixelSize_um")
        or number(summary, "PixelSize_um", "PixelSizeUm")
    )


def z_step_um(summary: Mapping[str, Any]) -> float | None:
    """Return the distance of z-planes; stacks that go down have a negative one."""
    step = number(summary, "z-step_um", "ZStepUm")
    return _positive(abs(step)) if step is not None else None


def step_between(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> float | None:
    """Return the distance of two planes by where the focus was to be, or was, for each."""
    for key in ("ZPosition_um_Intended", "ZPositionUm"):
        a, b = number(lower, key), number(upper, key)
        if a is not None and b is not None:
            return _positive(round(abs(b - a), 6))
    return None


def interval_s(summary: Mapping[str, Any]) -> float | None:
    """Return the time from one time point to the next; 0 is written of runs as fast as possible."""
    interval = number(summary, "Interval_ms", "WaitInterval")
    return _positive(interval / 1000.0) if interval is not None else None


def names_of_channels(summary: Mapping[str, Any], n: int) -> tuple[str, ...]:
    """Return n names: those of the summary as far as they go, then numbers."""
    told = _plain(summary.get("ChNames"))
    names = [str(_plain(name)) for name in told] if isinstance(told, list) else []
    return tuple(names[c] if c < len(names) and names[c] else str(c) for c in range(n))


def stage_position(
    summary: Mapping[str, Any], plane: Mapping[str, Any], p: int | None
) -> StagePosition:
    """Return where a field of view is: by the list of positions, else by where the stage was.

    Parameters
    ----------
    summary, plane : mapping
        Metadata of the data set, and of one plane of this field of view.
    p : int or None
        Its number in the list of positions.
    """
    listed = _plain(summary.get("StagePositions"))
    one = listed[p] if isinstance(listed, list) and p is not None and p < len(listed) else {}
    one = one if isinstance(one, dict) else {}
    x = y = z = None
    for device, values in _devices(one):
        if len(values) == 2 and device in (text(one, "DefaultXYStage", "defaultXYStage"), None):
            x, y = values
        elif len(values) == 1 and device == text(one, "DefaultZStage", "defaultZStage"):
            z = values[0]
    return StagePosition(
        label=text(one, "Label", "label") or text(plane, "PositionName"),
        x_um=x if x is not None else number(plane, "XPosition_um_Intended", "XPositionUm"),
        y_um=y if y is not None else number(plane, "YPosition_um_Intended", "YPositionUm"),
        z_um=z if z is not None else number(plane, "ZPosition_um_Intended", "ZPositionUm"),
    )


def _devices(one: Mapping[str, Any]) -> list[tuple[str | None, Sequence[float]]]:
    found: list[tuple[str | None, Sequence[float]]] = []
    devices = _plain(one.get("DevicePositions"))
    for device in devices if isinstance(devices, list) else []:
        values = _plain(device.get("Position_um")) if isinstance(device, dict) else None
        if isinstance(values, list) and all(isinstance(v, int | float) for v in values):
            found.append((text(device, "Device"), [float(v) for v in values]))
    return found


def _plain(value: Any) -> Any:
    """Return what a property map holds."""
    if isinstance(value, dict) and "type" in value:
        return value.get("scalar", value.get("array"))
    return value


def _positive(value: float | None) -> float | None:
    return value if value is not None and value > 0 else None
