"""What lockstep asks of a sequence: windows that are whole in time, and bursts that end with a time point."""

from __future__ import annotations

from bisect import bisect_left
from datetime import timedelta
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from livestain.errors import SequenceError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import useq

    from livestain.planes import PlaneIndex

__all__ = ["check_in_time", "held_at_time_points"]

_APART = timedelta(microseconds=1)
"""The runner triggers over time points that have one start time, and not over those that have two."""


def check_in_time(
    name: str,
    last: Mapping[PlaneIndex, PlaneIndex],
    sources: Collection[int],
    order: Mapping[PlaneIndex, int],
) -> None:
    """Refuse an axis order in which later time points are taken before a prediction can be made.

    Parameters
    ----------
    name : str
        Of the virtual channel, for the message.
    last : mapping of PlaneIndex to PlaneIndex
        The plane that comes last of those that a prediction needs, by the prediction.
    sources : collection of int
        Places of the source channels in the store.
    order : mapping of PlaneIndex to int
        When each raw plane is taken.

    Raises
    ------
    SequenceError
        If there is one.
    """
    newest: dict[int, list[tuple[int, int]]] = {}  # by position: when, and the newest time by then
    for index, at in sorted(order.items(), key=itemgetter(1)):
        if index.c in sources:
            times = newest.setdefault(index.p, [(-1, -1)])
            if index.t > times[-1][1]:
                times.append((at, index.t))
    for target, needed in last.items():
        times = newest[target.p]
        by_then = times[bisect_left(times, order[needed], key=itemgetter(0)) - 1][1]
        if by_then > target.t:
            raise SequenceError(
                f"The virtual channel {name!r} is in lockstep, and in this axis order the planes that time "
                f"point {target.t} needs are not all there before time point {by_then} begins. Put t before "
                "c and z, as in tpgcz, or use lag: backfill."
            )


def held_at_time_points(sequence: useq.MDASequence) -> useq.MDASequence:
    """Return a sequence of which no triggered burst goes over several time points.

    In a burst the camera does not wait, so a prediction in lockstep could hold nothing back. Time points
    that follow each other as fast as it goes get start times a microsecond apart, which the runner does not
    trigger over; a stack within a time point stays one burst.

    Parameters
    ----------
    sequence : useq.MDASequence
        The raw sequence, which is not changed.
    """
    if sequence.time_plan is None:
        return sequence
    plan = sequence.time_plan
    phases = getattr(plan, "phases", None)
    if phases is None:
        return sequence.replace(time_plan=_apart(plan))
    return sequence.replace(time_plan={"phases": [_apart(phase) for phase in phases]})


def _apart(phase: Any) -> Any:
    fields = type(phase).model_fields
    if "interval" in fields and not phase.interval:
        return phase.model_copy(update={"interval": _APART})
    if "duration" in fields and "interval" not in fields and not phase.duration:
        return phase.model_copy(update={"duration": _APART * phase.loops})
    return phase
