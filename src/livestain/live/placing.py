"""Where a frame belongs: by what the camera says of it, not by how many came before it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any, TypeVar

from pymmcore_plus.core._sequencing import SequencedEvent

from livestain.live.events import index_of, is_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from useq import MDAEvent

    from livestain.planes import PlaneIndex

__all__ = ["FramePlacer"]

_T = TypeVar("_T", int, float)

_CORE_TAG = "ImageNumber"
"""Micro-Manager's core writes this itself and counts what it received, for cameras in C++ and in Python: a
frame that the camera lost leaves no gap in it. Only what is lost later does."""

_OWN_TAG = re.compile(r"frame[-_ ]?(nr|no|num|number|id|index|count|counter)$", re.IGNORECASE)
"""Tags of camera adapters for the camera's own number of a frame, such as PVCAM-FrameNr."""

_FIRST = {_CORE_TAG: 0, "livestain-FrameNr": 0, "PVCAM-FrameNr": 1}
"""Tags that begin anew with each burst, and with which number."""

_GAP = 1.5
"""Intervals longer than this many usual ones are told as gaps in the camera's times."""


@dataclass
class _Burst:
    """One event of the runner: a triggered burst, or a single image."""

    places: tuple[PlaneIndex, ...]
    members: frozenset[PlaneIndex] = frozenset()
    """The same places, to look one up: bursts can have ten thousand images."""
    arrived: list[int] = field(default_factory=list)
    """Places of the frames that came, as they came."""
    farthest: int = -1
    """The last of these places."""
    skipped: int = 0
    """Places before the last frame's that stayed empty."""
    tag: str | None = None
    first: int = 0
    """Number of the frame in the first place."""
    last: int = 0
    """Number of the newest frame."""
    known_start: bool = True
    """Whether `first` is known, and not taken from the first frame that came."""
    doubt: str | None = None
    """Why its frames may lie in the wrong places."""
    times_ms: list[float] = field(default_factory=list)


class FramePlacer:
    """Puts the frames of triggered bursts where they belong, and notices those that never came.

    pymmcore-plus labels the frames of a burst in the order of their arrival: a frame that the camera
    dropped in mid-stack would move every later one by a plane. Here a frame's place is found from the
    camera's own number in its metadata. Where the camera gives none, a burst that came whole is right,
    and one that came short cannot be told apart from one that is displaced: its planes are kept in the order
    of their arrival, and `uncertain`.

    Call it from one thread: `begin` for each event, `place` for each frame, `end` at last.

    Parameters
    ----------
    on_lost : callable
        Called as ``(index, why)`` with each place whose frame will not come.
    on_uncertain : callable
        Called as ``(index, why)`` with each place whose frame may be another's.
    """

    def __init__(
        self,
        on_lost: Callable[[PlaneIndex, str], None],
        on_uncertain: Callable[[PlaneIndex, str], None],
    ) -> None:
        self._on_lost = on_lost
        self._on_uncertain = on_uncertain
        self._burst = _Burst(())
        self._firsts = dict(_FIRST)
        self._lasts: dict[str, int] = {}
        self._begin_anew = set(_FIRST)
        self._own_numbers: set[str] = set()

    def begin(self, event: MDAEvent) -> None:
        """Note that the runner starts an event, and so that the one before is over."""
        self.end()
        events = event.events if isinstance(event, SequencedEvent) else (event,)
        places = tuple(index_of(e) for e in events if is_image(e))
        self._burst = _Burst(places, frozenset(places))

    def place(self, event: MDAEvent, meta: Mapping[str, Any]) -> PlaneIndex:
        """Return where a frame belongs; places that it shows to be empty are told as lost.

        Parameters
        ----------
        event : useq.MDAEvent
            The runner's label, right for the first frame of a burst and wrong after a gap.
        meta : mapping
            pymmcore-plus' frame metadata.
        """
        burst = self._burst
        if len(burst.places) < 2 or index_of(event) not in burst.members:
            burst.arrived.append(0)
            burst.farthest = max(burst.farthest, 0)
            return index_of(event)
        camera = meta.get("camera_metadata") or {}
        expected = burst.farthest + 1
        at = self._by_number(burst, camera, expected)
        if at == len(burst.places):  # numbers that made no sense; no frame may take another's place
            at = min(set(range(at)) - set(burst.arrived))
        if at > expected:
            why = f"the camera dropped it: its {burst.tag} went on to {burst.last}"
            for n in range(expected, at):
                self._on_lost(burst.places[n], why)
            burst.skipped += at - expected
        burst.arrived.append(at)
        burst.farthest = max(burst.farthest, at)
        burst.times_ms.append(_number(camera.get("ElapsedTime-ms"), float) or 0.0)
        return burst.places[at]

    def end(self, *, stopped: bool = False) -> None:
        """Note that the event under way is over: what has not come of it will not come.

        Parameters
        ----------
        stopped : bool
            Whether it was cut short, so that its end is missing and nothing else.
        """
        burst, self._burst = self._burst, _Burst(())
        n = len(burst.places)
        tail = () if stopped else tuple(range(burst.farthest + 1, n))
        if n < 2:
            self._tell(burst, tail, "the camera failed to take it")
            return
        if not (tail or stopped or burst.skipped or burst.doubt or burst.tag is None):
            self._learn(burst.tag, burst.first, burst.last)
        self._tell(burst, tail, f"the camera gave {len(burst.arrived)} of the burst's {n} images")
        if tail and burst.arrived and not burst.doubt:
            short = f"the burst is {len(tail)} images short"
            if burst.tag not in self._own_numbers:
                burst.doubt = f"{short}, and the camera numbers none of them"
            elif not burst.known_start:
                burst.doubt = f"{short}, and with which {burst.tag} it began is not known"
        # All images of a burst cannot be displaced, whatever their numbers say.
        if burst.doubt and (tail or burst.skipped):
            why = f"{burst.doubt}: it may be another plane's{_gaps(burst.times_ms)}"
            for at in burst.arrived:
                self._on_uncertain(burst.places[at], why)

    def _learn(self, tag: str, first: int, last: int) -> None:
        """Take from a whole burst how the camera counts: anew for each burst, or on and on."""
        if self._firsts.get(tag) == first:
            self._begin_anew.add(tag)
        else:
            self._begin_anew.discard(tag)
        self._firsts[tag], self._lasts[tag] = first, last

    def _start(self, tag: str, number: int, n: int) -> tuple[int, bool]:
        """Return the number of a burst's first place by that of the first frame that came, and if it is sure.

        A counter that goes on may have counted snaps since the last burst: what it is ahead by says
        nothing of lost frames.
        """
        known, last = self._firsts.get(tag), self._lasts.get(tag)
        if number == known or (last is not None and number == last + 1):
            return number, True
        anew = tag in self._begin_anew or (last is not None and number <= last)
        if known is not None and anew and 0 < number - known < n:
            return known, True
        return number, False

    def _tell(self, burst: _Burst, places: Iterable[int], why: str) -> None:
        for n in places:
            self._on_lost(burst.places[n], why)

    def _by_number(self, burst: _Burst, camera: Mapping[str, Any], expected: int) -> int:
        """Return a frame's place in its burst by its number, else `expected`."""
        if not burst.arrived:
            burst.tag = _tag_of(camera)
            if burst.tag is not None and burst.tag != _CORE_TAG:
                self._own_numbers.add(burst.tag)
        if burst.tag is None or burst.doubt:
            return expected
        number = _number(camera.get(burst.tag), int)
        if number is None:
            burst.doubt = f"the camera left out its {burst.tag}"
            return expected
        if not burst.arrived:
            burst.first, burst.known_start = self._start(burst.tag, number, len(burst.places))
        at = number - burst.first
        if not expected <= at < len(burst.places):
            burst.doubt = f"the camera's {burst.tag} went from {burst.last} to {number}"
            return expected
        if at > expected:
            self._own_numbers.add(burst.tag)
        burst.last = number
        return at


def _tag_of(camera: Mapping[str, Any]) -> str | None:
    """Return the name of the tag that numbers a camera's frames; its own before the core's."""
    own = sorted(tag for tag in camera if _OWN_TAG.search(tag))
    for tag in (*own, _CORE_TAG):
        if _number(camera.get(tag), int) is not None:
            return tag
    return None


def _number(text: Any, kind: Callable[[Any], _T]) -> _T | None:
    try:
        return kind(text)
    except (TypeError, ValueError):
        return None


def _gaps(times_ms: list[float]) -> str:
    """Return what the camera's times say of where frames are missing."""
    steps = [b - a for a, b in pairwise(times_ms)]
    usual = median(steps) if steps else 0.0
    far = [n for n, step in enumerate(steps, start=1) if step > _GAP * usual > 0]
    if not far:
        return ""
    return (
        f" (by the camera's times something is missing after image {', '.join(map(str, far[:5]))})"
    )
