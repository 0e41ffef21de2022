"""Where the time goes: a bar for each backend, cut into stages."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from livestain.benching.verdict import short, taken
from livestain.charts import round_ticks

if TYPE_CHECKING:
    from livestain.benching.results import BenchResult, Measurement, SizeResult

__all__ = ["chart"]

_COLOURS = {"upload": "#8a8f99", "normalise": "#3f7fbf", "network": "#c2477f", "encode": "#d99a2b"}
_LEFT, _WIDTH, _BAR, _GAP = 190, 560, 18, 8
_STYLE = (
    "text { font: 12px system-ui, sans-serif; fill: #1b1d22; } .head { font-weight: 600; } "
    ".grid { stroke: #d9dbe0; } .soft { fill: #5c6069; }"
)


def chart(result: BenchResult) -> str:
    """Return an SVG with a part for each model and frame size; empty where nothing was measured.

    Each part has its own scale, from 0, in milliseconds a prediction; bars are medians of stages, a line at
    their end goes to the 95th percentile of the whole.
    """
    parts: list[str] = []
    top = 40
    for bundle in result.bundles:
        for size in bundle.sizes:
            if size.measured:
                drawn, height = _part(f"{bundle.bundle}, {size.size}²", size, top)
                parts += drawn
                top += height
    if not parts:
        return ""
    across = _LEFT + _WIDTH + 90
    legend = []
    for place, (stage, colour) in enumerate(_COLOURS.items()):
        x = _LEFT + place * 110
        legend.append(f'<rect x="{x}" y="10" width="12" height="12" fill="{colour}"/>')
        legend.append(f'<text x="{x + 17}" y="20">{stage}</text>')
    return "".join(
        (
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {across} {top}" width="{across}" '
                f'height="{top}" role="img" aria-label="Milliseconds a prediction by backend and stage">'
            ),
            f'<style>{_STYLE}</style><rect width="100%" height="100%" fill="#fff"/>',
            *legend,
            *parts,
            "</svg>\n",
        )
    )


def _part(title: str, size: SizeResult, top: int) -> tuple[list[str], int]:
    """Return the elements of one part and its height."""
    order = sorted(size.measured, key=lambda one: one.total.mean)
    chosen = taken(size) if size.auto is not None else None
    ticks = round_ticks(0.0, max(max(one.total.p95, _sum(one)) for one in order))
    scale = _WIDTH / ticks[-1]
    bottom = top + 18 + len(order) * (_BAR + _GAP)
    parts = [f'<text class="head" x="8" y="{top + 8}">{escape(title)}</text>']
    for tick in ticks:
        x = _LEFT + tick * scale
        parts.append(
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top + 14}" y2="{bottom}"/>'
        )
        parts.append(
            f'<text class="soft" x="{x:.1f}" y="{bottom + 14}" text-anchor="middle">{tick:g}</text>'
        )
    parts.append(f'<text class="soft" x="{_LEFT + _WIDTH + 20}" y="{bottom + 14}">ms</text>')
    for place, one in enumerate(order):
        y = top + 18 + place * (_BAR + _GAP)
        name = f"{one.backend}{' (auto)' if one is chosen else ''}"
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 13}" text-anchor="end">{escape(name)}</text>')
        x = float(_LEFT)
        for stage, colour in _COLOURS.items():
            long = one.stages[stage].p50 * scale
            parts.append(
                f'<rect x="{x:.1f}" y="{y}" width="{long:.1f}" height="{_BAR}" fill="{colour}"/>'
            )
            x += long
        end = _LEFT + one.total.p95 * scale
        middle = y + _BAR / 2
        parts.append(
            f'<line x1="{x:.1f}" x2="{end:.1f}" y1="{middle}" y2="{middle}" stroke="#1b1d22"/>'
        )
        parts.append(f'<text x="{max(x, end) + 6:.1f}" y="{y + 13}">{short(one.total.p50)}</text>')
    return parts, bottom + 34 - top


def _sum(one: Measurement) -> float:
    return sum(one.stages[stage].p50 for stage in _COLOURS)
