"""The engine of live runs: pymmcore-plus' own, which tells a showing camera what it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pymmcore_plus.core._sequencing import SequencedEvent
from pymmcore_plus.mda import MDAEngine

from livestain.live.events import is_image

if TYPE_CHECKING:
    from pymmcore_plus.mda._engine import EventPayloadGenerator
    from pymmcore_plus.metadata import FrameMetaV1, SummaryMetaV1
    from useq import MDAEvent, MDASequence

__all__ = ["LiveEngine"]


class LiveEngine(MDAEngine):
    """pymmcore-plus' engine, and two things more.

    A camera with a method ``expect`` (see `livestain.live.camera.ShowingCamera`) is told which events
    its next exposures are of, so that what it shows depends on the event and not on a count. And
    frames of snaps carry the camera's metadata under ``camera_metadata``, as those of bursts do.
    """

    def setup_sequence(self, sequence: MDASequence) -> SummaryMetaV1 | None:
        """Set up the hardware for a run, and let the camera forget the one before."""
        camera = self._showing_camera()
        if camera is not None:
            camera.begin_run()
        return super().setup_sequence(sequence)

    def setup_event(self, event: MDAEvent) -> None:
        """Set up the hardware, and tell the camera what comes."""
        super().setup_event(event)
        self._tell(event)

    def exec_sequenced_event(self, event: SequencedEvent) -> EventPayloadGenerator:
        """Run a burst; what its camera could not show is raised after the frames it could."""
        camera = self._showing_camera()
        if camera is not None:
            camera.error = None
        yield from super().exec_sequenced_event(event)
        if camera is not None and camera.error is not None:
            raise camera.error

    def teardown_sequence(self, sequence: MDASequence) -> None:
        """Let the camera forget, so that snaps after the run are of no event."""
        camera = self._showing_camera()
        if camera is not None:
            camera.expect(())
        super().teardown_sequence(sequence)

    def get_frame_metadata(self, event: MDAEvent, *args: Any, **kwargs: Any) -> FrameMetaV1:
        """Return the frame's metadata, with the camera's own."""
        meta = super().get_frame_metadata(event, *args, **kwargs)
        camera = self._showing_camera()
        if camera is not None:
            # In a burst the camera runs ahead; the engine replaces this by the frame's own.
            meta["camera_metadata"] = dict(camera.last_metadata)
        return meta

    def _tell(self, event: MDAEvent) -> None:
        camera = self._showing_camera()
        if camera is None:
            return
        events = event.events if isinstance(event, SequencedEvent) else (event,)
        camera.expect([e for e in events if is_image(e)])

    def _showing_camera(self) -> Any:
        """Return the core's camera if it is one that has to be told, else None."""
        core = self.mmcore
        camera = getattr(core, "camera", None)
        if camera is None or not hasattr(camera, "expect"):
            return None
        return camera if camera.get_label() == core.getCameraDevice() else None
