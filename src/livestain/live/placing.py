"""Where a frame belongs: by what the camera says of it, not by how many came before it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any, TypeVar

from pymmcore_plus.core._sequencing import SequencedEvent
from useq import AcquireImage

from livestain.planes import PlaneIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from useq import MDAEvent

__all__ = ["FramePlacer", "index_of"]

_T = TypeVar("_T", int, float)

_CORE_TAG = "ImageNumber"
"""Micro-Manager's core writes this itself and counts what it received, for cameras in C++ and in Python: a
frame that the camera lost leaves no gap in it. Only what is lost later does."""

_OWN_TAG = re.compile(r"frame[-_ ]?(nr|no|num|number|id|index|count|counter)$", re.IGNORECASE)
"""Tags of camera adapters for the camera's own number of a frame, such as PVCAM-FrameNr."""

_FIRST = {_CORE_TAG: 0, "livestain-FrameNr": 0, "PVCAM-FrameNr": 1}
"""The number of a burst's first frame, where it is known beforehand."""

_GAP = 1.5
"""Intervals longer than this many usual ones are told as gaps in the camera's times."""


def index_of(event: MDAEvent) -> PlaneIndex:
    """Return the place of an event's image in the store."""
    index = event.index
    return PlaneIndex(0, index.get("t", 0), index.get("c", 0), index.get("z", 0))


@dataclass
class _Burst:
    """One event of the runner: a triggered burst, or a single image."""

    places: tuple[PlaneIndex, ...]
    arrived: list[int] = field(default_factory=list)
    """Places of the frames that came, as they came."""
    skipped: int = 0
    """Places before the last frame's that stayed empty."""
    tag: str | None = None
    first: int = 0
    """Number of the frame in the first place."""
    last: int = 0
    """Number of the newest frame."""
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
        self._firsts: dict[str, set[int]] = {tag: {n} for tag, n in _FIRST.items()}
        self._own_numbers: set[str] = set()

    def begin(self, event: MDAEvent) -> None:
        """Note that the runner starts an event, and so that the one before is over."""
        self.end()
        events = event.events if isinstance(event, SequencedEvent) else (event,)
        self._burst = _Burst(
            tuple(index_of(e) for e in events if isinstance(e.action, AcquireImage | None))
        )

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
        if len(burst.places) < 2 or index_of(event) not in burst.places:
            burst.arrived.append(0)
            return index_of(event)
        camera = meta.get("camera_metadata") or {}
        expected = max(burst.arrived, default=-1) + 1
        at = self._by_number(burst, camera, expected)
        if at == len(burst.places):  # numbers that made no sense; no frame may take another's place
            at = min(set(range(at)) - set(burst.arrived))
        if at > expected:
            why = f"the camera dropped it: its {burst.tag} went on to {burst.last}"
            for n in range(expected, at):
                self._on_lost(burst.places[n], why)
            burst.skipped += at - expected
        burst.arrived.append(at)
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
        tail = () if stopped else tuple(range(max(burst.arrived, default=-1) + 1, n))
        if n < 2:
            self._tell(burst, tail, "the camera failed to take it")
            return
        if (
            not tail
            and not stopped
            and not burst.skipped
            and not burst.doubt
            and burst.tag is not None
        ):
            # A whole burst shows how the camera counts: from the same number again, or on.
            self._firsts[burst.tag] = {burst.first, burst.last + 1}
        self._tell(burst, tail, f"the camera gave {len(burst.arrived)} of the burst's {n} images")
        if tail and burst.arrived and burst.tag not in self._own_numbers:
            burst.doubt = burst.doubt or (
                f"the burst is {len(tail)} images short, and the camera numbers none of them"
            )
        if burst.doubt:
            why = f"{burst.doubt}: it may be another plane's{_gaps(burst.times_ms)}"
            for at in burst.arrived:
                self._on_uncertain(burst.places[at], why)

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
            n = len(burst.places)
            starts = [s for s in self._firsts.get(burst.tag, ()) if 0 <= number - s < n]
            burst.first = max(starts, default=number)
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
