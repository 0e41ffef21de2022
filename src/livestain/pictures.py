"""Pictures of planes for people: brightfield, prediction, truth and overlay, with a scale bar."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from livestain.files import replacing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["Panel", "coloured", "draw_panels", "overlay", "save_picture", "stretched"]

_MARGIN = 8
_INK = (235, 235, 235)
_PAPER = (24, 24, 28)


@dataclass(frozen=True)
class Panel:
    """One picture with the words above it.

    Attributes
    ----------
    title : str
        What it shows.
    image : array of uint8, (y, x) or (y, x, 3)
        Pixels.
    """

    title: str
    image: NDArray[np.uint8]


def stretched(plane: NDArray[Any], low: float = 0.5, high: float = 99.7) -> NDArray[np.uint8]:
    """Return a plane as 8 bits, its contrast stretched between two percentiles.

    Parameters
    ----------
    plane : array, (y, x)
        Any real dtype; NaN becomes black.
    low, high : float
        Percentiles that become black and white.
    """
    values = np.nan_to_num(plane.astype(np.float32))
    bottom, top = np.percentile(values, (low, high))
    scaled = (values - bottom) / max(float(top - bottom), 1e-6)
    result: NDArray[np.uint8] = (np.clip(scaled, 0, 1) * 255).astype(np.uint8)
    return result


def coloured(grey: NDArray[np.uint8], color: str) -> NDArray[np.uint8]:
    """Return a grey picture (y, x) in one colour ("FF00FF"), as (y, x, 3)."""
    rgb = np.array([int(color[i : i + 2], 16) for i in (0, 2, 4)], np.float32) / 255
    result: NDArray[np.uint8] = (grey[..., None] * rgb).astype(np.uint8)
    return result


def overlay(grey: NDArray[np.uint8], signal: NDArray[np.uint8], color: str) -> NDArray[np.uint8]:
    """Return a signal in its colour over a grey picture, as (y, x, 3)."""
    base = grey[..., None].astype(np.float32) * 0.75
    total = base + coloured(signal, color).astype(np.float32)
    result: NDArray[np.uint8] = np.clip(total, 0, 255).astype(np.uint8)
    return result


def draw_panels(
    rows: Sequence[Sequence[Panel]],
    *,
    pixel_size_um: float,
    caption: str = "",
    min_side: int = 256,
) -> Image.Image:
    """Draw panels side by side, a row under a row, with one scale bar in the last panel of each row.

    Parameters
    ----------
    rows : sequence of sequences of Panel
        All images of one height and width.
    pixel_size_um : float
        Size of an image pixel in micrometres, for the scale bar.
    caption : str
        One line under the panels.
    min_side : int
        Smaller images are enlarged by a whole factor to about this height.
    """
    height, width = rows[0][0].image.shape[:2]
    zoom = max(1, round(min_side / height))
    tall, wide = height * zoom, width * zoom
    font = ImageFont.load_default(14)
    line = 22
    columns = max(len(row) for row in rows)
    canvas = Image.new(
        "RGB",
        (
            columns * (wide + _MARGIN) + _MARGIN,
            len(rows) * (tall + line + _MARGIN) + _MARGIN + (line if caption else 0),
        ),
        _PAPER,
    )
    draw = ImageDraw.Draw(canvas)
    for i, row in enumerate(rows):
        for j, panel in enumerate(row):
            x = _MARGIN + j * (wide + _MARGIN)
            y = _MARGIN + i * (tall + line + _MARGIN)
            draw.text((x, y), _fit(panel.title, font, wide), fill=_INK, font=font)
            picture = Image.fromarray(panel.image).convert("RGB")
            canvas.paste(picture.resize((wide, tall), Image.Resampling.NEAREST), (x, y + line))
        _scale_bar(draw, x + wide, y + line + tall, pixel_size_um / zoom, wide)
    if caption:
        draw.text((_MARGIN, canvas.height - line - 2), caption, fill=_INK, font=font)
    return canvas


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a PNG so that whoever looks at `path` sees the old or the new picture, never half of one.

    Where another program holds the old file open, as Windows viewers do, the old one stays.
    """
    with replacing(path, unless_open=True) as part:
        picture.save(part, format="PNG")


def _fit(text: str, font: Any, width: int) -> str:
    while text and font.getlength(text) > width:
        text = text[:-4].rstrip() + "..." if len(text) > 4 else ""
    return text


def _scale_bar(
    draw: ImageDraw.ImageDraw, right: int, bottom: int, um_per_px: float, width: int
) -> None:
    """Draw a bar of a round length, about a quarter of the picture wide, at its lower right."""
    target = width * um_per_px / 4
    decade = 10 ** math.floor(math.log10(target))
    length = max(m * decade for m in (1, 2, 5) if m * decade <= target)
    pixels = round(length / um_per_px)
    x, y = right - 10 - pixels, bottom - 12
    draw.rectangle((x - 1, y - 1, right - 9, y + 5), fill=(0, 0, 0))
    draw.rectangle((x, y, right - 10, y + 4), fill=(255, 255, 255))
    label = f"{length:g} um"  # the font that comes with Pillow has no Greek mu
    font = ImageFont.load_default(13)
    left = x + (pixels - font.getlength(label)) / 2
    draw.text(
        (left, y - 18),
        label,
        fill=(255, 255, 255),
        font=font,
        stroke_width=2,
        stroke_fill=(0, 0, 0),
    )
