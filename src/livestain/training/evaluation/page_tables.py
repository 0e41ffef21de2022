"""The tables of the evaluation page."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

from livestain.training.evaluation.results import SUBJECTS
from livestain.training.evaluation.statistics import QUANTILES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from livestain.training.evaluation.results import Evaluation, MetricScores
    from livestain.training.evaluation.statistics import Summary

__all__ = ["flicker_table", "html_table", "metric_table", "movie_table"]

_NONE = "\N{EN DASH}"

_WORDS = {"prediction": "predicted"}

Interval = tuple[float, float]


def html_table(heads: Iterable[str], rows: Iterable[str]) -> str:
    """Return a table of HTML rows that scrolls by itself where the window is narrow."""
    head = "".join(f"<th>{text}</th>" for text in heads)
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody>'
        "</table></div>"
    )


def metric_table(by_metric: dict[str, MetricScores]) -> str:
    """Return means, intervals and quantiles of every number, for prediction and controls.

    What is counted in the target alone is measured, and the same for all of them: one row.
    """
    rows = []
    for name, scores in by_metric.items():
        measured = "_target" in name
        for subject in ("prediction",) if measured else SUBJECTS:
            summary: Summary = getattr(scores.overall, subject)
            first = subject == "prediction"
            kind, words = ("measured",) * 2 if measured else (subject, _WORDS.get(subject, subject))
            cells = (
                f"<td>{escape(scores.label) if first else ''}</td>",
                f'<td class="{kind}">{words}</td>',
                _td(_text(summary.mean, scores.digits)),
                _td(_range(summary.interval, scores.digits)),
                _td(_range(summary.interval_movies, scores.digits)),
                *(
                    _td(_text(q, scores.digits))
                    for q in (summary.quantiles or (None,) * len(QUANTILES))
                ),
                _td(str(summary.n)),
            )
            rows.append(f"<tr{' class=first' if first else ''}>{''.join(cells)}</tr>")
    quantiles = (f"{q} %" for q in QUANTILES)
    heads = ("metric", "", "mean", "95 % over frames", "95 % over movies", *quantiles, "images")
    return html_table(heads, rows) + (
        '<p class="soft">Mean: over movies of the mean over images. Quantiles: over all images; 50 % is '
        "the median. A dash: not defined, or infinite.</p>"
    )


def movie_table(evaluation: Evaluation) -> str:
    """Return Pearson by movie, of prediction and controls."""
    rows = []
    by_movie = evaluation.by_metric["pearson"].by_movie
    for name, movie in evaluation.by_movie.items():
        shuffled = by_movie[name].shuffled
        cells = (
            f"<td>{escape(name)}{' (trained on)' if movie.trained_on else ''}</td>",
            _td(str(movie.n)),
            _td(str(movie.frames)),
            f'<td class="prediction">{_with(movie.pearson, movie.interval)}</td>',
            _td(_with(movie.control, movie.control_interval)),
            _td(_with(movie.pearson - movie.control, movie.gain_interval)),
            _td(_with(shuffled.mean, shuffled.interval)),
        )
        rows.append(f"<tr>{''.join(cells)}</tr>")
    heads = ("movie", "images", "frames", "predicted", "control", "gain", "shuffled")
    return html_table(heads, rows) + (
        '<p class="soft">In brackets: 95 % bootstrap intervals over frames. Gain: predicted less '
        "control.</p>"
    )


def flicker_table(evaluation: Evaluation) -> str:
    """Return how much series change from frame to frame; nothing where there is none."""
    rows = []
    for name, item in evaluation.flicker.items():
        if item is not None:
            numbers = (
                *(item.prediction, item.target, item.ratio),
                *(item.pixel_prediction, item.pixel_target, item.pixel_ratio),
            )
            cells = "".join(_td(_text(number, 3)) for number in numbers)
            rows.append(f"<tr><td>{escape(name)}</td>{cells}<td>{item.steps}</td></tr>")
    if not rows:
        return ""
    frame = ("frame: predicted", "target", "ratio")
    pixel = ("pixel: predicted", "target", "ratio")
    return (
        "<h3>Temporal flicker</h3>"
        + html_table(("movie", *frame, *pixel, "steps"), rows)
        + '<p class="soft">Frame: standard deviation over time of the frame-to-frame change of the mean '
        "intensity. Pixel: root mean square frame-to-frame change, which holds motion and, in the target, "
        "noise. Both in units of each film's own contrast.</p>"
    )


def _text(value: float | None, digits: int) -> str:
    if value is None or not math.isfinite(value):
        return _NONE
    return f"{value:.{digits}f}"


def _td(text: str) -> str:
    return f"<td>{text}</td>"


def _range(interval: Interval | None, digits: int) -> str:
    if interval is None:
        return _NONE
    return f"{_text(interval[0], digits)} to {_text(interval[1], digits)}"


def _with(value: float | None, interval: Interval | None) -> str:
    if value is None or interval is None:
        return _NONE
    return f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"
