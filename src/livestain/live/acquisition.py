"""The runner's part of a session: frames in their places, and a stop that is never forgotten."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from pymmcore_plus.mda import MDAEngine

from livestain.live.buffer import burst_buffer
from livestain.live.checks import check_idle
from livestain.live.core_facts import connect_direct
from livestain.live.events import fresh
from livestain.live.placing import FramePlacer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import useq
    from numpy.typing import NDArray
    from pymmcore_plus import CMMCorePlus

    from livestain.planes import PlaneIndex

__all__ = ["Acquisition"]

_AT_ONCE_S = 1e-3
"""Start times no farther apart are those of a plan without times (`livestain.live.lockstep`)."""


class Acquisition:
    """One run of a sequence by pymmcore-plus' runner, which is told what it does not know.

    The runner forgets a cancel that meets it between two events, labels the frames of a burst in the order
    of their arrival, and says nothing of an event that began late.

    Parameters
    ----------
    core : CMMCorePlus
        The microscope.
    on_frame : callable
        Called as the runner's `frameReady` is, on the acquisition thread. It asks `place` where the frame
        belongs.
    on_lost, on_uncertain : callable
        See `FramePlacer`.
    """

    def __init__(
        self,
        core: CMMCorePlus,
        *,
        on_frame: Callable[[NDArray[Any], useq.MDAEvent, Mapping[str, Any]], None],
        on_lost: Callable[[PlaneIndex, str], None],
        on_uncertain: Callable[[PlaneIndex, str], None],
    ) -> None:
        self._core = core
        self._on_frame = on_frame
        self._placer = FramePlacer(on_lost, on_uncertain)
        self._running = threading.Event()
        self._cancelled = threading.Event()
        self._broken = threading.Event()
        self._planned_s: float | None = None
        self._late_ms: float | None = None

    @property
    def cancelled(self) -> bool:
        """Whether the user stopped it, here or in another program on the same core."""
        return self._cancelled.is_set()

    @property
    def stopping(self) -> bool:
        """Whether it was cancelled or broke off."""
        return self._cancelled.is_set() or self._broken.is_set()

    def cancel(self) -> None:
        """Stop as the user wishes; from any thread, at any time."""
        self._cancelled.set()
        self._stop_runner()

    def break_off(self) -> None:
        """Stop because of an error."""
        self._broken.set()
        self._stop_runner()

    def run(
        self, sequence: useq.MDASequence, decided: Iterable[useq.MDAEvent] | None = None
    ) -> None:
        """Run to the end.

        Parameters
        ----------
        sequence : useq.MDASequence
            What is run, or, where events are given, what a time point of them may have.
        decided : iterator of useq.MDAEvent, optional
            Events that are decided while the run goes on.

        Raises
        ------
        Exception
            What the engine or the hardware raised.
        """
        events = self._core.mda.events
        slots: list[tuple[Any, Callable[..., None]]] = [
            (events.frameReady, self._on_frame),
            (events.sequenceStarted, self._cancel_again),
            (events.eventStarted, self._on_event),
            (events.sequenceCanceled, self._on_canceled),
        ]
        for signal, slot in slots:
            connect_direct(signal, slot)
        try:
            check_idle(self._core)  # since it was checked first, the model took seconds to warm
            if not self.cancelled:
                with burst_buffer(self._core, sequence):
                    self._running.set()
                    self._core.mda.run(
                        fresh(sequence) if decided is None else self._set_up(sequence, decided)
                    )
        finally:
            # Also after an error: it may be the burst under way that failed, short of frames.
            self._placer.end(stopped=self.stopping)
            self._running.clear()
            for signal, slot in slots:
                signal.disconnect(slot)

    def _set_up(
        self, sequence: useq.MDASequence, decided: Iterable[useq.MDAEvent]
    ) -> Iterator[useq.MDAEvent]:
        """Yield events, after the setup of their sequence, which the runner does not see with them."""
        engine = self._core.mda.engine
        if sequence.setup is not None and isinstance(engine, MDAEngine):
            engine.setup_single_event(sequence.setup)
        yield from decided

    def place(
        self, event: useq.MDAEvent, meta: Mapping[str, Any]
    ) -> tuple[PlaneIndex, dict[str, float]]:
        """Return where a frame belongs, and what else is known of it: `late_ms` of a first one."""
        index = self._placer.place(event, meta)
        late, self._late_ms = self._late_ms, None
        return index, {} if late is None else {"late_ms": late}

    def _on_event(self, event: useq.MDAEvent) -> None:
        self._placer.begin(event)
        # Of a time point's events the first alone can be late; the others follow it.
        planned = event.min_start_time
        if planned is not None and planned != self._planned_s:
            # Time points that follow as fast as it goes have no time to be late for.
            if self._planned_s is None or abs(planned - self._planned_s) > _AT_ONCE_S:
                late_s = self._core.mda.event_seconds_elapsed() - planned
                self._late_ms = round(1e3 * max(late_s, 0.0), 3)
            self._planned_s = planned
        self._cancel_again()

    def _cancel_again(self, *_: object) -> None:
        """Repeat a cancel that the runner forgot: one between two events, or before the first."""
        if self.stopping:
            self._stop_runner()

    def _on_canceled(self, *_: object) -> None:
        """Note that the user stopped it in another program, on the same core."""
        if not self._broken.is_set():
            self._cancelled.set()

    def _stop_runner(self) -> None:
        """Cancel our own acquisition; never one that somebody else runs on the core."""
        if self._running.is_set():
            self._core.mda.cancel()
