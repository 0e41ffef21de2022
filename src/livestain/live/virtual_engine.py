"""The engine of other programs' runs: theirs, which also predicts, and exposes nothing for that."""

from __future__ import annotations

import logging
from collections.abc import Generator
from itertools import chain
from typing import TYPE_CHECKING, Any, Self

from pymmcore_plus.mda import SkipEvent
from useq import MDASequence

from livestain.errors import SequenceError
from livestain.live.engine import LiveEngine
from livestain.live.events import is_image
from livestain.live.foreign_run import BurstPlaces, hardware_events, has_virtual

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pymmcore_plus.mda import MDAEngine
    from pymmcore_plus.mda._engine import EventPayloadGenerator
    from pymmcore_plus.metadata import SummaryMetaV1
    from useq import MDAEvent

    from livestain.live.delivery import Payload
    from livestain.live.foreign_run import ForeignRun
    from livestain.live.installation import Installation

__all__ = ["VirtualEngine"]

_log = logging.getLogger(__name__)


class VirtualEngine(LiveEngine):
    """An engine that knows virtual channels; made by `livestain.install`, never by hand.

    Events of virtual channels are taken out before events are grouped into triggered bursts, so that bursts
    stay as they are without them and no image is taken for a prediction. Frames go out in the sequence's
    order, predictions at their places, as writers that append need them. Predictions are made when the burst
    or image that brings their last source is over and the light is off; what stands after them in the
    sequence's order waits in memory. How many frames that can be is found before the run starts, and
    refused beyond a limit.

    Frames of a burst are put in place by the camera's own numbers; a lost frame leaves its place empty, and
    so does what is predicted from it. A prediction that fails leaves its place empty, too: the run goes on,
    and its first error is raised when the last frame is out.

    A run that is cancelled still gives all that the camera took, without further predictions.
    """

    installation: Installation
    _run: ForeignRun | None

    @classmethod
    def over(cls, engine: MDAEngine, installation: Installation) -> Self:
        """Return an engine with all settings and abilities of another one, and those of this class.

        Parameters
        ----------
        engine : MDAEngine
            The program's own, perhaps of a class of its own.
        installation : Installation
            What to predict.
        """
        own = type(engine)
        kind = cls if issubclass(cls, own) else type(f"Virtual{own.__name__}", (cls, own), {})
        made: Self = object.__new__(kind)
        made.__dict__.update(engine.__dict__)
        made.installation = installation
        made._run = None
        return made

    def setup_sequence(self, sequence: MDASequence) -> SummaryMetaV1 | None:
        """Check the virtual channels and load their models before the hardware is set up.

        A sequence's own setup event comes before: it may change the camera's binning and region, and
        the objective.
        """
        self._run = run = None
        virtual = has_virtual(sequence, self.installation.spelling())
        if virtual and sequence.setup is None:
            run = self._prepare(sequence)
        summary = super().setup_sequence(sequence)
        if virtual and run is None:
            run = self._prepare(sequence)
        self._run = run
        if summary is not None and run is not None:
            said = self.installation.describe(run.channels)
            summary["extra"] = {**summary.get("extra", {}), "livestain": said}
        return summary

    def _prepare(self, sequence: MDASequence) -> ForeignRun:
        if size := self.mmcore.getPixelSizeUm():
            self._update_grid_fov_sizes(size, sequence)  # which say how many tiles a grid has
        return self.installation.prepare(sequence, super().event_iterator)

    def event_iterator(self, events: Iterable[MDAEvent]) -> Iterator[MDAEvent]:
        """Yield what the hardware has to do: single images, triggered bursts, autofocus."""
        spelling = self.installation.spelling()
        if not isinstance(events, MDASequence):
            events = list(events)
            if any(map(spelling.of_event, events)):
                self._run = self.installation.prepare(events, super().event_iterator)
        run = self._run
        if run is not None:
            run.darken = self._darken
        if run is None or run.source is not events:
            # Somebody asks how a sequence would be run.
            virtual = isinstance(events, MDASequence) and has_virtual(events, spelling)
            plain = hardware_events(events, spelling) if virtual else events
            yield from super().event_iterator(plain)
            return
        try:
            yield from super().event_iterator(run.hardware())
        except GeneratorExit:
            # The runner gives the events up where it is cancelled between two; its outputs are still open.
            try:
                self._send(run, run.delivery.drain())
            except Exception:
                _log.exception("Frames that waited for predictions did not go out")
            raise
        # Where the last events were skipped, nobody has asked for what waited for them.
        self._send(run, chain(run.delivery.ready(predict=True), run.delivery.drain()))
        if run.error is not None:
            raise run.error

    def _send(self, run: ForeignRun, payloads: Iterable[Payload | None]) -> None:
        """Give frames to outputs and signal as the runner does, where no event is left to give them by."""
        if run is not self._run:
            # It has ended by an error, long before its events are given up.
            return
        runner = self.mmcore.mda
        sink = getattr(runner, "_sink", None)
        for payload in payloads:
            if payload is None:
                if sink is not None:
                    sink.skip(frames=1)
                continue
            if sink is not None:
                sink.append(*payload)
            try:
                runner.events.frameReady.emit(*payload)
            except Exception:
                _log.exception("A listener of frameReady failed")

    def setup_event(self, event: MDAEvent) -> None:
        """Set up the hardware for an event of the camera."""
        run = self._run
        if run is None:
            if self.installation.spelling().of_event(event) is not None:
                raise SequenceError(
                    "This run gives its events one by one from an iterator, so nobody knows which "
                    "frames a prediction will need. Run a useq.MDASequence or a list of events, or "
                    "leave the virtual channels out."
                )
            super().setup_event(event)
            return
        try:
            super().setup_event(event)
        except SkipEvent as skipped:
            for key in run.keys(event):
                run.delivery.lose(key)
            # Their places are skipped in the sequence's order, with the next frames that go out.
            raise SkipEvent(0, skipped.reason) from skipped
        except Exception as error:
            if not run.delivery.held:
                raise
            run.failed = error  # the frames that wait go out first

    def exec_event(self, event: MDAEvent) -> EventPayloadGenerator:
        """Take an event's images, and give all that may go out now."""
        run = self._run
        if run is None:
            yield from super().exec_event(event)
        elif run.failed is not None:
            yield from run.delivery.drain()
            raise run.failed
        elif is_image(event):
            yield from self._deliver(run, event, iter(super().exec_event(event)))
        else:
            try:
                yield from super().exec_event(event)
            except Exception:
                yield from run.delivery.drain()
                raise

    def teardown_sequence(self, sequence: MDASequence) -> None:
        """Let go of the run's frames."""
        run, self._run = self._run, None
        if run is not None:
            self.installation.predictor.forget()
            if run.delivery.held:
                _log.error(
                    "The run broke off: %d frames that waited for predictions did not go out.",
                    run.delivery.held,
                )
        super().teardown_sequence(sequence)

    def _update_config_device_props(self) -> None:
        """Note the properties of each group's presets, of which pymmcore-plus (0.18) keeps the last one's."""
        super()._update_config_device_props()
        core, group = self.mmcore, self.installation.spelling().group
        if not group:
            return
        own = [p for p in core.getAvailableConfigs(group) if p not in self.installation.presets]
        if own:
            data = core.getConfigData(group, own[-1])
            self._config_device_props[group] = tuple({(s[0], s[1]): None for s in data})

    def _deliver(
        self, run: ForeignRun, event: MDAEvent, taken: Iterator[Any]
    ) -> EventPayloadGenerator:
        """Yield what may go out while an event's images are taken, and when they are."""
        places = BurstPlaces(run, event)
        error: Exception | None = None
        stopped, sent = False, None
        try:
            payload = next(taken, None)
            while True:
                if payload is not None:
                    run.delivery.arrive(*places.place(payload))
                    for out in run.delivery.ready(predict=False):
                        sent = (yield out) or sent
                # While frames wait, nobody tells this generator that the run is to stop: so ask.
                sent = "cancel" if sent == "cancel" or self._cancelled() else sent
                stopped = stopped or sent == "cancel"
                payload = taken.send(sent) if isinstance(taken, Generator) else next(taken)
                sent = None
        except StopIteration:
            pass
        except Exception as raised:
            error = raised
        places.end(stopped=stopped or error is not None)
        if not stopped and error is None:
            for out in run.delivery.ready(predict=True):
                if (yield out) == "cancel" or self._cancelled():
                    stopped = True
                    break
        if stopped or error is not None:
            yield from run.delivery.drain()
        if error is not None:
            raise error

    def _darken(self) -> None:
        """Close a shutter that was to stay open; the next image finds it as if it had never been so."""
        core = self.mmcore
        if self._autoshutter_was_set and core.getShutterDevice() and core.getShutterOpen():
            core.setShutterOpen(False)

    def _cancelled(self) -> bool:
        status = self.mmcore.mda.status
        return status.cancel_requested or status.phase == "finishing"
