"""What the hardware has to do for a sequence with virtual channels: what it would do without them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import useq
from useq import HardwareAutofocus

from livestain.live.delivery import key_of
from livestain.live.events import is_image

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from typing import Any

    from useq import MDAEvent

    from livestain.live.delivery import Key

__all__ = ["events_of", "untangle"]


def events_of(
    events: Iterable[MDAEvent], name_of: Callable[[MDAEvent], str | None]
) -> Collection[MDAEvent] | PlannedAnew:
    """Return the events of a run, to be gone through as often as needed.

    Parameters
    ----------
    events : iterable of useq.MDAEvent
        A sequence (see `PlannedAnew`); or events by themselves, which stay as they are.
    name_of : callable
        Returns the name of an event's virtual channel, or None.
    """
    if isinstance(events, useq.MDASequence):
        return PlannedAnew(events, name_of)
    return list(events)


class PlannedAnew:
    """The events of a sequence, autofocus and shutter being planned for the camera's images alone.

    A sequence plans them by which axes change from one image to the next: with a virtual channel between
    two planes it would focus anew before each of them, and close the shutter after each.

    useq (0.9) also remembers in the plan of the autofocus where the last going through the sequence has
    ended, so that the next one may leave out its first autofocus. Here each begins afresh.

    Parameters
    ----------
    sequence : useq.MDASequence
        As the program gave it.
    name_of : callable
        Returns the name of an event's virtual channel, or None.
    """

    def __init__(
        self, sequence: useq.MDASequence, name_of: Callable[[MDAEvent], str | None]
    ) -> None:
        self._sequence = sequence
        self._name_of = name_of

    def __iter__(self) -> Iterator[MDAEvent]:
        """Yield the events in the sequence's order."""
        plan_of = _focus_plans(self._sequence)
        across = set(self._sequence.keep_shutter_open_across)
        carried = _Carried()
        last: MDAEvent | None = None
        virtual: list[MDAEvent] = []  # between the last image and the next
        for event in filter(is_image, self._sequence):
            if self._name_of(event) is not None:
                carried.take(event)
                # The shutter is the camera images' own affair.
                own = {"properties": None, "reset_event_timer": False}
                virtual.append(_changed(event, keep_shutter_open=bool(across), **own))
                continue
            image = _changed(carried.give(event), keep_shutter_open=False)
            if last is not None:
                lit = bool(across) and _changes(last, image) <= across
                yield _changed(last, keep_shutter_open=lit)
            yield from virtual
            plan = plan_of(image)
            focus = plan.event(image) if plan is not None else None
            if focus is not None:
                yield _changed(focus, keep_shutter_open=bool(across))
            last, virtual = image, []
        if last is not None:
            yield last
        yield from virtual


class _Carried:
    """What an event that is left out would have done, for the next one that is not.

    Properties are those of a position, set at its first image; the timer is reset at the first time point.
    """

    def __init__(self) -> None:
        self._sets: MDAEvent | None = None
        self._resets: MDAEvent | None = None

    def take(self, event: MDAEvent) -> None:
        if event.properties:
            self._sets = event
        if event.reset_event_timer:
            self._resets = event

    def give(self, event: MDAEvent) -> MDAEvent:
        sets, self._sets = self._sets, None
        if sets is not None and not event.properties and _position(sets) == _position(event):
            event = _changed(event, properties=sets.properties)
        resets, self._resets = self._resets, None
        if resets is not None and resets.index.get("t") == event.index.get("t"):
            event = _changed(event, reset_event_timer=True)
        return event


def _position(event: MDAEvent) -> int:
    return event.index.get("p", 0)


def _focus_plans(sequence: useq.MDASequence) -> Callable[[MDAEvent], useq.AxesBasedAF | None]:
    """Return what gives the autofocus plan of an event: the sequence's, or that of its position."""
    fresh: dict[int, useq.AxesBasedAF] = {}

    def begun_anew(plan: useq.AxesBasedAF | None) -> useq.AxesBasedAF | None:
        if plan is None:
            return None
        if id(plan) not in fresh:
            fresh[id(plan)] = type(plan).model_validate(plan.model_dump())
        return fresh[id(plan)]

    by_position = [
        position.sequence.autofocus_plan if position.sequence is not None else None
        for position in sequence.stage_positions
    ]

    def plan_of(event: MDAEvent) -> useq.AxesBasedAF | None:
        p = _position(event)
        own = by_position[p] if p < len(by_position) else None
        return begun_anew(own or sequence.autofocus_plan)

    return plan_of


def _changes(before: MDAEvent, after: MDAEvent) -> set[str]:
    return {axis for axis, at in before.index.items() if after.index.get(axis) != at}


def untangle(
    events: Iterable[MDAEvent],
    name_of: Callable[[MDAEvent], str | None],
    expect: Callable[[MDAEvent, str | None], None],
    dark_after: Collection[Key] = (),
) -> Iterator[MDAEvent]:
    """Yield what the hardware has to do, without the virtual channels' events.

    What hangs on a virtual event is kept: autofocus before it comes before the next image, a timer that it
    resets is reset by the next image, properties that it sets (those of its position) are set by the next
    event, and where the shutter would close after it, it closes before.

    Parameters
    ----------
    events : iterable of useq.MDAEvent
        Of the run, in its order, as `events_of` returns them.
    name_of : callable
        Returns the name of an event's virtual channel, or None.
    expect : callable
        Called as ``(event, name)`` with each image, in the sequence's order. All that stand before the
        next image of the camera are named before an image is yielded.
    dark_after : collection of Key
        Images after which predictions are made: the shutter is not left open meanwhile.
    """
    waiting: MDAEvent | None = None
    focus: MDAEvent | None = None
    carried = _Carried()
    for event in events:
        name, image = name_of(event), is_image(event)
        if name is None:
            if waiting is not None:
                yield waiting
                waiting = None
            if focus is not None and image:
                yield focus
            focus = None
            event = carried.give(event)
            if not image:
                yield event
                continue
            expect(event, None)
            dark = event.keep_shutter_open and key_of(event) in dark_after
            waiting = _changed(event, keep_shutter_open=False) if dark else event
        elif image:
            expect(event, name)
            carried.take(event)
            if waiting is not None and waiting.keep_shutter_open and not event.keep_shutter_open:
                waiting = _changed(waiting, keep_shutter_open=False)
        else:
            # Such an event must not set the virtual preset; what it does is done all the same.
            bare = _changed(event, channel=None, exposure=None)
            if isinstance(event.action, HardwareAutofocus):
                focus = bare
                continue
            if waiting is not None:
                yield waiting
                waiting = None
            yield bare
    if waiting is not None:
        yield waiting


def _changed(event: MDAEvent, **to: Any) -> MDAEvent:
    return event.model_copy(update=to)
