"""The page of a run: one HTML file that needs nothing else."""

from __future__ import annotations

import json
from html import escape
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from livestain._version import __version__
from livestain.charts import PAGE_STYLE, Series, line_chart
from livestain.files import replacing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from livestain.monitor.history import RunHistory, Spread

__all__ = ["page_text", "write_report"]

_RAW = ("#3c4250", "#1b7f79", "#6a5acd", "#8a6d3b")
_PREDICTED = ("#b0127b", "#d1495b", "#7b2cbf")
_OWED = "#c77700"
_HALF = 330
"""Width of charts that stand side by side."""
_MEMORY = {"acquisition": "#3c4250", "workers": "#b0127b"}

_STAGES = {
    "commit": "written to the store",
    "wait": "waiting for its turn",
    "read": "read back",
    "model": "predicted",
    "write": "prediction written",
    "total": "camera to readable prediction",
}


def write_report(history: RunHistory, result: Mapping[str, Any] | None = None) -> tuple[Path, Path]:
    """Write RUN.report.json and RUN.report.html beside a store, of a run that is over or goes on.

    Parameters
    ----------
    history : RunHistory
        See `run_history`.
    result : mapping, optional
        What the run itself reported; goes into the JSON under `run`.

    Returns
    -------
    tuple of Path
        The two files; each is replaced in one step.

    Raises
    ------
    OSError
        If one cannot be written.
    """
    store = Path(history.store)
    stem = store.name.removesuffix(".zarr").removesuffix(".ome")
    numbers, page = (store.with_name(f"{stem}.report.{kind}") for kind in ("json", "html"))
    content = history.to_dict() | ({"run": dict(result)} if result is not None else {})
    with replacing(numbers) as part:
        part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    with replacing(page, unless_open=True) as part:
        part.write_text(page_text(history), encoding="utf-8")
    return numbers, page


def page_text(history: RunHistory) -> str:
    """Return the page as HTML."""
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>{escape(history.store)}</title><style>{PAGE_STYLE}</style></head><body>",
        f"<h1>{escape(history.store)}</h1>",
        (
            f"<p class='soft'>Began {escape(history.began[:19].replace('T', ' '))} UTC, "
            f"{history.seconds:.1f} s. {_end(history)} livestain {escape(__version__)}.</p>"
        ),
        *_warnings(history),
        "<h2>Planes</h2>",
        _planes_table(history),
        _cumulative(history),
        *_reasons(history),
    ]
    parts += ["<div class='pair'>", *_owed(history), *_memory(history), "</div>"]
    parts += [*_latency(history), *_camera(history), *_models(history), "</body></html>"]
    return "\n".join(part for part in parts if part)


def _end(history: RunHistory) -> str:
    if history.interrupted:
        return "Stopped by the user."
    if history.failed:
        return "It broke off."
    return "It came to its end." if history.finished else "It has not ended, or crashed."


def _warnings(history: RunHistory) -> list[str]:
    status = history.status
    found = []
    if status.raw.impossible:
        found.append(f"{status.raw.impossible} raw planes are missing for good.")
    if status.uncertain:
        found.append(f"{status.uncertain} raw planes may lie in another's place.")
    if status.virtual.owed:
        found.append(f"{status.virtual.owed} predictions are still owed.")
    if status.virtual.impossible:
        found.append(f"{status.virtual.impossible} predictions are impossible.")
    return [f"<p class='warn'>{escape(line)}</p>" for line in found]


def _planes_table(history: RunHistory) -> str:
    heads = ("planned", "present", "owed", "skipped", "impossible", "uncertain")
    virtual = set(history.status.by_channel) - set(history.light)
    predicted = {m["channel"] for m in history.models} | set(history.stained_s)
    rows = []
    for name, counts in history.status.by_channel.items():
        shown = f"{escape(name)}{' (predicted)' if name in predicted and name in virtual else ''}"
        cells = "".join(f"<td>{getattr(counts, head)}</td>" for head in heads)
        rows.append(f"<tr><td>{shown}</td>{cells}</tr>")
    return _table(("channel", *heads), rows)


def _cumulative(history: RunHistory) -> str:
    series = []
    for by_channel, colours, word in (
        (history.acquired_s, _RAW, ""),
        (history.stained_s, _PREDICTED, " (predicted)"),
    ):
        for (name, moments), colour in zip(by_channel.items(), cycle(colours), strict=False):
            counts = np.arange(1, len(moments) + 1)
            series.append(Series(name + word, moments, counts, colour, "step", dashed=bool(word)))
    return line_chart(
        series, x_label="seconds since the beginning", y_label="planes in the store", whole=True
    )


def _reasons(history: RunHistory) -> list[str]:
    reasons = sorted(history.status.short_reasons().items(), key=lambda item: -item[1])
    if not reasons and not history.notes:
        return []
    items = [f"<li>{number} x {escape(why)}</li>" for why, number in reasons]
    items += [f"<li>{escape(note)}</li>" for note in history.notes]
    return ["<h2>What went wrong</h2><ul>", *items, "</ul>"]


def _owed(history: RunHistory) -> list[str]:
    if not len(history.owed):
        return []
    return [
        "<section><h2>Owed</h2>",
        "<p>Planes that could have been predicted by then, and were not yet.</p>",
        line_chart(
            [Series("owed", history.owed[:, 0], history.owed[:, 1], _OWED, kind="step")],
            x_label="seconds since the beginning",
            y_label="planes",
            width=_HALF,
            whole=True,
        ),
        "</section>",
    ]


def _memory(history: RunHistory) -> list[str]:
    if not history.memory_mib:
        return []
    peaks = ", ".join(f"{n} {x[:, 1].max():.0f} MiB" for n, x in history.memory_mib.items())
    return [
        "<section><h2>Memory</h2>",
        f"<p>Resident, looked at once a second. At most: {escape(peaks)}.</p>",
        line_chart(
            [
                Series(name, points[:, 0], points[:, 1], _MEMORY.get(name, _OWED))
                for name, points in history.memory_mib.items()
            ],
            x_label="seconds since the beginning",
            y_label="MiB",
            width=_HALF,
        ),
        "</section>",
    ]


def _latency(history: RunHistory) -> list[str]:
    if not history.stages:
        return []
    rows = [_spread_row(_STAGES[name], spread) for name, spread in history.stages.items()]
    later = sum(map(len, history.stained_s.values())) - len(history.latency_s)
    return [
        "<h2>Latency</h2>",
        (
            f"<p>Milliseconds, of the {len(history.latency_s)} planes that were predicted before a newer "
            f"time point came; {later} were filled in later and are not counted.</p>"
        ),
        _table(("stage", *_SPREAD), rows),
        line_chart(
            [
                Series(
                    "prediction",
                    history.latency_s[:, 0],
                    history.latency_s[:, 1],
                    _PREDICTED[0],
                    kind="dots",
                )
            ],
            x_label="seconds since the beginning",
            y_label="ms from camera to readable prediction",
        ),
    ]


def _camera(history: RunHistory) -> list[str]:
    rows = [
        f"<tr><td>{escape(name)}</td><td>{light.exposures}</td><td>{light.seconds:.3g}</td></tr>"
        for name, light in history.light.items()
    ]
    rate = history.frames_per_second
    timing = [
        _spread_row(name, spread)
        for name, spread in (
            ("after the planned time", history.lateness_ms),
            ("from a frame to the decision on the next event", history.answer_ms),
        )
        if spread is not None
    ]
    return [
        "<h2>Camera and light</h2>",
        f"<p>{rate:.3g} planes a second from the first to the last.</p>" if rate else "",
        _table(("channel", "images", "seconds of exposure"), rows),
        "<p>When events began, in milliseconds:</p>" if timing else "",
        _table(("events", *_SPREAD), timing) if timing else "",
    ]


def _models(history: RunHistory) -> list[str]:
    if not history.models:
        return []
    rows = [
        f"<tr><td>{escape(m['channel'])}</td><td>{escape(m['bundle'])}</td>"
        f"<td>{escape(m['device'])} ({escape(m['backend'])})</td></tr>"
        for m in history.models
    ]
    return [
        "<h2>Models</h2>",
        "<p>Predicted channels are not measurements.</p>",
        _table(("channel", "model", "device"), rows),
    ]


_SPREAD = ("median", "95 %", "99 %", "most")


def _spread_row(name: str, spread: Spread) -> str:
    values = (spread.p50, spread.p95, spread.p99, spread.max)
    cells = "".join(f"<td>{value:.1f}</td>" for value in values)
    return f"<tr><td>{escape(name)}</td>{cells}</tr>"


def _table(heads: tuple[str, ...], rows: list[str]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    return f"<div class='scroll'><table><tr>{head}</tr>{''.join(rows)}</table></div>"
