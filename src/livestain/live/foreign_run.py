"""One run of another program: what is waited for, what is predicted, where frames of bursts belong."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from pymmcore_plus.core._sequencing import SequencedEvent
from useq import MDAEvent

from livestain.errors import SequenceError
from livestain.live.delivery import Delivery, Slot, count_uses, key_of
from livestain.live.events import is_image
from livestain.live.placing import FramePlacer
from livestain.live.untangling import events_of, untangle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from useq import MDASequence

    from livestain.live.delivery import Key, Payload
    from livestain.live.foreign import Predicted, Spelling, Windows
    from livestain.live.predicting import FramePredictor
    from livestain.planes import PlaneIndex

__all__ = ["BurstPlaces", "ForeignRun", "hardware_events", "has_virtual", "plan_foreign_run"]

_log = logging.getLogger(__name__)


@dataclass
class ForeignRun:
    """What the engine knows of the run under way.

    Attributes
    ----------
    events : iterable of useq.MDAEvent
        As `events_of` returns them; gone through several times.
    channels : dict
        Virtual channels by name.
    delivery : Delivery
        The frames on their way out.
    """

    events: Iterable[MDAEvent]
    spelling: Spelling
    windows: Windows
    channels: dict[str, Predicted]
    cameras: int
    """Images of each event."""
    cam: int
    """Which of them is looked at."""
    delivery: Delivery
    source: Iterable[MDAEvent] = ()
    """What the program gave to the runner."""
    dark_after: frozenset[Key] = frozenset()
    """Images after which predictions are made while the shutter would stay open."""
    placers: list[FramePlacer] = field(default_factory=list)
    """One for each camera, which learns how it counts."""
    doubts: dict[tuple[int, int], str] = field(default_factory=dict)
    """Why a frame of the burst under way may be another's, by camera and number in the burst."""
    uncertain: dict[Key, str] = field(default_factory=dict)
    """Images that may be another's, and why."""
    error: Exception | None = None
    """The first error of a prediction."""
    failed: Exception | None = None
    """An error of the hardware that waits until the frames before it are out."""
    darken: Callable[[], None] = lambda: None
    """Called before each prediction: puts the light out."""

    def hardware(self) -> Iterator[MDAEvent]:
        """Yield what the camera and the other devices have to do."""
        return untangle(self.events, self.spelling.of_event, self.expect, self.dark_after)

    def expect(self, event: MDAEvent, name: str | None) -> None:
        """Name the images of the next event to the delivery."""
        for of in range(self.cameras):
            key = key_of(event, of)
            sources: tuple[Key, ...] = ()
            if name is not None:
                sources = self.windows.sources(key, self.channels[name], self.cam)
            self.delivery.expect(Slot(key, event, name, sources))

    def doubt(self, cam: int, at: PlaneIndex, why: str) -> None:
        """Note that a frame of the burst under way may be another's."""
        self.doubts[cam, at.z] = why

    def keys(self, event: MDAEvent) -> list[Key]:
        """Return the images that an event of the runner brings."""
        return [key_of(one, cam) for one in images_of(event) for cam in range(self.cameras)]


def hardware_events(events: Iterable[MDAEvent], spelling: Spelling) -> Iterator[MDAEvent]:
    """Yield what the camera and the other devices would have to do for a sequence."""
    name_of = spelling.of_event
    return untangle(events_of(events, name_of), name_of, lambda event, name: None)


def images_of(event: MDAEvent) -> tuple[MDAEvent, ...]:
    """Return the events of a triggered burst, or a single one."""
    events = event.events if isinstance(event, SequencedEvent) else (event,)
    return tuple(e for e in events if is_image(e))


def has_virtual(sequence: MDASequence, spelling: Spelling) -> bool:
    """Return whether a sequence has virtual channels, those of single positions included."""
    parts = [sequence, *(p.sequence for p in sequence.stage_positions if p.sequence is not None)]
    return any(
        spelling.name_of(channel.group, channel.config) is not None
        for part in parts
        for channel in part.channels
    )


def plan_foreign_run(
    events: Iterable[MDAEvent],
    spelling: Spelling,
    windows: Windows,
    channels: dict[str, Predicted],
    predictor: FramePredictor,
    group: Callable[[Iterable[MDAEvent]], Iterator[MDAEvent]],
    *,
    cameras: int,
    cam: int,
    plane_bytes: int,
    memory_bytes: int,
) -> ForeignRun:
    """Go through a run without hardware, and return it ready to begin.

    Parameters
    ----------
    events : iterable of useq.MDAEvent
        As `events_of` returns them; gone through several times.
    spelling, windows, channels, predictor
        Names, images, virtual channels and models of the run.
    group : callable
        Puts events together into triggered bursts.
    cameras, cam : int
        Images of each event, and which of them is looked at.
    plane_bytes : int
        Size of one frame.
    memory_bytes : int
        What frames that wait may take.

    Raises
    ------
    SequenceError
        If more frames would wait than the memory allows, or a channel has no plane that can be predicted.
    """
    predictions = [
        (name, windows.sources(key._replace(cam=cam), channels[name], cam))
        for key, name in windows.virtual.items()
    ]
    uses = count_uses(sources for _, sources in predictions)
    possible = {name for name, sources in predictions if sources}
    for name, channel in channels.items():
        if channel.lockstep and name not in possible:
            raise SequenceError(
                f"No plane of the virtual channel {name!r} can be predicted: its source "
                f"{' and '.join(map(repr, channel.sources))} is acquired at none of the positions, time "
                "points and depths asked for."
            )

    def a_run(predict: Callable[[Slot, list[Payload]], Payload | None]) -> ForeignRun:
        return ForeignRun(
            events, spelling, windows, channels, cameras, cam, Delivery(predict, uses)
        )

    def stand_in(slot: Slot, payloads: list[Payload]) -> Payload | None:
        return None

    rehearsed = a_run(stand_in)
    dry, dark = rehearsed.delivery, set()
    for event in group(rehearsed.hardware()):
        for key in rehearsed.keys(event) if is_image(event) else ():
            dry.arrive(key, (None, event, None))
            _run_through(dry.ready(predict=False))
        before = dry.predicted
        _run_through(dry.ready(predict=True))
        if event.keep_shutter_open and dry.predicted > before:
            dark.add(key_of(event))
    needed = dry.peak * plane_bytes
    if needed > memory_bytes:
        raise SequenceError(
            f"In this sequence up to {dry.peak} frames ({needed / 2**20:.0f} MB) would wait in memory "
            f"for predictions, and {memory_bytes / 2**20:.0f} MB are allowed. Choose an axis order in "
            "which channels change before time does (such as tpcz), or allow more: "
            "livestain.install(core, memory_mb=...)."
        )

    def predict(slot: Slot, payloads: list[Payload]) -> Payload | None:
        run.darken()
        try:
            image, event, meta = predictor.predict(slot, payloads)
        except Exception as error:
            _log.exception("No prediction at %s", dict(slot.event.index))
            run.error = run.error or error
            return None
        doubt = next((run.uncertain[key] for key in slot.sources if key in run.uncertain), None)
        if doubt is not None:
            meta["extra"]["livestain"]["uncertain"] = doubt
        return image, event, meta

    run = a_run(predict)
    run.dark_after = frozenset(dark)
    return run


def _run_through(items: Iterable[Any]) -> None:
    for _ in items:
        pass


class BurstPlaces:
    """Where the frames of one event belong: by the camera's own numbers, which the run's placers read.

    Parameters
    ----------
    run : ForeignRun
        The run.
    event : useq.MDAEvent
        A triggered burst or a single image.
    """

    def __init__(self, run: ForeignRun, event: MDAEvent) -> None:
        self._run = run
        self._expected = run.keys(event)
        self._events = images_of(event)
        self._came: set[Key] = set()
        self._counts = [0] * run.cameras
        # The placer knows places by their number in the burst: bursts may go over several positions.
        self._numbers = [MDAEvent(index={"z": n}) for n in range(len(self._events))]
        if len(self._events) > 1:
            while len(run.placers) < run.cameras:
                cam = len(run.placers)
                run.placers.append(FramePlacer(_ignore, partial(run.doubt, cam)))
            run.doubts.clear()
            for placer in run.placers:
                placer.begin(SequencedEvent(events=tuple(self._numbers)))

    def place(self, payload: Payload) -> tuple[Key, Payload]:
        """Return which image a frame is, and its payload, labelled as that."""
        image, event, meta = payload
        cam = event.index.get("cam", 0)
        at = 0
        if len(self._events) > 1:
            number = self._numbers[min(self._counts[cam], len(self._numbers) - 1)]
            at = self._run.placers[cam].place(number, meta).z
            self._counts[cam] += 1
        owner = self._events[at]
        key = key_of(owner, cam)
        self._came.add(key)
        if key_of(event, cam) != key:
            index = {**owner.index, "cam": cam} if "cam" in event.index else dict(owner.index)
            event = owner.model_copy(update={"index": index})
            meta = {**meta, "mda_event": event}
        return key, (image, event, meta)

    def end(self, *, stopped: bool) -> None:
        """Tell the run which frames will not come, and which may be another's."""
        run = self._run
        if len(self._events) > 1:
            for placer in run.placers:
                placer.end(stopped=stopped)
            for (cam, at), why in run.doubts.items():
                run.uncertain[key_of(self._events[at], cam)] = why
            if run.doubts:
                _log.warning("Frames of a burst may lie in each other's places: %s", why)
        for key in self._expected:
            if key not in self._came:
                run.delivery.lose(key)


def _ignore(place: PlaneIndex, why: str) -> None:
    """Do nothing: what did not come is told when the burst is over."""
