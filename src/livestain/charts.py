"""Charts as SVG, for pages that need nothing else."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["PAGE_STYLE", "Series", "line_chart", "round_ticks"]

_POINTS = 600
"""Most points of a series that are drawn; the rest is thinned out, ends and extremes kept."""

PAGE_STYLE = """
:root { color-scheme: light; --ink: #1b1d22; --soft: #5c6069; --line: #d9dbe0; }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: #fff; margin: 0 auto;
  max-width: 900px; padding: 24px 20px 60px; }
h1 { font-size: 1.5rem; margin: 0 0 .2rem; overflow-wrap: anywhere; }
h2 { margin: 2rem 0 .5rem; font-size: 1.15rem; }
p, li { max-width: 78ch; } .soft { color: var(--soft); font-size: .9rem; }
.warn { border-left: 4px solid #c77700; background: #fff6e6; padding: .5rem .8rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
.pair { display: grid; grid-template-columns: repeat(auto-fill, minmax(340px, 1fr)); column-gap: 24px; }
svg { width: 100%; height: auto; display: block; margin-top: 1rem; font: 12px system-ui, sans-serif; }
svg text { fill: var(--ink); } svg .grid { stroke: var(--line); }
"""


@dataclass(frozen=True)
class Series:
    """One line, or cloud of dots, of a chart.

    Attributes
    ----------
    name : str
        Of the legend.
    x, y : array
        As many of both; x ascending.
    colour : str
        As in CSS.
    kind : {"line", "step", "dots"}
        `step` keeps a value until the next.
    dashed : bool
        For what is predicted.
    """

    name: str
    x: NDArray[Any]
    y: NDArray[Any]
    colour: str
    kind: Literal["line", "step", "dots"] = "line"
    dashed: bool = False


def line_chart(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    width: int = 700,
    whole: bool = False,
) -> str:
    """Return a chart as SVG, its y axis from 0; empty where no series has a point.

    Parameters
    ----------
    series : sequence of Series
        Drawn in this order.
    x_label, y_label : str
        Quantity and unit.
    width : int
        Of the x axis, in the unit in which text is 12 high.
    whole : bool
        Whether y counts something, so that there is nothing between 0 and 1.
    """
    drawn = [one for one in series if len(one.x)]
    if not drawn:
        return ""
    ticks_x = round_ticks(
        min(0.0, *(float(s.x[0]) for s in drawn)), max(float(s.x[-1]) for s in drawn)
    )
    ticks_y = round_ticks(0.0, max(float(np.max(s.y)) for s in drawn), whole=whole)
    left, top, tall = 64, 34, 220

    def at(x: float, y: float) -> tuple[float, float]:
        across = (x - ticks_x[0]) / (ticks_x[-1] - ticks_x[0])
        up = (y - ticks_y[0]) / (ticks_y[-1] - ticks_y[0])
        return left + width * across, top + tall * (1 - up)

    label = escape(f"{y_label} over {x_label}", quote=True)
    parts = [
        (
            f'<svg viewBox="0 0 {left + width + 24} {top + tall + 44}" role="img" aria-label="{label}" '
            'xmlns="http://www.w3.org/2000/svg">'
        )
    ]
    for tick in ticks_y:
        y = at(ticks_x[0], tick)[1]
        parts.append(
            f'<line class="grid" x1="{left}" x2="{left + width}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in ticks_x:
        x = at(tick, ticks_y[0])[0]
        parts.append(
            f'<text x="{x:.1f}" y="{top + tall + 18}" text-anchor="middle">{tick:g}</text>'
        )
    parts.append(
        f'<text x="{left + width / 2}" y="{top + tall + 38}" text-anchor="middle">{escape(x_label)}</text>'
    )
    parts.append(f'<text x="8" y="14">{escape(y_label)}</text>')
    legend = left + width
    for one in reversed(drawn):
        parts.append(
            f'<text x="{legend}" y="14" text-anchor="end" style="fill: {one.colour}; font-weight: 600">'
            f"{escape(one.name)}</text>"
        )
        legend -= 9 * len(one.name) + 14
    for one in drawn:
        points = [at(float(x), float(y)) for x, y in _thinned(one)]
        if one.kind == "dots":
            parts += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="{one.colour}" fill-opacity="0.6"/>'
                for x, y in points
            ]
            continue
        if one.kind == "step":
            corners = [(b[0], a[1]) for a, b in itertools.pairwise(points)]
            points = [p for pair in zip(points, [*corners, points[-1]], strict=True) for p in pair]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dash = ' stroke-dasharray="6 3"' if one.dashed else ""
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{one.colour}" stroke-width="2"{dash}/>'
        )
    parts.append("</svg>")
    return "".join(parts)


def _thinned(one: Series) -> NDArray[np.float64]:
    """Return (n, 2) points; of long series the first and the highest of each stretch, and the last."""
    points = np.stack([one.x, one.y], axis=1).astype(float)
    if len(points) <= _POINTS:
        return points
    edges = np.linspace(0, len(points), _POINTS // 2 + 1).astype(int)
    kept = {0, len(points) - 1, *edges[:-1].tolist()}
    kept |= {int(a + np.argmax(points[a:b, 1])) for a, b in itertools.pairwise(edges)}
    return points[sorted(kept)]


def round_ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Return round numbers at even distances that reach around a range; three to ten, where not `whole`."""
    if high <= low:
        low, high = (low, low + 2) if whole else (low - 0.5, high + 0.5)
    rough = (high - low) / 6
    decade = 10.0 ** np.floor(np.log10(rough))
    step = next(m * decade for m in (1, 2, 5, 10) if m * decade >= rough)
    if whole:
        step = max(step, 1.0)
    first, last = int(np.floor(low / step)), int(np.ceil(high / step))
    return [round(n * step, 12) for n in range(first, last + 1)]
