"""Pictures of the evaluation page: panels as PNG, difference maps, distributions as SVG."""

from __future__ import annotations

import base64
import io
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from livestain.charts import round_ticks
from livestain.pictures import stretched
from livestain.training.evaluation.picture import Picture

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from livestain.training.evaluation.compare import Example

__all__ = [
    "DIFFERENCE_RANGE",
    "SUBJECT_COLOURS",
    "difference_scale_png",
    "distribution_svg",
    "panels_png",
]

DIFFERENCE_RANGE = 2.0
"""Of the difference map, either way, in standard deviations of a plane."""

SUBJECT_COLOURS = {"prediction": "#a8327f", "control": "#2f7fb8", "shuffled": "#85888f"}

_SIDE = 512
"""Largest side of a panel in pixels; larger frames are averaged down by a whole number."""

_DOTS = 300
"""Most images of a movie that are drawn as dots; of more, evenly spaced ranks."""


def panels_png(example: Example) -> dict[str, str]:
    """Return brightfield, prediction, target and difference as data URIs of PNG files.

    Prediction and target are each brought to mean 0 and standard deviation 1, and shown from the target's
    lowest to its highest percentile, as they are for SSIM; the difference is prediction minus target of
    those planes. The prediction says in its own pixels that it is predicted.
    """
    target = Picture(example.target, 1.0)
    prediction = Picture(example.prediction, 1.0)
    difference = (prediction.z - target.z) / DIFFERENCE_RANGE
    grey = {
        "brightfield": stretched(_smaller(example.source)),
        "prediction": _bytes(_smaller(prediction.in_range_of(target))),
        "target": _bytes(_smaller(target.in_range_of(target))),
    }
    panels = {
        name: _png(Image.fromarray(plane)) for name, plane in grey.items() if name != "prediction"
    }
    panels["prediction"] = _png(_marked(grey["prediction"]))
    panels["difference"] = _png(Image.fromarray(_diverging(_smaller(difference))))
    return panels


def difference_scale_png() -> str:
    """Return the colours of the difference map from its lowest to its highest value, as a data URI."""
    ramp = np.repeat(np.linspace(-1, 1, 256)[None], 12, axis=0)
    return _png(Image.fromarray(_diverging(ramp)))


def _smaller(plane: NDArray[Any]) -> NDArray[np.float64]:
    factor = -(-max(plane.shape) // _SIDE)
    height, width = (max(side // factor, 1) for side in plane.shape)
    cut = plane[: height * factor, : width * factor].astype(np.float64)
    if factor == 1 or min(plane.shape) < factor:
        return plane.astype(np.float64)
    means: NDArray[np.float64] = cut.reshape(height, factor, width, factor).mean(axis=(1, 3))
    return means


def _bytes(plane: NDArray[np.float64]) -> NDArray[np.uint8]:
    grey: NDArray[np.uint8] = np.rint(np.clip(plane, 0, 1) * 255).astype(np.uint8)
    return grey


def _diverging(plane: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return blue below 0, white at 0 and red above, saturated at -1 and 1, (y, x, 3)."""
    value = np.clip(plane, -1, 1)[..., None]
    low, high = np.array([33.0, 102.0, 172.0]), np.array([178.0, 24.0, 43.0])
    colour = np.where(value < 0, low, high)
    mixed: NDArray[np.uint8] = np.rint(255 + (colour - 255) * np.abs(value)).astype(np.uint8)
    return mixed


def _marked(grey: NDArray[np.uint8]) -> Image.Image:
    """Return a prediction that cannot be taken for a recording, wherever its file ends up."""
    zoom = max(1, -(-192 // grey.shape[1]))
    picture = Image.fromarray(grey).convert("RGB")
    if zoom > 1:
        picture = picture.resize(
            (picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST
        )
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(13)
    words = "PREDICTED"
    width = int(font.getlength(words)) + 10
    draw.rectangle((0, 0, width, 19), fill=SUBJECT_COLOURS["prediction"])
    draw.text((5, 2), words, fill=(255, 255, 255), font=font)
    return picture


def _png(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def distribution_svg(values: Mapping[str, Mapping[str, Sequence[float]]], label: str) -> str:
    """Return one number's distribution over images as SVG: a dot an image, a box of its quartiles.

    Parameters
    ----------
    values : dict of str to dict of str to sequence of float
        ``values[movie][subject]``; what is not finite is left out.
    label : str
        Of the axis.
    """
    rows = [
        (movie, subject, kept)
        for movie, by_subject in values.items()
        for subject, numbers in by_subject.items()
        if len(kept := np.sort([x for x in numbers if np.isfinite(x)]))
    ]
    if not rows:
        return ""
    every = np.concatenate([numbers for _, _, numbers in rows])
    ticks = round_ticks(float(every.min()), float(every.max()))
    low, high = ticks[0], ticks[-1]
    left, width, tall, top = 210, 520, 24, 8
    height = top + tall * len(rows) + 42

    def at(value: float) -> float:
        return left + width * (value - low) / (high - low)

    parts = [
        (
            f'<svg viewBox="0 0 {left + width + 24} {height}" role="img" '
            f'aria-label="{escape(label, quote=True)} by movie" xmlns="http://www.w3.org/2000/svg">'
        )
    ]
    for tick in ticks:
        x = at(tick)
        bottom = height - 38
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{tick:g}</text>')
    parts.append(
        f'<text x="{left + width / 2}" y="{height - 4}" text-anchor="middle">{escape(label)}</text>'
    )
    rng = np.random.default_rng(0)
    for i, (movie, subject, numbers) in enumerate(rows):
        y = top + tall * (i + 0.5)
        colour = SUBJECT_COLOURS[subject]
        shown = numbers[
            np.unique(np.linspace(0, len(numbers) - 1, min(len(numbers), _DOTS)).astype(int))
        ]
        name = f"{movie}: {subject}"
        parts.append(
            f'<text x="{left - 10}" y="{y + 4:.1f}" text-anchor="end">'
            f"{escape(name if len(name) < 32 else '…' + name[-30:])}</text>"
        )
        q25, q50, q75 = np.percentile(numbers, (25, 50, 75))
        parts.append(
            f'<rect x="{at(q25):.1f}" y="{y - 8:.1f}" width="{max(at(q75) - at(q25), 1):.1f}" '
            f'height="16" fill="{colour}" fill-opacity="0.25" stroke="{colour}"/>'
        )
        for value, jitter in zip(shown, rng.uniform(-6, 6, len(shown)), strict=True):
            parts.append(
                f'<circle cx="{at(value):.1f}" cy="{y + jitter:.1f}" r="2" fill="{colour}" '
                'fill-opacity="0.7"/>'
            )
        parts.append(
            f'<line x1="{at(q50):.1f}" x2="{at(q50):.1f}" y1="{y - 9:.1f}" y2="{y + 9:.1f}" '
            f'stroke="{colour}" stroke-width="3"/>'
        )
    parts.append("</svg>")
    return "".join(parts)
