"""Time points that follow each other as fast as they go, for a while or until stopped: nobody knows how many.

useq says it by an interval of 0 and a duration, and can give neither sizes nor events of it.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from itertools import count, groupby
from typing import TYPE_CHECKING

import useq

from livestain.errors import SequenceError
from livestain.live.events import fresh
from livestain.live.replay import ReplaySource
from livestain.live.virtual import VIRTUAL_GROUP, VIRTUAL_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymmcore_plus import CMMCorePlus

    from livestain.store import StorePlan

__all__ = ["Endless", "check_endless", "endless_time", "time_points", "with_open_end"]

_CHUNK = 64
"""Time points that are asked of useq at once, at least."""

_BURST_S = 1.0
"""How long a burst of several time points may be: by so much the end may come late, or early."""


@dataclass(frozen=True)
class Endless:
    """A time plan without a number of time points.

    Attributes
    ----------
    duration_s : float or None
        Seconds from the first event, after which no time point is begun; None = until it is stopped.
    """

    duration_s: float | None

    def most(self, seconds: float) -> int | None:
        """Return how many time points there are at most, if each takes so long; None = nobody knows."""
        if self.duration_s is None or seconds <= 0:
            return None
        return math.ceil(self.duration_s / seconds)


def endless_time(sequence: useq.MDASequence) -> Endless | None:
    """Return the time plan of a sequence, if it is one without a number; it can then be taken out.

    Raises
    ------
    SequenceError
        If it is one of several phases.
    """
    phases = list(getattr(sequence.time_plan, "phases", [sequence.time_plan]))
    if not any(map(_has_no_number, phases)):
        return None
    if len(phases) > 1:
        raise SequenceError(
            f"The time plan has {len(phases)} phases, and one of them goes as fast as it can for a duration "
            "(interval 0), so nobody knows at which time point the next begins. Give that phase loops, or "
            "run it as a sequence of its own."
        )
    seconds = phases[0].duration.total_seconds() if phases[0].duration else 0.0
    return Endless(seconds or None)


def _has_no_number(phase: object) -> bool:
    if not isinstance(phase, useq.TIntervalDuration) or phase.interval.total_seconds() != 0:
        return False
    # Below 0 is a mistake, which is told elsewhere.
    return phase.duration is None or phase.duration.total_seconds() >= 0


def check_endless(core: CMMCorePlus, sequence: useq.MDASequence) -> None:
    """Refuse what cannot be where nobody knows how many time points there will be.

    Parameters
    ----------
    core : CMMCorePlus
        The microscope.
    sequence : useq.MDASequence
        What a time point has: the time plan taken out, grids as positions, virtual channels in it.

    Raises
    ------
    SequenceError
        If time is not the outermost axis, a position has a time plan of its own, a virtual channel leaves
        time points out, or the camera replays a recording.
    """
    order = [str(axis) for axis in sequence.axis_order]
    outer = order[: order.index("t")] if "t" in order else []
    if several := [axis for axis in outer if sequence.sizes.get(axis, 0) > 1]:
        raise SequenceError(
            f"The axis order {''.join(order)} has {several[0]} before t, and the time plan goes as fast as "
            "it can for a duration (interval 0), so the first of them would take all of it. Put t first, as "
            "in tpgcz, or give loops."
        )
    for p, position in enumerate(sequence.stage_positions):
        if position.sequence is not None and position.sequence.time_plan is not None:
            raise SequenceError(
                f"Position {p} of the sequence has a time plan of its own, and that of the sequence has "
                "interval 0 and no loops. Take the position's out, or give loops."
            )
    for channel in sequence.channels:
        virtual = channel.group == VIRTUAL_GROUP or channel.config.endswith(VIRTUAL_SUFFIX)
        if virtual and channel.acquire_every > 1:
            raise SequenceError(
                f"The virtual channel {channel.config!r} has acquire_every {channel.acquire_every}, and the "
                "time plan has interval 0 and no loops: a prediction is then made wherever its source was "
                "taken. Leave acquire_every out, or give loops."
            )
    source = getattr(core, "source", None)
    if isinstance(source, ReplaySource):
        raise SequenceError(
            f"The time plan has interval 0 and no loops, and the recording {source.path} has {source.n_t} "
            f"time points. Give loops: {source.n_t}, or fewer."
        )


def time_points(
    sequence: useq.MDASequence,
    duration_s: float | None,
    first_t: int = 0,
    *,
    together: bool = True,
) -> Iterator[list[useq.MDAEvent]]:
    """Yield the events of one time point after the other, until the duration has passed.

    Time points of a single image come several at a time, as many as take a second, since a camera that is
    triggered is faster than one that snaps.

    Parameters
    ----------
    sequence : useq.MDASequence
        What a time point has, without a time plan; t is outermost.
    duration_s : float or None
        Seconds from the first event; None = until nobody asks any more.
    first_t : int
        Where it begins; later than 0 where a run is gone on with.
    together : bool
        Whether several time points may be one burst, in which nothing can be waited for.
    """
    coming = _each(sequence, first_t)
    began = asked = time.perf_counter()
    n = 1
    while duration_s is None or time.perf_counter() - began < duration_s:
        burst = next(coming)
        alone = len(burst) == 1
        for _ in range(n - 1 if alone else 0):
            burst += next(coming)
        yield burst
        now = time.perf_counter()
        left_s = _BURST_S if duration_s is None else min(_BURST_S, began + duration_s - now)
        each_s = max((now - asked) / n, 1e-6)
        n = max(1, min(2 * n, int(left_s / each_s))) if together and alone else 1
        asked = now


def _each(sequence: useq.MDASequence, first_t: int) -> Iterator[list[useq.MDAEvent]]:
    """Yield time points for ever; useq itself says what each has, with autofocus and `acquire_every`."""
    every = math.lcm(*(channel.acquire_every for channel in sequence.channels))
    n = every * math.ceil(_CHUNK / every)
    some = fresh(sequence.replace(time_plan=useq.TIntervalLoops(interval=0, loops=n)))
    for chunk in count(first_t // n):
        for t, events in groupby(some, key=_time_of):
            if chunk * n + t >= first_t:
                yield [_at(event, chunk * n + t, sequence) for event in events]


def _time_of(event: useq.MDAEvent) -> int:
    return event.index["t"]


def _at(event: useq.MDAEvent, t: int, sequence: useq.MDASequence) -> useq.MDAEvent:
    """Return an event at another time point, which begins whenever the one before has ended."""
    return event.model_copy(
        update={
            "index": {**event.index, "t": t},
            "min_start_time": None,
            "reset_event_timer": False,
            "sequence": sequence,
        }
    )


def with_open_end(earlier: StorePlan, now: StorePlan) -> StorePlan:
    """Return the plan of a run as it was before its end was settled, as far as it is that of `now`."""
    if len(earlier.channels) != len(now.channels):
        return earlier
    channels = tuple(
        was.model_copy(update={"planned": here.planned})
        for was, here in zip(earlier.channels, now.channels, strict=True)
    )
    return earlier.model_copy(
        update={"n_t": now.n_t, "open_end": now.open_end, "channels": channels}
    )
