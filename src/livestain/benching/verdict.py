"""Whether a model keeps up, as a sentence."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from livestain.benching.results import Measurement, SizeResult, StoreTimes

__all__ = ["auto_over_fastest", "live_sentence", "plane_ms", "sentences", "short", "taken"]


def taken(result: SizeResult) -> Measurement | None:
    """Return the measurement of the backend that a run would take: what `auto` chose, else the fastest."""
    by_name = {one.backend: one for one in result.measured}
    if result.auto is not None and result.auto.backend in by_name:
        return by_name[result.auto.backend]
    return max(result.measured, key=lambda one: one.planes_per_second, default=None)


def auto_over_fastest(result: SizeResult) -> float | None:
    """Return the mean time of what `auto` takes over that of the fastest; None where it was not measured."""
    means = {one.backend: one.total.mean for one in result.measured}
    if result.auto is None or result.auto.backend not in means:
        return None
    return round(means[result.auto.backend] / min(means.values()), 3)


def plane_ms(
    one: Measurement, store: StoreTimes | None, *, reads: int = 1, writes: int = 1
) -> float:
    """Return the milliseconds that a worker needs for a plane: predicting, and reading and writing.

    Parameters
    ----------
    one : Measurement
        Of predicting.
    store : StoreTimes or None
        Of one plane.
    reads, writes : int
        Planes that are read and written for each.
    """
    beside = reads * store.read.mean + writes * store.write.mean if store is not None else 0.0
    return 1e3 / one.planes_per_second + beside


def sentences(
    result: SizeResult,
    store: StoreTimes | None,
    intervals_ms: Sequence[float],
    *,
    reads: int = 1,
    writes: int = 1,
) -> tuple[str, ...]:
    """Return one sentence for each interval between camera frames.

    Parameters
    ----------
    result : SizeResult
        A model at one frame size.
    store : StoreTimes or None
        Of planes of that size.
    intervals_ms : sequence of float
        In milliseconds.
    reads, writes : int
        Planes that are read and written for each predicted one.
    """
    frame = f"{result.size}²"
    one = taken(result)
    if one is None:
        return (f"{frame}: not known, since no backend was measured.",)
    needs = plane_ms(one, store, reads=reads, writes=writes)
    told = []
    for interval in intervals_ms:
        if needs <= interval:
            told.append(
                f"{frame}: keeps up at {interval:g} ms with {one.backend}; a plane takes {short(needs)} ms."
            )
        else:
            told.append(
                f"{frame}: keeps up at {_round_up(needs):g} ms or slower with {one.backend}; at "
                f"{interval:g} ms {_percent(interval / needs)} of planes live, rest owed."
            )
    return tuple(told)


def live_sentence(
    size: int,
    interval_ms: float,
    *,
    planes: int,
    live: int,
    owed_s: float,
    missing: int = 0,
    lost: int = 0,
    fps: float | None = None,
) -> str:
    """Return in one sentence how a run with a camera went.

    Parameters
    ----------
    size : int
        Side of the frames, in pixels.
    interval_ms : float
        Between frames as asked for, in milliseconds.
    planes, live : int
        Planes to stain, and those that were stained when the last frame came, or within a few intervals.
    owed_s : float
        Seconds from the last frame until nothing was owed.
    missing, lost : int
        Predicted planes that are missing, and raw planes that were lost.
    fps : float, optional
        Frames a second that came; told where it is well below what was asked for.
    """
    head = f"{size}² at {interval_ms:g} ms: "
    slow = fps is not None and fps < 0.95e3 / interval_ms
    kept = live >= planes and not missing and not lost
    if slow and kept:
        # What was not tried is not known.
        assert fps is not None  # noqa: S101 - `slow` says so
        return (
            f"{head}not known, the camera gave {short(fps)} frames a second, not {short(1e3 / interval_ms)}; "
            "keeps up at that"
        )
    if live >= planes:
        said = "keeps up" if kept else "does not keep up"
    else:
        rest = f"rest owed (done {_seconds(owed_s)} s after the last frame)"
        said = f"{_percent(live / planes)} of planes live, {rest}"
    if missing:
        said += f"; {missing} predicted planes are missing"
    if lost:
        said += f"; {lost} raw planes were lost"
    if slow and fps is not None:
        said += f"; the camera gave {short(fps)} frames a second, not {short(1e3 / interval_ms)}"
    return f"{head}{said}"


def short(value: float) -> str:
    """Return a number in three digits or all of its whole ones, without an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _seconds(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _percent(share: float) -> str:
    percent = 100 * share
    if percent < 1:
        return "under 1 %"
    return f"{math.floor(percent)} %"  # never 100 % of what is not all


def _round_up(milliseconds: float) -> float:
    """Round up to two digits: what is promised must hold."""
    step = 10.0 ** (math.floor(math.log10(milliseconds)) - 1)
    return round(math.ceil(milliseconds / step) * step, 6)
