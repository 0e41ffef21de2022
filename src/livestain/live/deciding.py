"""Runs whose events are decided while they go on: each event gets a place of its own, and room for it."""

from __future__ import annotations

import time
from types import GeneratorType
from typing import TYPE_CHECKING, Any

import useq

from livestain.errors import MissingPlaneError, SequenceError
from livestain.live.buffer import burst_buffer
from livestain.live.events import index_of, is_image
from livestain.live.virtual import VIRTUAL_GROUP
from livestain.planes import PlaneIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pymmcore_plus import CMMCorePlus

__all__ = ["DecidedEvents"]

_FILLED = ("channel", "exposure", "x_pos", "y_pos", "z_pos", "pos_name")
"""What an event that leaves it out has from the sequence."""


class DecidedEvents:
    """The events of a user's iterator, completed and in their places; iterate it once.

    An event says what is not as in the sequence, and which place of the store its image has:
    ``MDAEvent(index={"p": 2, "z": 1}, channel="Brightfield")``. Left out, `c` follows from the channel,
    `p` and `z` are 0, and `t` is the position's newest time point, or the next where the image was taken.
    A list of events is one burst, where the hardware can trigger it.

    Parameters
    ----------
    core : CMMCorePlus
        The microscope.
    sequence : useq.MDASequence
        What one time point may have, without virtual channels.
    decided : iterable of useq.MDAEvent, or of lists of them
        From the user; asked for the next event when the one before is done.
    make_room : callable
        Called as ``(n_t)`` before an event that needs so many time points.
    is_stopping : callable
        Whether the run is being stopped: a user's iterator that then finds its plane missing just ends.
    """

    def __init__(
        self,
        core: CMMCorePlus,
        sequence: useq.MDASequence,
        decided: Iterable[Any],
        *,
        make_room: Callable[[int], None],
        is_stopping: Callable[[], bool],
    ) -> None:
        self._core = core
        self._decided = decided
        self._make_room = make_room
        self._is_stopping = is_stopping
        self._planned = {index_of(event).at(t=0): event for event in sequence if is_image(event)}
        self._channels = [channel.config for channel in sequence.channels]
        self._newest: dict[int, int] = {}
        self._taken: set[PlaneIndex] = set()
        self._frame_ns: int | None = None
        self._answer_ms: float | None = None
        self.answers_ms: list[float] = []
        """From each frame to the decision on the next event."""

    @property
    def taken(self) -> list[PlaneIndex]:
        """The places of all images that were handed to the runner, sorted."""
        return sorted(self._taken)

    def answered(self, ready_ns: int) -> dict[str, float]:
        """Note that a frame came, and return how long after the one before it its event was decided.

        Parameters
        ----------
        ready_ns : int
            When it came, on the clock `time.perf_counter_ns`.

        Returns
        -------
        dict
            `answer_ms`; empty for the first frame, and for those of a burst after its first.
        """
        answer, self._answer_ms = self._answer_ms, None
        self._frame_ns = ready_ns
        if answer is None:
            return {}
        self.answers_ms.append(answer)
        return {"answer_ms": answer}

    def __iter__(self) -> Iterator[useq.MDAEvent]:
        """Yield each event, ready for the runner.

        Raises
        ------
        SequenceError
            If an event asks for what the sequence does not have, or for an image that was taken.
        """
        decided = iter(self._decided)
        try:
            while (step := self._next(decided)) is not None:
                if isinstance(step, useq.MDAEvent):
                    yield self._completed(step)
                    continue
                burst = [self._completed(event) for event in step]
                engine = self._core.mda.engine
                assert engine is not None  # noqa: S101 - the runner is running
                # Long bursts may need more room than a time point of the sequence.
                with burst_buffer(self._core, burst):
                    yield from engine.event_iterator(burst)
        finally:
            if isinstance(decided, GeneratorType):
                decided.close()  # its `finally` and `with` are the user's own clearing up

    def _next(self, decided: Iterator[Any]) -> Any:
        try:
            step = next(decided, None)
        except MissingPlaneError:
            if self._is_stopping():
                return None
            raise
        if step is not None and self._frame_ns is not None:
            self._answer_ms = round((time.perf_counter_ns() - self._frame_ns) / 1e6, 3)
            self._frame_ns = None
        return step

    def _completed(self, event: useq.MDAEvent) -> useq.MDAEvent:
        if not is_image(event):
            return event
        index = self._place(event)
        if index.t < 0:
            raise SequenceError(
                f"An event asks for time {index.t}; times count from 0. Leave t out for the newest or next."
            )
        like = self._planned.get(index.at(t=0))
        if like is None:
            raise SequenceError(
                f"An event asks for position {index.p}, channel {self._channel_of(event, index)!r}, depth "
                f"{index.z}, which the sequence does not have; it has {self._words()}. Add it to the "
                "sequence."
            )
        if index in self._taken:
            raise SequenceError(
                f"An event asks for position {index.p}, time {index.t}, channel "
                f"{self._channel_of(event, index)!r}, depth {index.z} a second time, and there is one place "
                "for it. Give it the next t, or leave t out."
            )
        self._make_room(index.t + 1)
        self._taken.add(index)
        self._newest[index.p] = max(index.t, self._newest.get(index.p, 0))
        missing = {name: getattr(like, name) for name in _FILLED if getattr(event, name) is None}
        place = {"p": index.p, "t": index.t, "c": index.c, "z": index.z}
        return event.model_copy(update={"index": place, **missing})

    def _place(self, event: useq.MDAEvent) -> PlaneIndex:
        given = dict(event.index)
        if strange := sorted(set(given) - set("ptcz")):
            raise SequenceError(
                f"An event has the index {strange[0]!r}; a plane's place has p, t, c and z."
            )
        if event.channel is not None and event.channel.group == VIRTUAL_GROUP:
            raise SequenceError(
                f"An event asks for the virtual channel {event.channel.config!r}, which takes no image: "
                "its planes follow from their sources. Ask for these."
            )
        c = given.get("c")
        if event.channel is not None and event.channel.config in self._channels:
            named = self._channels.index(event.channel.config)
            if c not in (None, named):
                raise SequenceError(
                    f"An event has the channel {event.channel.config!r} and the index c={c}, and that "
                    f"channel is c={named} in the sequence. Leave c out."
                )
            c = named
        elif event.channel is not None:
            raise SequenceError(
                f"An event asks for the channel {event.channel.config!r}, which the sequence does not have; "
                f"it has {self._words()}. Add it to the sequence."
            )
        p, z = given.get("p", 0), given.get("z", 0)
        index = PlaneIndex(p, self._newest.get(p, 0), c or 0, z)
        if "t" in given:
            return index.at(t=given["t"])
        return index.at(t=index.t + 1) if index in self._taken else index

    def _channel_of(self, event: useq.MDAEvent, index: PlaneIndex) -> str:
        if event.channel is not None:
            return event.channel.config
        return self._channels[index.c] if index.c < len(self._channels) else f"number {index.c}"

    def _words(self) -> str:
        n_p = 1 + max(index.p for index in self._planned)
        n_z = 1 + max(index.z for index in self._planned)
        return (
            f"{n_p} position{'s'[: n_p > 1]}, the channels {', '.join(self._channels) or 'camera'}, and "
            f"{n_z} depth{'s'[: n_z > 1]}"
        )
