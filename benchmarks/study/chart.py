"""Accuracy against the time of a prediction, as SVG: a panel a size, and the front of the best."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Literal

from study.labels import HEIGHT, Box, place_labels, text_width

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ChartPoint", "Kind", "front", "pareto_chart"]

Kind = Literal["ours", "the papers'", "after the papers"]
"""Whose a recipe is; the last are built after a paper's network, or a later one, and are not the paper's."""

_WIDE, _TALL = 660, 270
_LEFT, _TOP, _GAP, _RIGHT, _BOTTOM = 62, 64, 74, 24, 52
_INK, _SOFT, _GRID = "#1b1d22", "#5c6069", "#e3e5e9"
_COLOURS: dict[Kind, str] = {
    "ours": "#a3107a",
    "the papers'": "#2b5c9e",
    "after the papers": "#8a5a00",
}
_RADIUS = 4.5


@dataclass(frozen=True)
class ChartPoint:
    """One recipe at one size.

    Attributes
    ----------
    name : str
    size : int
        Side of the plane, in pixels.
    ms : float
        A plane.
    value, low, high : float
        Pearson, and its interval.
    kind : Kind
        Drawn as a square, a circle, a triangle.
    """

    name: str
    size: int
    ms: float
    value: float
    low: float
    high: float
    kind: Kind


@dataclass(frozen=True)
class _Axes:
    """Places of one panel: milliseconds on a logarithmic axis, Pearson on an even one."""

    top: float
    ms: tuple[float, float]
    pearson: tuple[float, float]

    def x(self, ms: float) -> float:
        low, high = (math.log10(end) for end in self.ms)
        return _LEFT + _WIDE * (math.log10(ms) - low) / (high - low)

    def y(self, value: float) -> float:
        low, high = self.pearson
        return self.top + _TALL * (high - value) / (high - low)


def pareto_chart(points: Sequence[ChartPoint], *, control: float | None = None) -> str:
    """Return the chart as SVG.

    Parameters
    ----------
    points : sequence of ChartPoint
        One or more.
    control : float, optional
        Pearson of the control without learning, drawn as a line.

    Returns
    -------
    str
        One ``<svg>``, with a white ground.

    Raises
    ------
    ValueError
        If there is no point.
    """
    if not points:
        raise ValueError("A chart needs one point or more.")
    sizes = sorted({point.size for point in points})
    ends = [end for p in points for end in (p.low, p.high)] + ([] if control is None else [control])
    low = math.floor(min(ends) * 10 - 0.1) / 10
    high = math.ceil(max(ends) * 10 + 0.1) / 10
    width = _LEFT + _WIDE + _RIGHT
    height = _TOP + len(sizes) * (_TALL + _GAP) - _GAP + _BOTTOM
    about = (
        "Pearson correlation on movies that were not trained on, over milliseconds a plane, of "
        f"{len({p.name for p in points})} recipes at {' and '.join(map(str, sizes))} pixels. "
        + "; ".join(
            f"{p.name}: {p.value:.3f}, {p.ms:.0f} ms" for p in points if p.size == sizes[-1]
        )
    )
    parts = [
        (
            f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            'xmlns="http://www.w3.org/2000/svg" font-family="Arial, Helvetica, sans-serif" font-size="12" '
            f'role="img" aria-label="{escape(about, quote=True)}">'
        ),
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        *_legend(control is not None),
    ]
    for place, size in enumerate(sizes):
        own = [point for point in points if point.size == size]
        axes = _Axes(_TOP + place * (_TALL + _GAP), _decades(own), (low, high))
        parts += _panel(axes, own, size, control)
    return "\n".join([*parts, "</svg>\n"])


def front(points: Sequence[ChartPoint]) -> list[ChartPoint]:
    """Return the points that no other one is both faster and better than, fastest first."""
    best: list[ChartPoint] = []
    for point in sorted(points, key=lambda p: (p.ms, -p.value)):
        if not best or point.value > best[-1].value:
            best.append(point)
    return best


def _decades(points: Sequence[ChartPoint]) -> tuple[float, float]:
    """Return ends of 1, 2 or 5 times a power of ten, with room for the outermost points."""
    marks = [m * 10.0**k for k in range(-3, 8) for m in (1, 2, 5)]
    fastest, slowest = min(p.ms for p in points) / 1.25, max(p.ms for p in points) * 1.25
    low = max(mark for mark in marks if mark <= fastest)
    high = min(mark for mark in marks if mark >= slowest)
    return low, high


def _legend(with_control: bool) -> list[str]:
    parts = [_text(8, 18, "Pearson, mean of the movies left out", bold=True)]
    for x, kind in zip((16, 66, 158), _COLOURS, strict=True):
        parts += [_sign(kind, x, 36), _text(x + 9, 40, kind, colour=_COLOURS[kind])]
    parts += [
        f'<line x1="280" x2="280" y1="29" y2="43" stroke="{_SOFT}" stroke-width="1.2"/>',
        _text(287, 40, "95 % interval"),
        f'<line x1="374" x2="396" y1="36" y2="36" stroke="{_INK}" stroke-width="1.5"/>',
        _text(402, 40, "front: none faster and better"),
    ]
    if with_control:
        parts += [
            f'<line x1="588" x2="610" y1="36" y2="36" stroke="{_SOFT}" stroke-dasharray="4 3"/>',
            _text(616, 40, "control, no learning"),
        ]
    return parts


def _panel(
    axes: _Axes, points: Sequence[ChartPoint], size: int, control: float | None
) -> list[str]:
    parts = _grid(axes, size)
    lines: list[Box] = []
    if control is not None:
        y = axes.y(control)
        lines.append(Box(_LEFT, y - 1, _LEFT + _WIDE, y + 1))
        parts.append(
            f'<line x1="{_LEFT}" x2="{_LEFT + _WIDE}" y1="{y:.1f}" y2="{y:.1f}" stroke="{_SOFT}" '
            'stroke-dasharray="4 3"/>'
        )
    steps = _steps([(axes.x(p.ms), axes.y(p.value)) for p in front(points)])
    for (x, y), (to_x, to_y) in itertools.pairwise(steps):
        lines.append(Box(x - 1, min(y, to_y) - 1, to_x + 1, max(y, to_y) + 1))
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in steps)
    parts.append(f'<polyline points="{path}" fill="none" stroke="{_INK}" stroke-width="1.5"/>')
    for point in points:
        parts += _mark(axes, point)
    ordered = sorted(points, key=lambda p: (-p.value, p.ms))
    spots = [(axes.x(p.ms), axes.y(p.value)) for p in ordered]
    taken = [
        Box(x - 5, axes.y(p.high) - 1, x + 5, axes.y(p.low) + 1)
        for p, (x, _) in zip(ordered, spots, strict=True)
    ]
    room = Box(_LEFT + 2, axes.top + 2, _LEFT + _WIDE - 2, axes.top + _TALL - 2)
    names = [point.name for point in ordered]
    for point, spot, box in zip(
        ordered, spots, place_labels(names, spots, [*taken, *lines], room), strict=True
    ):
        parts += _label(point, spot, box)
    return parts


def _steps(corners: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the front as a staircase, up to the right end."""
    steps = [corners[0]]
    for (_, before), (x, y) in itertools.pairwise(corners):
        steps += [(x, before), (x, y)]
    return [*steps, (_LEFT + _WIDE, corners[-1][1])]


def _grid(axes: _Axes, size: int) -> list[str]:
    parts = []
    bottom = axes.top + _TALL
    low, high = axes.pearson
    for tenth in range(round(low * 10), round(high * 10) + 1):
        y = axes.y(tenth / 10)
        parts += [
            f'<line x1="{_LEFT}" x2="{_LEFT + _WIDE}" y1="{y:.1f}" y2="{y:.1f}" stroke="{_GRID}"/>',
            _text(_LEFT - 8, y + 4, f"{tenth / 10:.1f}", anchor="end"),
        ]
    first, last = (math.floor(math.log10(end) + 1e-9) for end in axes.ms)
    for power, m in itertools.product(range(first, last + 1), range(1, 10)):
        mark = m * 10.0**power
        if not axes.ms[0] <= mark * (1 + 1e-9) or mark > axes.ms[1] * (1 + 1e-9):
            continue
        x = axes.x(mark)
        named = m in (1, 2, 5)
        end = bottom + (6 if named else 3)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{end}" stroke="{_INK}"/>')
        if named:
            parts.append(_text(x, bottom + 19, f"{mark:g}", anchor="middle"))
    title = f"ms a plane of {size} x {size} pixels"
    return [
        *parts,
        f'<rect x="{_LEFT}" y="{axes.top}" width="{_WIDE}" height="{_TALL}" fill="none" stroke="{_INK}"/>',
        _text(_LEFT + _WIDE / 2, bottom + 38, title, anchor="middle"),
    ]


def _mark(axes: _Axes, point: ChartPoint) -> list[str]:
    colour = _COLOURS[point.kind]
    x, y = axes.x(point.ms), axes.y(point.value)
    parts = [
        (
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{axes.y(point.high):.1f}" y2="{axes.y(point.low):.1f}" '
            f'stroke="{colour}" stroke-width="1.2"/>'
        )
    ]
    for end in (point.high, point.low):
        at = axes.y(end)
        parts.append(
            f'<line x1="{x - 3:.1f}" x2="{x + 3:.1f}" y1="{at:.1f}" y2="{at:.1f}" stroke="{colour}" '
            'stroke-width="1.2"/>'
        )
    return [*parts, _sign(point.kind, x, y)]


def _label(point: ChartPoint, spot: tuple[float, float], box: Box) -> list[str]:
    colour = _COLOURS[point.kind]
    parts = []
    x, y = spot
    end = min(max(x, box.left), box.right), min(max(y, box.top), box.bottom)
    if math.dist(spot, end) > 14:
        parts.append(
            f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}" stroke="{colour}" '
            'stroke-width="0.7"/>'
        )
    return [*parts, _text(box.left, box.bottom - 0.25 * HEIGHT, point.name, colour=colour)]


def _sign(kind: Kind, x: float, y: float) -> str:
    colour = _COLOURS[kind]
    if kind == "the papers'":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{_RADIUS}" fill="{colour}"/>'
    if kind == "ours":
        side = 2 * _RADIUS - 1
        left, top = x - side / 2, y - side / 2
        return (
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{side}" height="{side}" fill="{colour}"/>'
        )
    r = _RADIUS + 0.7
    corners = ((x, y - r), (x + 0.9 * r, y + 0.6 * r), (x - 0.9 * r, y + 0.6 * r))
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in corners)
    return f'<polygon points="{path}" fill="{colour}"/>'


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", colour: str = _INK, bold: bool = False
) -> str:
    weight = ' font-weight="bold"' if bold else ""
    # A reader's font may be wider than ours: the text is then squeezed into the room that it was given.
    fixed = ""
    if colour != _INK:
        fixed = f' textLength="{text_width(text):.0f}" lengthAdjust="spacingAndGlyphs"'
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"{weight}{fixed}>'
        f"{escape(text)}</text>"
    )
