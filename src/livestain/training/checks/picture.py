"""The checks as a picture: where each pair says that the target lies, and the bad pairs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

from livestain.pictures import Panel, draw_panels, overlay, stretched

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from livestain.training.checks.quality import BadPair
    from livestain.training.checks.registration import Registration
    from livestain.training.checks.report import CheckReport
    from livestain.training.pairs import Pair, PairSet

__all__ = ["draw_checks"]

_SIDE = 256
_MOST_BAD = 12
_PAPER, _INK, _FAINT = (24, 24, 28), (235, 235, 235), (96, 96, 104)
_FOUND, _BOUND = (255, 176, 0), (100, 143, 255)  # two colours that everyone can tell apart


def draw_checks(report: CheckReport) -> Image.Image:
    """Draw a row for each movie and target, and one for each of the first bad pairs.

    A movie's row: what each pair says (dots; hollow: not to be trusted), the movie's displacement with its
    interval (cross and box) and the tolerance (frame); displacements of parts of the plane, ten times
    enlarged; and the middle of its middle pair, target over source, as recorded and, if so, corrected.

    Parameters
    ----------
    report : CheckReport
        Whose pairs are not closed yet.

    Raises
    ------
    DataError
        If an image cannot be used.
    """
    rows = [_movie(report, one) for one in report.registration]
    shown = report.bad[:_MOST_BAD]
    rows += [_bad(report, bad) for bad in shown]
    if not rows:
        panel = Panel("nothing was looked at, and no pair is bad", np.zeros((_SIDE,) * 2, np.uint8))
        rows = [[panel]]
    more = f"; {len(report.bad) - len(shown)} more are not shown" if report.bad[_MOST_BAD:] else ""
    return draw_panels(
        rows,
        pixel_size_um=report.recipe.pixel_size_um,
        caption=f"{len(report.recorded.pairs)} pairs, {len(report.bad)} faults{more}",
    )


def _movie(report: CheckReport, one: Registration) -> list[Panel]:
    pairs = [pair for pair in report.recorded.pairs if pair.movie == one.movie]
    middle = pairs[len(pairs) // 2]
    k = [target.channel for target in report.recipe.targets].index(one.target)
    panels = [
        Panel(
            f"{one.movie}, {one.target}: {report.words(one)}", _scatter(one, report.tolerance_px)
        ),
        Panel("parts, x 10", _arrows(one)),
        Panel(f"{one.target}, as recorded", _over(report.recorded, middle, k)),
    ]
    if one.movie in report.corrections:
        known = {(pair.movie, pair.name): pair for pair in report.pairs.pairs}
        kept = known.get((middle.movie, middle.name))
        if kept is not None:
            panels.append(Panel(f"{one.target}, corrected", _over(report.pairs, kept, k)))
    return panels


def _title(one: Registration) -> str:
    if not one.told:
        return f"{one.movie}: cannot tell"
    title = f"{one.movie}: y {one.dy_px:+.1f}, x {one.dx_px:+.1f} px"
    return title if one.dz_planes is None else f"{title}, z {one.dz_planes:+.1f}"


def _scatter(one: Registration, tolerance: float) -> NDArray[np.uint8]:
    """Draw displacements of pairs, x to the right and y downwards, as in the image."""
    picture = Image.new("RGB", (_SIDE, _SIDE), _PAPER)
    draw = ImageDraw.Draw(picture)
    told = [pair for pair in one.pairs if pair.told]
    far = [tolerance, *(max(abs(p.dy_px), abs(p.dx_px)) for p in told)]
    if one.told:
        far += [abs(one.dy_px), abs(one.dx_px)]
    half = _SIDE / 2
    scale = 0.85 * half / max(far)

    def at(dy: float, dx: float) -> tuple[float, float]:
        return half + dx * scale, half + dy * scale

    draw.line((half, 0, half, _SIDE), fill=_FAINT)
    draw.line((0, half, _SIDE, half), fill=_FAINT)
    draw.rectangle((*at(-tolerance, -tolerance), *at(tolerance, tolerance)), outline=_BOUND)
    draw.text((at(0, -tolerance)[0] + 3, half + 2), f"{tolerance:.3g} px", fill=_BOUND)
    for pair in one.pairs:
        x, y = at(pair.dy_px, pair.dx_px)
        fill = _INK if pair.told else None
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), outline=_INK if pair.told else _FAINT, fill=fill)
    if one.told:
        x, y = at(one.dy_px, one.dx_px)
        draw.line((x - 9, y, x + 9, y), fill=_FOUND, width=2)
        draw.line((x, y - 9, x, y + 9), fill=_FOUND, width=2)
        if one.interval_y_px is not None and one.interval_x_px is not None:
            low = at(one.interval_y_px[0], one.interval_x_px[0])
            draw.rectangle((*low, *at(one.interval_y_px[1], one.interval_x_px[1])), outline=_FOUND)
    return np.asarray(picture)


def _arrows(one: Registration) -> NDArray[np.uint8]:
    picture = Image.new("RGB", (_SIDE, _SIDE), _PAPER)
    draw = ImageDraw.Draw(picture)
    if not one.tiles:
        draw.text((8, 8), "one part, or none that tells", fill=_FAINT)
        return np.asarray(picture)
    reach = max(max(abs(tile.y), abs(tile.x)) for tile in one.tiles) or 1.0
    for tile in one.tiles:
        x, y = (_SIDE * (0.5 + 0.35 * place / reach) for place in (tile.x, tile.y))
        _arrow(draw, (x, y), (x + 10 * tile.dx, y + 10 * tile.dy))
    return np.asarray(picture)


def _arrow(draw: ImageDraw.ImageDraw, start: tuple[float, float], end: tuple[float, float]) -> None:
    draw.line((*start, *end), fill=_FOUND, width=2)
    draw.ellipse((start[0] - 2, start[1] - 2, start[0] + 2, start[1] + 2), fill=_INK)
    angle = math.atan2(end[1] - start[1], end[0] - start[0])
    for side in (angle + 2.6, angle - 2.6):
        draw.line(
            (*end, end[0] + 6 * math.cos(side), end[1] + 6 * math.sin(side)), fill=_FOUND, width=2
        )


def _over(pairs: PairSet, pair: Pair, k: int) -> NDArray[np.uint8]:
    planes = _planes(pairs, pair)
    source, target = planes["source"], planes["target"][k] if len(planes["target"]) else None
    if source is None or target is None:
        return np.zeros((_SIDE, _SIDE, 3), np.uint8)
    return overlay(_square(stretched(source)), _square(stretched(target, low=50.0)), "FF00FF")


def _bad(report: CheckReport, bad: BadPair) -> list[Panel]:
    pair = next(
        one for one in report.recorded.pairs if (one.movie, one.name) == (bad.movie, bad.pair)
    )
    planes = _planes(report.recorded, pair)
    panels = [Panel(f"{bad.movie}, {bad.pair}: {bad.kind}", _words(bad.why))]
    if planes["source"] is not None:
        panels.append(Panel(report.recipe.sources[0].channel, _square(stretched(planes["source"]))))
    for target, plane in zip(report.recipe.targets, planes["target"], strict=False):
        if plane is not None:
            panels.append(Panel(target.channel, _square(stretched(plane))))
    return panels


def _words(text: str) -> NDArray[np.uint8]:
    picture = Image.new("RGB", (_SIDE, _SIDE), _PAPER)
    line, lines = "", []
    for word in text.split():
        if len(line) + len(word) > 36:
            lines.append(line)
            line = ""
        line += word + " "
    ImageDraw.Draw(picture).multiline_text((8, 8), "\n".join([*lines, line]), fill=_INK)
    return np.asarray(picture)


def _planes(pairs: PairSet, pair: Pair) -> dict[str, Any]:
    """Return one plane of the first source, and one of each target or None."""
    there = pairs.present(pair)
    rows = np.flatnonzero(there.any(axis=0)) if len(there) else np.array([], int)
    row = int(rows[len(rows) // 2]) if len(rows) else pair.depth // 2
    data = pairs.read(pair, slice(row, row + 1))
    source = data.source[0, data.source.shape[1] // 2] if len(data.source) else None
    target = [
        plane[0] if here[0] else None for plane, here in zip(data.target, data.present, strict=True)
    ]
    return {"source": source, "target": target}


def _square(plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cut the middle out, or pad with black."""
    found = np.zeros((_SIDE, _SIDE), np.uint8)
    cut = plane
    for axis in (0, 1):
        spare = max(cut.shape[axis] - _SIDE, 0) // 2
        cut = np.take(cut, range(spare, spare + min(cut.shape[axis], _SIDE)), axis=axis)
    top, left = ((_SIDE - n) // 2 for n in cut.shape)
    found[top : top + cut.shape[0], left : left + cut.shape[1]] = cut
    return found
