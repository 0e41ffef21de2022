"""Numbers and tables as Markdown."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from study.estimate import Estimate

__all__ = ["LINE", "METRICS", "Metric", "estimate", "from_to", "number", "paragraph", "table"]

LINE = "<br>"
"""A new line within a table's cell."""

NONE = "-"


@dataclass(frozen=True)
class Metric:
    """How a number is written.

    Attributes
    ----------
    label : str
    digits : int
        Behind the point.
    unit : str
        Written behind the number.
    """

    label: str
    digits: int
    unit: str = ""


METRICS = {
    "pearson": Metric("Pearson", 3),
    "pearson_plane": Metric("Pearson of planes", 3),
    "ssim": Metric("SSIM", 3),
    "psnr": Metric("PSNR, dB", 1),
    "nmse": Metric("normalised MSE", 3),
    "objects_a_field": Metric("invented objects a field", 2),
    "missed_a_field": Metric("missed objects a field", 2),
    "unspecific": Metric("unspecific signal left", 3),
    "parameters": Metric("parameters", 0),
    "inference_ms": Metric("time of a prediction", 0, " ms"),
    "steps": Metric("steps", 0),
    "batch_size": Metric("batch size", 0),
    "training_sets": Metric("training sets", 0),
    "wall_seconds": Metric("training", 0, " s"),
}


def number(value: float | None, metric: str) -> str:
    """Return a number as a metric is written; durations from an hour on in hours."""
    if value is None:
        return NONE
    if metric == "wall_seconds" and value >= 3600:
        return f"{value / 3600:.1f} h"
    how = METRICS[metric]
    return f"{value:,.{how.digits}f}{how.unit}"


def estimate(found: Estimate | None, metric: str) -> str:
    """Return a number and its interval, "not run" where there is none."""
    if found is None:
        return "not run"
    text = number(found.value, metric)
    if found.ends is not None:
        low, high = (number(end, metric) for end in found.ends)
        text += f" ({low} to {high})"
    return f"{text}, over-corrected" if metric == "unspecific" and found.value < 0 else text


def from_to(values: Sequence[float]) -> str:
    """Return the least and the largest of some numbers, without decimals; one where they are equal."""
    low, high = f"{min(values):,.0f}", f"{max(values):,.0f}"
    return low if low == high else f"{low} to {high}"


def paragraph(text: str, *, indent: str = "") -> str:
    """Return prose in lines of at most 118 characters, so that a change shows where it is.

    Lines after the first begin with `indent`.
    """
    words = " ".join(text.split())
    filled = textwrap.fill(
        words, 118, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return filled + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers_from: int = 1) -> str:
    """Return a table; columns from `numbers_from` on are aligned to the right.

    Raises
    ------
    ValueError
        If a row has not as many cells as there are columns.
    """
    for row in rows:
        if len(row) != len(head):
            raise ValueError(
                f"A row has {len(row)} cells; expected {len(head)}, one a column: {row}"
            )
    rule = ["---" if i < numbers_from else "---:" for i in range(len(head))]
    lines = [head, rule, *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
